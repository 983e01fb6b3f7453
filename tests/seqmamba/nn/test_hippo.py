from __future__ import annotations

import math

import pytest
import torch
from numpy.polynomial import legendre

from seqmamba.nn.hippo import diagonal_system, hippo_legs, legs_low_rank, s4d_inv, s4d_legs, s4d_lin


def test_hippo_legs_is_the_published_matrix() -> None:
    A, B = hippo_legs(3)
    root = [1, math.sqrt(3), math.sqrt(5)]
    expected = [[-1, 0, 0], [-root[1], -2, 0], [-root[2], -root[1] * root[2], -3]]
    torch.testing.assert_close(A, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(B, torch.tensor(root, dtype=torch.float64))


def test_its_impulse_response_is_the_legendre_polynomials_in_exponential_time() -> None:
    """exp(t A) B = sqrt(2n + 1) s L_n(2s - 1), s = exp(-t): Gu et al. 2022, arXiv:2206.12037."""
    A, B = hippo_legs(6)
    for t in (0.1, 0.7, 2.0):
        s = math.exp(-t)
        expected = [math.sqrt(2 * n + 1) * s * legendre.legval(2 * s - 1, [0] * n + [1]) for n in range(6)]
        torch.testing.assert_close(torch.matrix_exp(t * A) @ B, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("d_state", [2, 8, 16])
def test_the_diagonalised_system_is_the_original(d_state: int) -> None:
    half = legs_low_rank(d_state)
    assert (half.A.imag > 0).all()
    A, B, P = (torch.cat((x, x.conj())) for x in half)
    whole = torch.diag(A) - P[:, None] * P.conj()
    eigenvalues = torch.linalg.eigvals(whole).real.sort(descending=True).values
    torch.testing.assert_close(eigenvalues, -torch.arange(1.0, d_state + 1).double(), rtol=1e-4, atol=0)
    # P^T exp(t A) B does not depend on the basis
    original, drive = hippo_legs(d_state)
    row = torch.sqrt(torch.arange(d_state, dtype=torch.float64) + 0.5)
    for t in (0.05, 0.5):
        expected = row @ torch.matrix_exp(t * original) @ drive
        actual = P.conj() @ torch.matrix_exp(t * whole) @ B
        torch.testing.assert_close(actual, expected.to(actual.dtype))


def test_the_basis_is_orthogonal_at_full_size() -> None:
    half, (_, B) = legs_low_rank(256), hippo_legs(256)
    torch.testing.assert_close(2 * half.B.abs().square().sum(), B.square().sum())
    assert half.P.imag.abs().max() < 1e-10 * half.P.real.max()
    assert (half.P.real > 0).all()
    torch.testing.assert_close(half.A.real, torch.full((128,), -0.5, dtype=torch.float64))


def test_s4d_lin_and_inv_are_the_published_formulas() -> None:
    expected = torch.complex(torch.full((4,), -0.5), math.pi * torch.arange(4)).to(torch.complex128)
    torch.testing.assert_close(s4d_lin(8), expected, rtol=1e-6, atol=1e-6)
    assert s4d_inv(8).imag.tolist() == pytest.approx([8 / math.pi * (8 / (2 * n + 1) - 1) for n in range(4)])
    assert (s4d_inv(64).real == -0.5).all()


def test_s4d_inv_approximates_s4d_legs() -> None:
    """S4D, section 4: the largest frequencies follow the inverse law."""
    legs, inverse = s4d_legs(256).imag.flip(0)[:8], s4d_inv(256).imag[:8]
    torch.testing.assert_close(legs, inverse, rtol=0.06, atol=0)


@pytest.mark.parametrize("init", ["legs", "lin", "inv"])
def test_diagonal_systems(init: str) -> None:
    system = diagonal_system(init, 64)
    assert system.A.shape == (32,)
    assert (system.B == 1).all()
    assert not system.P.any()
