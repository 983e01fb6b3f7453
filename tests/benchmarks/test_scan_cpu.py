"""How much the CPU kernels gain, measured in the same run as a comparison with float64."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from seqmamba.ops import selective_scan


def _arguments(batch: int, length: int, dim: int, state: int) -> dict[str, Tensor]:
    """Float32 arguments as a freshly initialised Mamba layer has them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "u": normal(batch, length, dim),
        "delta": normal(batch, length, dim) - 4,
        "A": -torch.arange(1.0, state + 1).repeat(dim, 1),
        "B": normal(batch, length, state),
        "C": normal(batch, length, state),
        "D": normal(dim),
        "z": normal(batch, length, dim),
        "delta_bias": normal(dim) * 0.1,
    }


def _run(arguments: dict[str, Tensor], impl: str) -> tuple[float, list[Tensor]]:
    """Seconds of one forward and backward, and y with the gradient of every argument."""
    leaves = {name: x.clone().requires_grad_() for name, x in arguments.items()}
    start = time.perf_counter()
    y = selective_scan(**leaves, delta_softplus=True, impl=impl)
    gradients = torch.autograd.grad(y.sum(), list(leaves.values()))
    return time.perf_counter() - start, [y.detach(), *gradients]


def _measure(shape: tuple[int, int, int, int], repeats: dict[str, int]) -> dict[str, float]:
    """Best seconds of each implementation, all checked against the float64 reference."""
    arguments = _arguments(*shape)
    _, exact = _run({name: x.double() for name, x in arguments.items()}, "reference")
    seconds = {impl: float("inf") for impl in repeats}
    for impl, count in repeats.items():
        for _ in range(count):
            elapsed, results = _run(arguments, impl)
            seconds[impl] = min(seconds[impl], elapsed)
        for name, actual, wanted in zip(["y", *arguments], results, exact, strict=True):
            error = ((actual.double() - wanted).abs().max() / wanted.abs().max()).item()
            assert error < 2e-5, f"{impl}: {name} is off by {error:.1e}"
    ratios = ", ".join(f"{impl} {value / seconds['numba']:.1f}x" for impl, value in seconds.items())
    print(
        f"\nselective_scan {shape}, forward + backward, {torch.get_num_threads()} threads: "
        f"numba {1e3 * seconds['numba']:.1f} ms; in its units: {ratios}"
    )
    return seconds


def test_numba_is_several_times_faster_than_the_reference() -> None:
    seconds = _measure((2, 1024, 128, 16), {"numba": 5, "reference": 2})
    assert seconds["reference"] / seconds["numba"] >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_numba_against_reference_and_chunked_at_the_training_shape() -> None:
    seconds = _measure((4, 4096, 256, 16), {"numba": 5, "chunked": 1, "reference": 1})
    assert seconds["reference"] / seconds["numba"] >= 10
    assert seconds["chunked"] / seconds["numba"] >= 3
