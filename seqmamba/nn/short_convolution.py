"""The short causal convolution of a layer that holds its weights as a Conv1d, under their published names."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.ops import causal_conv1d


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

    Returns:
        The output, and the new state (``None`` unless asked for).
    """
    result = causal_conv1d(
        x,
        conv1d.weight.squeeze(1),
        conv1d.bias,
        activation=activation,
        initial_state=state,
        return_final_state=return_state,
        reverse=reverse,
        reset=reset,
        impl=impl,
    )
    return (result, None) if isinstance(result, Tensor) else result
