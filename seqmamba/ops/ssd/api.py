"""`ssd`: validate, choose an implementation, call it."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.dispatch import Implementation, Options, choose, no_obstacle, triton_obstacle
from seqmamba.ops.ssd.chunked import ssd_chunked
from seqmamba.ops.ssd.reference import ssd_reference
from seqmamba.ops.ssd.registration import ssd_triton
from seqmamba.ops.ssd.tiles import LARGEST_HEAD_DIM, LARGEST_STATE
from seqmamba.ops.validation import check_axes, check_reset, check_shape, check_tensors

_NAME = "ssd"


def _triton_obstacle(*tensors: Tensor | None) -> str | None:
    """Say why the Triton kernels cannot run on these tensors: x first, B fourth."""
    obstacle = triton_obstacle(*tensors)
    if obstacle is not None:
        return obstacle
    x, B = tensors[0], tensors[3]
    if x is not None and x.shape[-1] > LARGEST_HEAD_DIM:
        return f"it takes a head_dim of at most {LARGEST_HEAD_DIM} and x has {x.shape[-1]}"
    if B is not None and B.shape[-1] > LARGEST_STATE:
        return f"it takes a state of at most {LARGEST_STATE} and B has {B.shape[-1]}"
    return None


# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "triton",
        "fused GPU kernels on the matrix units, forward and backward, states in float32",
        ssd_triton,
        _triton_obstacle,
        hint='use impl="auto" or impl="chunked"',
    ),
    Implementation(
        "chunked",
        "matrix products in PyTorch, any device and dtype",
        ssd_chunked,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "reference",
        "one step at a time in PyTorch, any device and dtype: the specification",
        ssd_reference,
        no_obstacle,
        hint="",
    ),
)


def ssd(
    x: Float[Tensor, "batch length heads head_dim"],
    delta: Float[Tensor, "batch length heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch length *groups state"],
    C: Float[Tensor, "batch length *groups state"],
    D: Float[Tensor, "heads ..."] | None = None,
    z: Float[Tensor, "batch length heads head_dim"] | None = None,
    delta_bias: Float[Tensor, " heads"] | None = None,
    *,
    delta_softplus: bool = False,
    chunk_size: int = 256,
    initial_state: Float[Tensor, "batch heads head_dim state"] | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
) -> (
    Float[Tensor, "batch length heads head_dim"]
    | tuple[Float[Tensor, "batch length heads head_dim"], Float[Tensor, "batch heads head_dim state"]]
):
    """Run the state space recurrence of Mamba-2, one decay a head, by matrix products.

    h_t = exp(delta_t A) h_{t-1} + delta_t x_t B_t^T,  y_t = (h_t C_t + D x_t) silu(z_t)
    (Mamba-2, https://arxiv.org/abs/2405.21060, sections 2 and 6). It equals `selective_scan` with one A and
    one delta for all channels and states of a head.

    Gradients flow through every tensor argument except `reset`, and through the final state. Floating dtypes
    may be mixed; states and sums are float32 (float64 if any argument is). On a GPU the operands of the
    matrix products are in the dtype of x, B and C if these agree, and in float32 otherwise.

    Args:
        x: Input.
        delta: Step size, before bias and softplus.
        A: Decay rate of each head, negative.
        B: Input projection, (batch, length, state) or (batch, length, groups, state); groups divide heads.
        C: Output projection, shaped as B.
        D: Skip weight, for each head or each channel.
        z: Gate.
        delta_bias: Added to delta.
        delta_softplus: Whether delta goes through softplus, after its bias.
        chunk_size: Steps that the "chunked" implementation multiplies at once; its memory grows with it. The
            result does not depend on it, and the GPU kernels choose their own tiles.
        initial_state: State before the first processed step, zeros if None.
        return_final_state: Also return the state after the last processed step.
        reverse: Run from right to left: `initial_state` enters at the right end and the final state is that
            of t=0.
        reset: True where a new packed sequence starts, for both directions as in `selective_scan`. All steps
            must be finite, padding too: a product of matrices takes NaN and infinity across a reset.
        impl: "auto", "triton", "chunked" or "reference"; see `seqmamba.ops.explain`.

    Returns:
        y in x's dtype; with `return_final_state` also the final state.

    Raises:
        UserError: A shape, dtype, device or size does not fit, or the named `impl` cannot run.
    """
    B, C = B[:, :, None] if B.ndim == 3 else B, C[:, :, None] if C.ndim == 3 else C
    _validate(x, delta, A, B, C, D, z, delta_bias, initial_state, reset)
    if chunk_size < 1:
        raise UserError(f"{_NAME}: chunk_size must be at least 1, got {chunk_size}")
    tensors = (x, delta, A, B, C, D, z, delta_bias, initial_state)
    implementation = choose(_NAME, IMPLEMENTATIONS, impl, tensors, Options(reverse, reset is not None))
    y, final_state = implementation.run(*tensors, reset, delta_softplus, reverse, chunk_size)
    return (y, final_state) if return_final_state else y


def _validate(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
) -> None:
    """Check the arguments of `ssd`, B and C with their group axis."""
    check_axes(_NAME, "x", x, ("batch", "length", "heads", "head_dim"))
    check_axes(_NAME, "B", B, ("batch", "length", "groups", "state"))
    (batch, length, heads, head_dim), (groups, n_state) = x.shape, B.shape[2:]
    sequence = {"batch": batch, "length": length}
    channels = {"heads": heads, "head_dim": head_dim}
    check_shape(_NAME, "delta", delta, {**sequence, "heads": heads})
    check_shape(_NAME, "A", A, {"heads": heads})
    check_shape(_NAME, "B", B, {**sequence, "groups": groups, "state": n_state})
    check_shape(_NAME, "C", C, {**sequence, "groups": groups, "state": n_state})
    if heads % groups:
        raise UserError(f"{_NAME}: the groups of B and C must divide heads={heads}, got {groups}")
    if D is not None:
        check_shape(_NAME, "D", D, {"heads": heads} if D.ndim == 1 else channels)
    if z is not None:
        check_shape(_NAME, "z", z, {**sequence, **channels})
    if delta_bias is not None:
        check_shape(_NAME, "delta_bias", delta_bias, {"heads": heads})
    if initial_state is not None:
        check_shape(_NAME, "initial_state", initial_state, {"batch": batch, **channels, "state": n_state})
    check_reset(_NAME, reset, batch, length)
    named = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    check_tensors(_NAME, {**named, "initial_state": initial_state}, complex_allowed=())
    if reset is not None and reset.device != x.device:
        raise UserError(
            f"{_NAME}: reset must be on {x.device} like x, got {reset.device}",
            hint="move the tensors to one device",
        )
