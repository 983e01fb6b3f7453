"""`causal_conv1d`: validate, choose an implementation, call it."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.causal_conv1d import upstream
from seqmamba.ops.causal_conv1d.chunked import causal_conv1d_chunked
from seqmamba.ops.causal_conv1d.reference import causal_conv1d_reference
from seqmamba.ops.causal_conv1d.registration import causal_conv1d_registered
from seqmamba.ops.dispatch import (
    Implementation,
    Options,
    choose,
    no_obstacle,
    numba_obstacle,
    triton_obstacle,
)
from seqmamba.ops.validation import check_axes, check_reset, check_shape, check_tensors

_NAME = "causal_conv1d"

# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "triton",
        "kernels for NVIDIA GPUs, forward and backward, in float32",
        causal_conv1d_registered,
        triton_obstacle,
        hint='move the tensors to an NVIDIA GPU, or use impl="auto"',
    ),
    Implementation(
        "numba",
        "vectorised CPU kernels, forward and backward, in float32",
        causal_conv1d_registered,
        numba_obstacle,
        hint='use impl="auto" or impl="chunked"',
    ),
    Implementation(
        "chunked",
        "vectorised PyTorch, any device and dtype, one tap at a time",
        causal_conv1d_chunked,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "reference",
        "one step at a time in PyTorch, any device and dtype: the specification",
        causal_conv1d_reference,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "causal_conv1d",
        "the CUDA kernels of the package causal-conv1d, for comparison",
        upstream.causal_conv1d_upstream,
        upstream.upstream_obstacle,
        hint=upstream.HINT,
        limits=upstream.upstream_limits,
        automatic=False,
    ),
)


def causal_conv1d(
    x: Float[Tensor, "batch length dim"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    *,
    activation: str | None = None,
    initial_state: Float[Tensor, "batch past dim"] | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
) -> (
    Float[Tensor, "batch length dim"]
    | tuple[Float[Tensor, "batch length dim"], Float[Tensor, "batch past dim"]]
):
    """Convolve every channel with its own short causal filter.

    y_t = activation(bias + sum_k weight[k] x_{t - (width-1) + k}); x_{t + (width-1) - k} with `reverse`.
    Inputs before the first processed one come from `initial_state`, zeros if None. Gradients flow through
    every tensor argument except `reset`, and through the final state.

    Args:
        x: Input.
        weight: One filter a channel; the last tap multiplies the current input.
        bias: Added before the activation.
        activation: None or "silu".
        initial_state: (batch, width-1, dim): the last width-1 inputs in processing order, latest last.
        return_final_state: Also return the state to continue from.
        reverse: Process from right to left: `initial_state` lies beyond the right end and the final state
            holds the leftmost inputs.
        reset: True where a new packed sequence starts; taps never reach across such a boundary, in either
            direction.
        impl: "auto", "numba", "chunked", "reference" or "causal_conv1d"; see `seqmamba.ops.explain`.

    Returns:
        y in x's dtype; with `return_final_state` also the state (batch, width-1, dim), float32 (float64 if
        any argument is), in which inputs cut off by a reset are zero.

    Raises:
        UserError: A shape, dtype or device does not fit, or the named `impl` cannot run.
    """
    check_axes(_NAME, "x", x, ("batch", "length", "dim"))
    check_axes(_NAME, "weight", weight, ("dim", "width"))
    (batch, length, dim), width = x.shape, weight.shape[1]
    check_shape(_NAME, "weight", weight, {"dim": dim, "width": width})
    if bias is not None:
        check_shape(_NAME, "bias", bias, {"dim": dim})
    if initial_state is not None:
        check_shape(_NAME, "initial_state", initial_state, {"batch": batch, "width-1": width - 1, "dim": dim})
    check_reset(_NAME, reset, batch, length)
    named = {"x": x, "weight": weight, "bias": bias, "initial_state": initial_state}
    check_tensors(_NAME, named, complex_allowed=())
    if activation not in (None, "silu"):
        raise UserError(f'{_NAME}: activation must be None or "silu", got {activation!r}')

    tensors = (x, weight, bias, initial_state)
    implementation = choose(_NAME, IMPLEMENTATIONS, impl, tensors, Options(reverse, reset is not None))
    y, final_state = implementation.run(*tensors, reset, activation == "silu", reverse)
    return (y, final_state) if return_final_state else y
