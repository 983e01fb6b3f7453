"""`lti` and `bidirectional_lti`: validate, choose an implementation, call it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from seqmamba.ops.dispatch import Implementation, Options, choose, no_obstacle
from seqmamba.ops.lti.chunked import lti_chunked
from seqmamba.ops.lti.discretisation import lti_discretise
from seqmamba.ops.lti.fft import lti_fft
from seqmamba.ops.lti.reference import lti_reference
from seqmamba.ops.lti.states import Directions
from seqmamba.ops.lti.validation import check_signal, check_system
from seqmamba.ops.selective_scan.reference import compute_dtype, finish, widen

# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "fft",
        "one convolution by Fourier transforms, any device and dtype",
        lti_fft,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "chunked",
        "matrix products in blocks, states between them, any device and dtype",
        lti_chunked,
        no_obstacle,
        hint="",
    ),
    Implementation(
        "reference",
        "one step at a time in PyTorch, any device and dtype: the specification",
        lti_reference,
        no_obstacle,
        hint="",
    ),
)


def lti(
    u: Float[Tensor, "batch length dim"],
    delta: Float[Tensor, " dim"],
    A: Complex[Tensor, "dim state"],
    B: Complex[Tensor, "dim state"],
    C: Complex[Tensor, "dim state"],
    D: Float[Tensor, " dim"] | None = None,
    *,
    P: Complex[Tensor, "dim state"] | None = None,
    discretisation: str = "zoh",
    rate: float = 1.0,
    initial_state: Complex[Tensor, "batch dim state"] | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
) -> (
    Float[Tensor, "batch length dim"]
    | tuple[Float[Tensor, "batch length dim"], Complex[Tensor, "batch dim state"]]
):
    """Run a linear time-invariant state space, one for each channel, over a whole sequence.

    x' = (A - P P^*) x + B u discretised by `lti_discretise`, y_t = 2 Re(C . x_t) + D u_t: of states in
    conjugate pairs one half is stored (S4D, section 3.3). Without P this is S4D, with it S4.

    Gradients flow through every tensor argument except `reset`, and through the final state. States and sums
    are float32 and complex64 (float64 and complex128 if any argument is that wide). Powers of the system are
    computed in float64, so that its phase is right after a million steps; nothing of size length x state is
    ever made.

    Args:
        u: Input.
        delta: Step size of each channel, positive.
        A: Diagonal of the state matrix, real parts not above zero.
        B: Input projection.
        C: Output projection.
        D: Skip weight.
        P: The rank-one part of the state matrix; it acts on the whole state, conjugates included.
        discretisation: "zoh" or "bilinear".
        rate: Multiplies delta: 2 where the input has half the samples a second.
        initial_state: State before the first processed step, zeros if None.
        return_final_state: Also return the state after the last processed step.
        reverse: Run from right to left: `initial_state` enters at the right end and the final state is that
            of t=0.
        reset: True where a new packed sequence starts, for both directions as in `selective_scan`.
        impl: "auto", "fft", "chunked" or "reference"; see `seqmamba.ops.explain`.

    Returns:
        y in u's dtype; with `return_final_state` also the final state.

    Raises:
        UserError: A shape, dtype, device or option does not fit.
    """
    check_system("lti", delta, A, B, P, discretisation, rate)
    check_signal("lti", u, A, C, D, initial_state, reset)
    tensors = (u, delta, A, B, C, D, P, initial_state)
    implementation = choose("lti", IMPLEMENTATIONS, impl, tensors, Options(reverse, reset is not None))
    directions: Directions = "reverse" if reverse else "forward"
    flags = (discretisation, rate, directions, return_final_state)
    y, final_state = _run(implementation, tensors[:4], C[None], D, P, initial_state, reset, *flags)
    return (y, final_state) if return_final_state else y


def bidirectional_lti(
    u: Float[Tensor, "batch length dim"],
    delta: Float[Tensor, " dim"],
    A: Complex[Tensor, "dim state"],
    B: Complex[Tensor, "dim state"],
    C: Complex[Tensor, "2 dim state"],
    D: Float[Tensor, " dim"] | None = None,
    *,
    P: Complex[Tensor, "dim state"] | None = None,
    discretisation: str = "zoh",
    rate: float = 1.0,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
) -> Float[Tensor, "batch length dim"]:
    """Run one state space from left to right and from right to left and add what two projections read out.

    The same as ``lti(u, ..., C[0], D) + lti(u, ..., C[1], reverse=True)`` (Goel et al. 2022,
    https://arxiv.org/abs/2202.09729, section 4), at the price of one: both kernels are one on the circle.

    Args:
        u: Input.
        delta: As `lti` takes it.
        A: As `lti` takes it.
        B: As `lti` takes it.
        C: Output projections of the two directions, left to right first.
        D: Skip weight, counted once.
        P: As `lti` takes it.
        discretisation: "zoh" or "bilinear".
        rate: Multiplies delta.
        reset: True where a new packed sequence starts.
        impl: "auto", "fft", "chunked" or "reference".

    Returns:
        The sum in u's dtype.

    Raises:
        UserError: A shape, dtype, device or option does not fit.
    """
    check_system("bidirectional_lti", delta, A, B, P, discretisation, rate)
    check_signal("bidirectional_lti", u, A, C, D, None, reset, directions=2)
    tensors = (u, delta, A, B, C, D, P)
    options = Options(reset=reset is not None)
    implementation = choose("bidirectional_lti", IMPLEMENTATIONS, impl, tensors, options)
    y, _ = _run(implementation, tensors[:4], C, D, P, None, reset, discretisation, rate, "both", False)
    return y


def _run(
    implementation: Implementation,
    continuous: tuple[Tensor, Tensor, Tensor, Tensor],
    C: Tensor,
    D: Tensor | None,
    P: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    discretisation: str,
    rate: float,
    directions: Directions,
    return_final_state: bool,
) -> tuple[Tensor, Any]:
    """Discretise, run and add the skip, all of it in the dtype of the sums."""
    u, delta, A, B = continuous
    dtype = compute_dtype(u, delta, A, B, C, D, P, initial_state)
    # autocast would round the operands of the products, and with them the states
    with torch.autocast(u.device.type, enabled=False):
        system = lti_discretise(delta, A, B, P=P, discretisation=discretisation, rate=rate, dtype=dtype)
        x, state = u.to(dtype), None if initial_state is None else widen(initial_state, dtype)
        y, final_state = implementation.run(
            x, system, widen(C, dtype), state, reset, directions, return_final_state
        )
        return finish(y, x, D, None, u.dtype), final_state
