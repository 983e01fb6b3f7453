"""`selective_scan`: validate, choose an implementation, call it."""

from __future__ import annotations

from jaxtyping import Bool, Float, Inexact
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.dispatch import (
    Implementation,
    Options,
    choose,
    cuda_obstacle,
    no_obstacle,
    numba_obstacle,
)
from seqmamba.ops.selective_scan import upstream
from seqmamba.ops.selective_scan.chunked import selective_scan_chunked
from seqmamba.ops.selective_scan.reference import selective_scan_reference
from seqmamba.ops.selective_scan.registration import selective_scan_cuda, selective_scan_kernels
from seqmamba.ops.validation import check_axes, check_reset, check_shape, check_tensors

_NAME = "selective_scan"

# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "cuda",
        "CUDA C++ kernels compiled at first use, forward and backward, in float32",
        selective_scan_cuda,
        cuda_obstacle,
        hint='use impl="auto" or impl="chunked"; `seqmamba doctor` says what this machine has',
    ),
    Implementation(
        "numba",
        "vectorised CPU kernels, forward and backward, in float32",
        selective_scan_kernels,
        numba_obstacle,
        hint='use impl="auto" or impl="chunked"',
    ),
    Implementation(
        "chunked",
        "vectorised PyTorch, any device and dtype, complex A included",
        selective_scan_chunked,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "reference",
        "one step at a time in PyTorch, any device and dtype: the specification",
        selective_scan_reference,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "mamba_ssm",
        "the CUDA kernels of mamba-ssm, for comparison; the backward is not repeatable",
        upstream.selective_scan_upstream,
        upstream.upstream_obstacle,
        hint=upstream.HINT,
        limits=upstream.upstream_limits,
        automatic=False,
    ),
)


def selective_scan(
    u: Float[Tensor, "batch length dim"],
    delta: Float[Tensor, "batch length dim"],
    A: Inexact[Tensor, "dim state"],
    B: Inexact[Tensor, "batch length *groups state"],
    C: Inexact[Tensor, "batch length *groups state"],
    D: Float[Tensor, " dim"] | None = None,
    z: Float[Tensor, "batch length dim"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    *,
    delta_softplus: bool = False,
    initial_state: Inexact[Tensor, "batch dim state"] | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
) -> (
    Float[Tensor, "batch length dim"]
    | tuple[Float[Tensor, "batch length dim"], Inexact[Tensor, "batch dim state"]]
):
    """Run the selective state space recurrence of Mamba over a sequence.

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,  y_t = (C_t . h_t + D u_t) silu(z_t)
    (Mamba, https://arxiv.org/abs/2312.00752, section 3.2). With complex A the state is complex and
    y_t = (2 Re(C_t . h_t) + D u_t) silu(z_t), as in S4D.

    Gradients flow through every tensor argument except `reset`, and through the final state. Floating dtypes
    may be mixed; states and sums are float32 (float64 if any argument is).

    Args:
        u: Input.
        delta: Step size, before bias and softplus.
        A: State matrix, diagonal: real, or complex for LTI-style use.
        B: Input projection, (batch, length, state) or (batch, length, groups, state); groups divide dim.
        C: Output projection, shaped as B.
        D: Skip weight.
        z: Gate.
        delta_bias: Added to delta.
        delta_softplus: Whether delta goes through softplus, after its bias.
        initial_state: State before the first processed step, zeros if None.
        return_final_state: Also return the state after the last processed step.
        reverse: Scan from right to left: `initial_state` enters at the right end and the final state is that
            of t=0.
        reset: True where a new packed sequence starts. Left to right the state is dropped on entering such a
            position; right to left on leaving it, so one mask serves both directions. Right padding becomes a
            sequence of its own by one reset at the true length. (The boundary before t=0 lies outside the
            call: in reverse, the final state of a sequence that starts at t=0 is returned as it is.)
        impl: "auto", "cuda", "numba", "chunked", "reference" or "mamba_ssm"; see `seqmamba.ops.explain`.

    Returns:
        y in u's dtype; with `return_final_state` also the final state.

    Raises:
        UserError: A shape, dtype or device does not fit, or the named `impl` cannot run.
    """
    B, C = B[:, :, None] if B.ndim == 3 else B, C[:, :, None] if C.ndim == 3 else C
    validate(u, delta, A, B, C, D, z, delta_bias, initial_state, reset)
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    implementation = choose(_NAME, IMPLEMENTATIONS, impl, tensors, Options(reverse, reset is not None))
    y, final_state = implementation.run(*tensors, reset, delta_softplus, reverse)
    return (y, final_state) if return_final_state else y


def validate(
    u: Tensor,
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
    """Check the arguments of `selective_scan`, B and C with their group axis."""
    check_axes(_NAME, "u", u, ("batch", "length", "dim"))
    check_axes(_NAME, "A", A, ("dim", "state"))
    check_axes(_NAME, "B", B, ("batch", "length", "groups", "state"))
    (batch, length, dim), n_state, groups = u.shape, A.shape[1], B.shape[2]
    sequence, channel = {"batch": batch, "length": length, "dim": dim}, {"dim": dim}
    projection = {"batch": batch, "length": length, "groups": groups, "state": n_state}
    check_shape(_NAME, "delta", delta, sequence)
    check_shape(_NAME, "A", A, {"dim": dim, "state": n_state})
    check_shape(_NAME, "B", B, projection)
    check_shape(_NAME, "C", C, projection)
    if dim % groups:
        raise UserError(f"{_NAME}: the groups of B and C must divide dim={dim}, got {groups}")
    if D is not None:
        check_shape(_NAME, "D", D, channel)
    if z is not None:
        check_shape(_NAME, "z", z, sequence)
    if delta_bias is not None:
        check_shape(_NAME, "delta_bias", delta_bias, channel)
    if initial_state is not None:
        check_shape(_NAME, "initial_state", initial_state, {"batch": batch, "dim": dim, "state": n_state})
    check_reset(_NAME, reset, batch, length)
    named = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    complex_allowed = ("A", "B", "C", "initial_state") if A.is_complex() else ()
    check_tensors(_NAME, {**named, "initial_state": initial_state}, complex_allowed)
