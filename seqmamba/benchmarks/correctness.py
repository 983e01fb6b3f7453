"""Whether a candidate computes what it should, before its time counts."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.benchmarks.candidates import Candidate
from seqmamba.benchmarks.exact import Results
from seqmamba.benchmarks.inputs import Arguments
from seqmamba.benchmarks.timing import Spread, differentiable, timed_pass

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
_ROWS = 2**26  # numbers that are compared at once


def tolerance(dtype: torch.dtype) -> float:
    """The largest accepted ||result - exact|| / ||exact||, for sequences of a dtype.

    Rounding a result to bfloat16 alone makes 1.7e-3; sequences that a peer keeps in bfloat16 between its own
    steps make several times that. A wrong term, shift or sign makes far more.
    """
    return _TOLERANCE[dtype]


def outputs_and_gradients(
    candidate: Candidate, arguments: Arguments, grad_y: Tensor
) -> tuple[Results, dict[str, Spread]]:
    """Run a candidate once.

    Returns:
        Results in the layout of `seqmamba.ops` and the candidate's dtypes, and the times of this first run.
    """
    leaves, grad = differentiable(candidate, arguments), candidate.native_tensor(grad_y)
    y, grads, times = timed_pass(candidate, leaves, grad)
    results = {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}
    return {name: candidate.ours(x) for name, x in results.items()}, times


def relative_errors(results: Results, exact: Results) -> dict[str, float]:
    """||result - exact|| / ||exact|| of y and every gradient; infinite where a number is not finite."""
    names = sorted(exact, key=lambda name: name != "y")  # y first: what is off there is off everywhere
    return {name: _relative_error(results[name], exact[name]) for name in names}


def verdict(errors: dict[str, float], limit: float) -> str | None:
    """Say what is off, or None if nothing is."""
    wrong = [f"{name} by {error:.1e}" for name, error in errors.items() if not error <= limit]
    return f"off from float64 (limit {limit:.0e}): {', '.join(wrong)}" if wrong else None


def _relative_error(actual: Tensor, wanted: Tensor) -> float:
    if actual.shape != wanted.shape:
        return float("inf")
    axis = 1 if actual.ndim > 2 else 0
    rows = max(1, _ROWS * actual.shape[axis] // max(1, actual.numel()))
    difference, size = 0.0, 0.0
    for a, b in zip(actual.split(rows, axis), wanted.split(rows, axis), strict=True):
        difference += float((a.float() - b).double().square().sum())
        size += float(b.double().square().sum())
    error = (difference / size) ** 0.5 if size else difference**0.5
    return error if error == error else float("inf")
