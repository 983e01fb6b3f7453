"""One run: every candidate checked, then timed, at every shape."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmamba.benchmarks.candidates import Candidate
from seqmamba.benchmarks.correctness import outputs_and_gradients, relative_errors, tolerance, verdict
from seqmamba.benchmarks.exact import Results
from seqmamba.benchmarks.floors import Limits, floors
from seqmamba.benchmarks.inputs import Arguments, Draw
from seqmamba.benchmarks.operators import UPSTREAM, Operator, too_slow
from seqmamba.benchmarks.peers import PEERS, PeerUnavailable, is_out_of_memory
from seqmamba.benchmarks.results import Comparison, Row
from seqmamba.benchmarks.shapes import Shape, Widths, check_widths
from seqmamba.benchmarks.timing import measure_memory, size_of, time_candidate
from seqmamba.errors import UserError

_PATIENCE = 60.0
"""Seconds; a candidate whose first forward and backward take longer is not run again."""


@dataclass(frozen=True)
class Settings:
    """What the command line chose.

    Attributes:
        device: Where to run.
        dtype: Of sequences.
        widths: Sizes beside the shape.
        seed: Of the inputs.
        impls: Ours to time; None takes all that run and are not too slow at the length.
        peers: Names of peers to time; None takes all.
        seconds: For the repeats of each candidate at each shape.
    """

    device: torch.device
    dtype: torch.dtype
    widths: Widths
    seed: int = 0
    impls: Sequence[str] | None = None
    peers: Sequence[str] | None = None
    seconds: float = 2.0


def compare(operator: Operator, shape: Shape, settings: Settings, limits: Limits) -> Comparison:
    """Check every candidate against float64, then time those that are right.

    Raises:
        UserError: A name is unknown, or the shape does not fit into memory even for the check.
    """
    check_widths(operator.name, shape, settings.widths)
    rows, candidates = _line_up(operator, shape, settings)
    try:
        draw = Draw(settings.device, settings.dtype, settings.seed)
        arguments = operator.draw(shape, settings.widths, draw)
        grad_y = draw.normal(*arguments[operator.result].shape)
        exact = operator.exact(arguments, grad_y)
    except (RuntimeError, MemoryError) as failure:
        if is_out_of_memory(failure):
            raise UserError(
                f"bench {operator.name}: {shape} and its check in float64 do not fit into memory",
                hint="name smaller shapes with --shapes",
            ) from failure
        raise
    limit = tolerance(settings.dtype)
    for candidate in candidates:
        rows.append(_checked(candidate, arguments, grad_y, exact, limit))
    del exact
    right = [candidate for candidate in candidates if _row(rows, candidate).status == "ok"]
    for candidate in right:
        _time(_row(rows, candidate), candidate, arguments, grad_y, settings.seconds)
    written = [grad_y] if operator.also_written is None else [grad_y, arguments[operator.also_written]]
    return Comparison(
        shape=str(shape),
        elements=shape.elements,
        inputs=size_of(list(arguments.values())),
        tolerance=limit,
        floors=floors(
            size_of(list(arguments.values())),
            size_of(written),
            limits,
            operator.exponentials(shape, settings.widths),
        ),
        rows=sorted(rows, key=lambda row: row.kind != "seqmamba"),
        noise=_noise(right, rows, arguments, grad_y, settings.seconds),
    )


def _line_up(operator: Operator, shape: Shape, settings: Settings) -> tuple[list[Row], list[Candidate]]:
    """What to time, and a row for everything that will not be."""
    known = operator.implementations()
    peers = {peer.name: peer for peer in PEERS[operator.name]}
    _refuse_unknown("--impls", settings.impls, known)
    _refuse_unknown("--peers", settings.peers, list(peers))
    rows: list[Row] = []
    chosen = [] if settings.impls is None else list(settings.impls)
    for impl in known if settings.impls is None else ():
        if too_slow(impl, shape, settings.device.type):
            why = f"minutes at this length; --impls {impl} times it nevertheless"
            rows.append(Row(impl, "seqmamba", "skipped", why))
        elif impl not in UPSTREAM:
            chosen.append(impl)
    candidates = operator.candidates(chosen)
    for name in peers if settings.peers is None else settings.peers:
        longest = peers[name].longest
        if settings.peers is None and longest is not None and shape.length > longest:
            why = f"minutes at this length; --peers {name} times it nevertheless"
            rows.append(Row(name, "peer", "skipped", why))
            continue
        try:
            candidates.append(peers[name].candidate(settings.device.type))
        except PeerUnavailable as why_not:
            if settings.device.type in peers[name].devices or settings.peers is not None:
                rows.append(Row(name, "peer", "absent", str(why_not)))
    return rows, candidates


def _refuse_unknown(option: str, given: Sequence[str] | None, known: Sequence[str]) -> None:
    unknown = [name for name in given or () if name not in known]
    if unknown:
        raise UserError(f"bench: {option} takes {', '.join(known) or 'nothing'}, got {', '.join(unknown)}")


def _row(rows: list[Row], candidate: Candidate) -> Row:
    return next(row for row in rows if (row.name, row.kind) == (candidate.name, candidate.kind))


def _checked(candidate: Candidate, arguments: Arguments, grad_y: Tensor, exact: Results, limit: float) -> Row:
    """A row with the errors of a candidate, or with what keeps it from running."""
    row = Row(candidate.name, candidate.kind, "ok")

    def check() -> None:
        results, times = outputs_and_gradients(candidate, arguments, grad_y)
        row.errors = relative_errors(results, exact)
        wrong = verdict(row.errors, limit)
        if wrong is not None:
            row.status, row.detail = "FAIL", wrong
        elif times["sum"].best > 1e3 * _PATIENCE:
            row.times, row.detail = times, "timed once, in the run that was checked"

    _guard(row, check)
    return row


def _time(row: Row, candidate: Candidate, arguments: Arguments, grad_y: Tensor, seconds: float) -> None:
    if row.times:
        return

    def measure() -> None:
        row.memory = measure_memory(candidate, arguments, grad_y)
        row.times = time_candidate(candidate, arguments, grad_y, seconds)

    _guard(row, measure)


def _guard(row: Row, step: Callable[[], None]) -> None:
    """Run a step and turn a failure into the row's status: the other candidates go on."""
    try:
        step()
    except UserError as refusal:
        row.status, row.detail = "absent", refusal.message
    except Exception as failure:  # a foreign kernel may raise anything
        first_line = str(failure).strip().partition("\n")[0]
        out_of_memory = is_out_of_memory(failure)
        row.status = "OOM" if out_of_memory else "error"
        row.detail = "out of memory" if out_of_memory else f"{type(failure).__name__}: {first_line}"
        gc.collect()  # the frames of its traceback hold tensors
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _noise(
    right: list[Candidate], rows: list[Row], arguments: Arguments, grad_y: Tensor, seconds: float
) -> float | None:
    """Time the first candidate again, now that the machine has run everything else."""
    timed = [candidate for candidate in right if "inference" in _row(rows, candidate).times]
    if not timed:
        return None
    before = _row(rows, timed[0]).times["sum"].median
    again = time_candidate(timed[0], arguments, grad_y, seconds)["sum"].median
    return abs(again / before - 1)
