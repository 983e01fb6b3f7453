"""The discrete system and its powers: exactness, length, memory."""

from __future__ import annotations

import math

import pytest
import torch
from lti_cases import Watch, cast, lti_arguments, whole_matrix
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.nn.hippo import diagonal_system, legs_low_rank
from seqmamba.ops import lti, lti_discretise, lti_state_step
from seqmamba.ops.lti.powers import Powers, kernel
from seqmamba.ops.lti.real_view import as_complex, as_real, as_row, diagonal_matrix


def hippo_arguments(length: int, dim: int = 2, d_state: int = 64, *, low_rank: bool) -> dict[str, Tensor]:
    """A system as it is initialised, with the published range of step sizes."""
    generator = torch.Generator().manual_seed(0)
    system = legs_low_rank(d_state) if low_rank else diagonal_system("legs", d_state)
    arguments = {
        "u": torch.randn(1, length, dim, generator=generator, dtype=torch.float64),
        "delta": torch.logspace(-3, -1, dim, dtype=torch.float64),
        "A": system.A.expand(dim, -1).clone(),
        "B": system.B.expand(dim, -1).clone(),
        "C": torch.randn(dim, d_state // 2, generator=generator, dtype=torch.complex128),
    }
    return arguments | ({"P": system.P.expand(dim, -1).clone()} if low_rank else {})


def run_steps(a: dict[str, Tensor], discretisation: str) -> Tensor:
    system = lti_discretise(a["delta"], a["A"], a["B"], P=a.get("P"), discretisation=discretisation)
    state = torch.zeros(1, *a["A"].shape, dtype=a["A"].dtype)
    outputs = []
    for u in a["u"].unbind(1):
        y, state = lti_state_step(state, u, system, a["C"])
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def test_real_views() -> None:
    a, x, C = (torch.randn(3, 4, dtype=torch.complex128) for _ in range(3))
    torch.testing.assert_close((as_row(C) * as_real(x)).sum(-1), 2 * (C * x).sum(-1).real)
    torch.testing.assert_close(as_complex((diagonal_matrix(a) @ as_real(x)[..., None]).squeeze(-1)), a * x)


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
def test_discretisation_is_the_dense_formula(low_rank: bool, discretisation: str) -> None:
    a = lti_arguments(low_rank=low_rank)
    delta, A, B = a["delta"][:, None, None], a["A"], a["B"]
    whole = whole_matrix(A, a["P"] if low_rank else torch.zeros_like(A))
    drive = torch.cat((B, B.conj()), dim=-1)[..., None]
    one = torch.eye(whole.shape[-1], dtype=whole.dtype)
    if discretisation == "zoh":
        transition = torch.matrix_exp(delta * whole)
        drive = torch.linalg.solve(whole, (transition - one) @ drive)
    else:
        transition = torch.linalg.solve(one - delta / 2 * whole, one + delta / 2 * whole)
        drive = torch.linalg.solve(one - delta / 2 * whole, delta * drive)
    system = lti_discretise(a["delta"], A, B, P=a.get("P"), discretisation=discretisation)
    half = A.shape[1]
    torch.testing.assert_close(system.drive, drive[:, :half, 0])
    x = torch.randn(A.shape, dtype=A.dtype)
    stepped = (transition @ torch.cat((x, x.conj()), dim=-1)[..., None])[:, :half, 0]
    _, state = lti_state_step(x[None], torch.zeros(1, len(A), dtype=torch.float64), system, a["C"])
    torch.testing.assert_close(state[0], stepped)


def test_an_integrator_has_its_limit() -> None:
    """A of zero: expm1(z) / z is 1, and so are its gradients."""
    delta = torch.tensor([0.5], dtype=torch.float64)
    A = torch.tensor([[0j, -1 + 2j]], dtype=torch.complex128, requires_grad=True)
    system = lti_discretise(delta, A, torch.ones(1, 2, dtype=torch.complex128))
    assert system.transition[0, 0] == 1
    assert system.drive[0, 0] == 0.5
    assert torch.autograd.grad(system.drive.real.sum(), A)[0].isfinite().all()


@pytest.mark.parametrize("low_rank", [False, True])
def test_zero_order_hold_does_not_depend_on_the_step(low_rank: bool) -> None:
    """An input that is held for two steps of half the length is the same input."""
    a = lti_arguments(length=40, low_rank=low_rank, every=False)
    once = lti(**a)
    twice = lti(**(a | {"u": a["u"].repeat_interleave(2, dim=1)}), rate=0.5)
    torch.testing.assert_close(twice[:, 1::2], once)


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
def test_half_the_sampling_rate_decimates_the_output(low_rank: bool, discretisation: str) -> None:
    a = hippo_arguments(2000, d_state=16, low_rank=low_rank) | {"delta": torch.tensor([1e-3, 1e-2]).double()}
    t = torch.arange(1, 2001, dtype=torch.float64)
    slow = torch.stack((torch.sin(t / 90) + torch.sin(t / 37 + 1), torch.cos(t / 70)), dim=-1)[None]
    full = lti(**(a | {"u": slow}), discretisation=discretisation)[:, 1::2]
    halved = a | {"u": slow[:, 1::2]}
    aware, unaware = (lti(**halved, discretisation=discretisation, rate=rate) for rate in (2, 1))
    assert (aware - full).abs().max() < 0.05 * full.abs().max()
    assert (unaware - full).abs().max() > 0.3 * full.abs().max()


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
def test_convolution_and_recurrence_agree_over_16384_steps(low_rank: bool, discretisation: str) -> None:
    a = hippo_arguments(16_384, low_rank=low_rank)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        given = {name: cast(x, dtype) for name, x in a.items()}
        stepped = run_steps(given, discretisation)
        for impl in ("fft", "chunked"):
            error = (lti(**given, discretisation=discretisation, impl=impl) - stepped).abs().max()
            assert error < tolerance * stepped.abs().max()


@pytest.mark.parametrize("length", [1, 3, 63, 101])  # odd: an even number of roots has one, -1, with a pole
def test_the_kernel_is_that_of_the_generating_function(length: int) -> None:
    """S4, algorithm 1: a truncated generating function at roots of unity, by Cauchy products and Woodbury."""
    a = lti_arguments(low_rank=True)
    delta, A, B, C, P = (a[name] for name in ("delta", "A", "B", "C", "P"))
    system = lti_discretise(delta, A, B, P=P, discretisation="bilinear")
    actual = kernel(Powers(system), C[None], length, torch.float64)[0]

    step = delta[:, None, None]
    whole, one = whole_matrix(A, P), torch.eye(2 * A.shape[1], dtype=A.dtype)
    transition = torch.linalg.solve(one - step / 2 * whole, one + step / 2 * whole)
    A, B, C, P = (torch.cat((x, x.conj()), dim=-1) for x in (A, B, C, P))
    truncated = (C[:, None] @ (one - torch.linalg.matrix_power(transition, length))).squeeze(1)
    roots = torch.exp(-2j * math.pi * torch.arange(length, dtype=torch.float64) / length)
    frequency = 2 / delta[:, None] * (1 - roots) / (1 + roots)

    def cauchy(left: Tensor, right: Tensor) -> Tensor:
        return ((left * right)[:, None] / (frequency[..., None] - A[:, None])).sum(-1)

    inner = cauchy(truncated, B) - cauchy(truncated, P) * cauchy(P.conj(), B) / (1 + cauchy(P.conj(), P))
    expected = torch.fft.ifft(2 / (1 + roots) * inner)
    torch.testing.assert_close(actual.to(expected.dtype), expected)


@pytest.mark.parametrize("low_rank", [False, True])
def test_phases_are_right_after_a_million_steps(low_rank: bool) -> None:
    """A kernel that hardly decays, against complex exponentials computed at each lag."""
    C = torch.tensor([[1 + 1j, 0.5 - 1j]])
    A = torch.tensor([[-1e-4 + 3.0j, -2e-4 + 0.7j]])
    P = torch.zeros_like(A) if low_rank else None
    system = lti_discretise(torch.tensor([0.01]), A, torch.ones_like(A), P=P)
    K = kernel(Powers(system), C[None], 1_000_001, torch.float32)[0, 0]
    rounded = system.transition
    if low_rank:
        rounded = torch.complex(rounded[:, [0, 2], [0, 2]], rounded[:, [1, 3], [0, 2]])
    for lag in (0, 1, 1000, 99_999, 1_000_000):
        phase = torch.exp(lag * torch.log(rounded.to(torch.complex128)))
        expected = 2 * (C * system.drive * phase).sum().real
        assert abs(K[lag].item() - expected.item()) < 1e-6 * K.abs().max()
    assert K[-1000:].abs().max() > 0.1 * K.abs().max()


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_nothing_is_as_large_as_length_times_state(low_rank: bool, reset: bool) -> None:
    length, dim = 1 << 18, 2
    a = {name: cast(x, torch.float32) for name, x in hippo_arguments(length, dim, low_rank=low_rank).items()}
    state = torch.zeros(1, *a["A"].shape, dtype=torch.complex64)
    borders = torch.zeros(1, length, dtype=torch.bool) if reset else None
    a = {name: x.requires_grad_() for name, x in a.items()}
    with Watch() as watch:
        y, final = lti(
            **a, discretisation="bilinear", initial_state=state, return_final_state=True, reset=borders
        )
        (y.sum() + final.abs().sum()).backward()
    # a spectrum of a sequence padded to twice its length is the largest, 32 times smaller than that
    assert watch.largest <= 2 * dim * (length + 1)


def test_a_million_steps_in_chunks_stay_finite_and_reach_the_steady_state() -> None:
    """Chunks of resonant input and then of a constant one, whose steady state is known."""
    for low_rank in (False, True):
        a = {name: cast(x, torch.float32) for name, x in hippo_arguments(1, low_rank=low_rank).items()}
        chunk, state, largest = 1 << 16, None, 0.0
        t = torch.arange(chunk)
        resonant = torch.sign(torch.sin(t * a["delta"][:, None] * a["A"].imag[:, 5:6])).T[None]
        for u in [resonant] * 15 + [torch.ones_like(resonant)]:
            a["u"] = u
            y, state = lti(**a, initial_state=state, return_final_state=True)
            assert y.isfinite().all()
            largest = max(largest, state.abs().max().item())
        assert largest < 1e3
        assert state is not None
        system = lti_discretise(a["delta"].double(), cast(a["A"], torch.float64), cast(a["B"], torch.float64))
        if low_rank:
            a_wide = {name: cast(x, torch.float64) for name, x in a.items()}
            whole = whole_matrix(a_wide["A"], a_wide["P"])
            drive = torch.cat((a_wide["B"], a_wide["B"].conj()), dim=-1)
            steady = torch.linalg.solve(-whole, drive)[:, : state.shape[-1]]
        else:
            steady = system.drive / (1 - system.transition)
        torch.testing.assert_close(cast(state[0], torch.float64), steady, atol=1e-4, rtol=1e-3)


def test_mistakes_are_named() -> None:
    a = lti_arguments()
    with pytest.raises(UserError, match="lti_discretise: discretisation must be one of zoh, bilinear"):
        lti_discretise(a["delta"], a["A"], a["B"], discretisation="exact")
    with pytest.raises(UserError, match="lti_discretise: rate must be a positive number, got nan"):
        lti_discretise(a["delta"], a["A"], a["B"], rate=math.nan)
