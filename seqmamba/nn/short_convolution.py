"""The short causal convolution of a layer that holds its weights as a Conv1d, under their published names."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.distributed import ContextGroup, causal_conv1d
from seqmamba.errors import UserError


def convolve_causally(
    conv1d: nn.Conv1d,
    x: Float[Tensor, "batch length dim"],
    *,
    activation: str | None = "silu",
    state: Float[Tensor, "batch past dim"] | None = None,
    return_state: bool = False,
    reverse: bool = False,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
    rate: float = 1.0,
    context: ContextGroup | None = None,
) -> tuple[Float[Tensor, "batch length dim"], Float[Tensor, "batch past dim"] | None]:
    """Run the convolution along the length; the module's own forward is not used.

    Args:
        conv1d: Depthwise, ``groups`` equal to the channels.
        x: Input.
        activation: ``silu`` or ``None``.
        state: The last ``width - 1`` inputs before this chunk; ``None`` is zero.
        return_state: Whether to return those before the next chunk.
        reverse: Whether to run right to left.
        reset: True where a new packed sequence starts.
        impl: Implementation of the operator.
        rate: Training sampling rate over the input's; the taps stay where they were in time.
        context: The ranks that share out the sequence; see `seqmamba.distributed`.

    Returns:
        The output, and the new state (``None`` unless asked for).

    Raises:
        UserError: If a state meets a rate below 1, at which the convolution would need a longer one.
    """
    weight = conv1d.weight.squeeze(1)
    if rate != 1:
        if rate < 1 and (state is not None or return_state):
            raise UserError(f"rate: expected at least 1 where a state is carried, got {rate}")
        weight = taps_at_rate(weight, rate)
    result = causal_conv1d(
        x,
        weight,
        conv1d.bias,
        context=context,
        activation=activation,
        initial_state=state,
        return_final_state=return_state,
        reverse=reverse,
        reset=reset,
        impl=impl,
    )
    return (result, None) if isinstance(result, Tensor) else result


def taps_at_rate(weight: Float[Tensor, "dim width"], rate: float) -> Float[Tensor, "dim taps"]:
    """Return the kernel that does at another sampling rate what this one did at that of the training.

    A tap reaches back a fixed time. Where that falls between two samples of the input, the tap is shared out
    to both as linear interpolation would read them, so that a constant input gives the same output.

    Args:
        weight: Kernel of a causal convolution, the newest sample last.
        rate: Training sampling rate over the input's.

    Returns:
        The kernel for the input's rate; it is as wide as the given one, or wider for a rate below 1.

    Raises:
        UserError: If the rate is not a positive number.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"rate: expected a positive number, got {rate}")
    width = weight.shape[1]
    taps = max(width, math.ceil((width - 1) / rate) + 1)
    back = torch.arange(width - 1, -1, -1, device=weight.device) / rate  # in samples of the input
    at = torch.arange(taps - 1, -1, -1, device=weight.device)
    share = (1 - (back[:, None] - at).abs()).clamp(min=0)
    return weight @ share.to(weight.dtype)
