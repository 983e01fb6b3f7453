"""State matrices that remember: HiPPO-LegS, and the diagonal ones made after it.

Everything here is float64 and of conjugate pairs holds the half with positive imaginary parts.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Initialisation = Literal["legs", "lin", "inv"]


class HalfSystem(NamedTuple):
    """x' = (A - P P^*) x + B u in a basis where A is diagonal; the conjugate half is left implicit.

    Attributes:
        A: Diagonal, complex128.
        B: Input projection, complex128.
        P: The vector of the rank-one part, complex128.
    """

    A: Complex[Tensor, " half"]
    B: Complex[Tensor, " half"]
    P: Complex[Tensor, " half"]


def hippo_legs(d_state: int) -> tuple[Float[Tensor, "state state"], Float[Tensor, " state"]]:
    """Return the matrices of x' = A x + B u that project the past onto scaled Legendre polynomials.

    A[n, k] = -sqrt((2n + 1)(2k + 1)) below the diagonal and -(n + 1) on it; B[n] = sqrt(2n + 1).
    HiPPO: Gu et al. 2020, arXiv:2008.07669, theorem 2; S4: Gu et al. 2022, arXiv:2111.00396, equation 2.

    Args:
        d_state: State size N.

    Returns:
        A and B, float64.
    """
    n = torch.arange(d_state, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    A = -torch.tril(B[:, None] * B, diagonal=-1) - torch.diag(n + 1)
    return A, B


def legs_low_rank(d_state: int) -> HalfSystem:
    """Diagonalise the normal part of HiPPO-LegS (S4, theorem 1 and appendix C.1).

    A + P P^T with P[n] = sqrt(n + 1/2) is -1/2 plus a skew-symmetric matrix. That one times i is Hermitian,
    so its eigenvectors are orthogonal to the last digit; the condition of those of A itself grows
    exponentially with N.

    Args:
        d_state: State size N, even.

    Returns:
        The system in the basis of the eigenvectors, N / 2 states, frequencies rising.
    """
    A, B = hippo_legs(d_state)
    P = torch.sqrt(torch.arange(d_state, dtype=torch.float64) + 0.5)
    skew = A + P[:, None] * P + 0.5 * torch.eye(d_state, dtype=torch.float64)
    frequencies, vectors = torch.linalg.eigh(-1j * skew)  # eigenvalues rise from the most negative
    frequencies, basis = frequencies[d_state // 2 :], vectors[:, d_state // 2 :].mH
    # the phase of an eigenvector is free: P positive gives the same numbers on every machine
    projected = basis @ P.to(basis.dtype)
    basis = basis * torch.sgn(projected).conj()[:, None]
    A_half = torch.complex(torch.full_like(frequencies, -0.5), frequencies)
    return HalfSystem(A_half, basis @ B.to(basis.dtype), basis @ P.to(basis.dtype))


def s4d_lin(d_state: int) -> Complex[Tensor, " half"]:
    """Return A[n] = -1/2 + i pi n: the frequencies of a Fourier series (S4D, arXiv:2206.11893, section 4).

    Args:
        d_state: State size N, even.
    """
    n = torch.arange(d_state // 2, dtype=torch.float64)
    return torch.complex(torch.full_like(n, -0.5), math.pi * n)


def s4d_inv(d_state: int) -> Complex[Tensor, " half"]:
    """Return A[n] = -1/2 + i N / pi (N / (2n + 1) - 1): close to the frequencies of LegS (S4D, section 4).

    Args:
        d_state: State size N, even.
    """
    n = torch.arange(d_state // 2, dtype=torch.float64)
    return torch.complex(torch.full_like(n, -0.5), d_state / math.pi * (d_state / (2 * n + 1) - 1))


def s4d_legs(d_state: int) -> Complex[Tensor, " half"]:
    """Return the eigenvalues of the normal part of HiPPO-LegS (S4D, section 4).

    Args:
        d_state: State size N, even.
    """
    return legs_low_rank(d_state).A


_DIAGONAL = {"legs": s4d_legs, "lin": s4d_lin, "inv": s4d_inv}


def diagonal_system(init: Initialisation, d_state: int) -> HalfSystem:
    """Return a diagonal system: A by its name, B of ones (S4D, section 3) and no P.

    Args:
        init: ``legs``, ``lin`` or ``inv``.
        d_state: State size N, even.
    """
    A = _DIAGONAL[init](d_state)
    return HalfSystem(A, torch.ones_like(A), torch.zeros_like(A))
