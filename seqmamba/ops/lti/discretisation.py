"""From continuous to discrete time, by zero-order hold or the bilinear transform."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from seqmamba.ops.lti.real_view import accurate_dtype, as_complex, as_real, as_row, diagonal_matrix
from seqmamba.ops.lti.validation import check_system
from seqmamba.ops.selective_scan.reference import compute_dtype, widen


class LtiSystem(NamedTuple):
    """A discrete system x_t = transition x_{t-1} + drive u_t, a system of its own for each channel.

    Attributes:
        transition: Complex (dim, state) where the matrix is diagonal; else real (dim, 2 state, 2 state), a
            matrix on the interleaved real and imaginary parts of the state.
        drive: Complex (dim, state).
    """

    transition: Inexact[Tensor, "dim ..."]
    drive: Complex[Tensor, "dim state"]


def lti_discretise(
    delta: Float[Tensor, " dim"],
    A: Complex[Tensor, "dim state"],
    B: Complex[Tensor, "dim state"],
    *,
    P: Complex[Tensor, "dim state"] | None = None,
    discretisation: str = "zoh",
    rate: float = 1.0,
    dtype: torch.dtype | None = None,
) -> LtiSystem:
    """Discretise x' = (A - P P^*) x + B u, where the conjugate half of state, A, B and P is left implicit.

    - ``zoh`` (input constant during a step): ``exp(delta A)`` and ``A^-1 (exp(delta A) - 1) B``; with P the
      matrix exponential of the dense system of each channel, 2 state + 1 numbers square.
    - ``bilinear`` (S4, section 2.3): ``(1 - delta A / 2)^-1 (1 + delta A / 2)`` and
      ``(1 - delta A / 2)^-1 delta B``; with P by the Woodbury identity (S4, appendix C.2), which leaves the
      transition a diagonal less a rank one.

    All of it is computed in float64 and then rounded once. Every mode starts from the rounded system, so that
    they agree over any length: an error of 1e-8 in the transition is an error of 1e-2 in phase 10^6 steps on.

    Args:
        delta: Step size of each channel, positive.
        A: Diagonal, real parts not above zero.
        B: Input projection.
        P: What A lacks to the full matrix.
        discretisation: "zoh" or "bilinear".
        rate: Multiplies delta: 2 where the input has half the samples a second.
        dtype: Real dtype of the result: float32, or float64; by default float64 if any argument is.

    Returns:
        The discrete system; gradients flow through it.

    Raises:
        UserError: A shape, dtype, device or option does not fit.
    """
    check_system("lti_discretise", delta, A, B, P, discretisation, rate)
    dtype = compute_dtype(delta, A, B, P) if dtype is None else dtype
    wide = accurate_dtype(A.device)
    step = delta.to(wide)[:, None] * rate
    A, B = widen(A, wide), widen(B, wide)
    if P is None:
        transition, drive = _DIAGONAL[discretisation](step, A, B)
    else:
        transition, drive = _LOW_RANK[discretisation](step, A, B, widen(P, wide))
    return LtiSystem(widen(transition, dtype), widen(drive, dtype))


def _zoh(step: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    z = step * A
    still = z == 0  # an integrator: the limit of expm1(z) / z is 1
    mean = torch.where(still, 1, torch.expm1(z) / torch.where(still, 1, z))
    return torch.exp(z), step * mean * B


def _bilinear(step: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    half = step * A / 2
    return (1 + half) / (1 - half), step * B / (1 - half)


def _zoh_low_rank(step: Tensor, A: Tensor, B: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """Van Loan 1978: the exponential of ((A, B), (0, 0)) holds both parts, without a division by A."""
    p, size = as_real(P), 2 * A.shape[-1]
    matrix = diagonal_matrix(A) - 2 * p[:, :, None] * p[:, None, :]  # P^* acts on x and on its conjugate
    joint = torch.cat((matrix, as_real(B)[:, :, None]), dim=-1)
    joint = torch.nn.functional.pad(step[..., None] * joint, (0, 0, 0, 1))
    exponential = torch.matrix_exp(joint)[:, :size]
    return exponential[..., :size], as_complex(exponential[..., size].contiguous())


def _bilinear_low_rank(step: Tensor, A: Tensor, B: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """With e = 1 - delta A / 2, (e + (delta / 2) P P^*)^-1 is 1 / e less a rank one (Woodbury)."""
    transition, drive = _bilinear(step, A, B)
    solved = P / (1 - step * A / 2)
    gain = step / (1 + step * (P.conj() * solved).real.sum(-1, keepdim=True))
    row = as_row(P.conj() / (1 - step * A / 2))  # the row P^* / e as it acts on x and on its conjugate
    matrix = diagonal_matrix(transition) - as_real(gain * solved)[:, :, None] * row[:, None, :]
    return matrix, drive - gain * solved * (P.conj() * drive).real.sum(-1, keepdim=True)


_DIAGONAL = {"zoh": _zoh, "bilinear": _bilinear}
_LOW_RANK = {"zoh": _zoh_low_rank, "bilinear": _bilinear_low_rank}
