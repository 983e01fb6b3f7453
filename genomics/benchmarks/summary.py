"""From many runs on one benchmark to a table: mean, spread and interval, beside what was published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from genomics.benchmarks.benchmark import Benchmark
from genomics.benchmarks.published import PublishedNumber, published_numbers
from genomics.protocols import QUIRKS
from seqmamba.metrics import draw_resamples, evaluate_resamples, percentile_interval
from seqmamba.predictions import Predictions

RESAMPLES = 1000
"""Draws behind an interval."""

_CHUNK = 4_000_000  # weights held at a time, of all test parts


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    Attributes:
        name: Name of its folder.
        model: What was trained.
        protocol: ``paper`` or ``sound``.
        seed: Its seed.
        folds: Number of folds; 0 for the official test part.
        fold: The fold tested on.
        tested_on: The official part tested on; without meaning where there are folds.
        parameters: Number of trainable parameters; 0 where that says nothing.
        predictions: Labels and outputs of the test part.
        quirks: Names of `genomics.protocols.QUIRKS` that apply.
        explanation: How the data were divided.
    """

    name: str
    model: str
    protocol: str
    seed: int
    folds: int
    fold: int
    tested_on: str
    parameters: int
    predictions: Predictions
    quirks: tuple[str, ...]
    explanation: str


@dataclass(frozen=True)
class Score:
    """A metric over several runs.

    Attributes:
        values: Of each run, in the order of the runs.
        mean: Their mean.
        sd: Their standard deviation, n - 1 in the denominator; NaN for one run.
        spread: The largest minus the smallest, which many papers write behind ±; NaN for one run.
        low: Lower end of the 95 % interval of the mean.
        high: Upper end.
    """

    values: tuple[float, ...]
    mean: float
    sd: float
    spread: float
    low: float
    high: float


@dataclass(frozen=True)
class SummaryRow:
    """All runs of one model under one protocol.

    Attributes:
        model: What was trained.
        parameters: Number of trainable parameters; 0 where that says nothing.
        protocol: ``paper`` or ``sound``.
        folds: Number of folds; 0 for an official part.
        tested_on: The official part tested on.
        runs: Names of the runs.
        tested: Sequences in each run's test part.
        scores: Metric name to score, the benchmark's own metric first.
        explanation: How the data of the first run were divided.
        quirks: Names of `genomics.protocols.QUIRKS` that apply.
    """

    model: str
    parameters: int
    protocol: str
    folds: int
    tested_on: str
    runs: tuple[str, ...]
    tested: tuple[int, ...]
    scores: Mapping[str, Score]
    explanation: str
    quirks: tuple[str, ...]


def summarise(benchmark: Benchmark, results: Sequence[RunResult], seed: int = 0) -> list[SummaryRow]:
    """Summarise runs: one row for each model, protocol, number of folds and part tested on.

    Where several seeds were tested on the same sequences, their ensemble has a row too.

    Args:
        benchmark: The benchmark that all ran on.
        results: The runs.
        seed: Seed of the resampling.
    """
    groups: dict[tuple[str, str, int, str], list[RunResult]] = defaultdict(list)
    for result in sorted([*results, *ensembles(results)], key=lambda result: (result.seed, result.fold)):
        groups[result.model, result.protocol, result.folds, result.tested_on].append(result)
    return [
        SummaryRow(
            model=model,
            parameters=runs[0].parameters,
            protocol=protocol,
            folds=folds,
            tested_on=tested_on,
            runs=tuple(run.name for run in runs),
            tested=tuple(len(run.predictions) for run in runs),
            scores=score_runs(_by_seed(runs), benchmark.metric, seed=seed),
            explanation=runs[0].explanation,
            quirks=tuple(name for name in QUIRKS if any(name in run.quirks for run in runs)),
        )
        for (model, protocol, folds, tested_on), runs in sorted(groups.items())
    ]


def ensembles(results: Sequence[RunResult]) -> list[RunResult]:
    """Average the outputs of the seeds of each model that were tested on the same sequences.

    Args:
        results: Runs of one benchmark.

    Returns:
        A run for each model with several such seeds, with the parameters of all of them.
    """
    groups: dict[tuple[str, str, str], list[RunResult]] = defaultdict(list)
    for result in results:
        if result.parameters and not result.folds:
            groups[result.model, result.protocol, result.tested_on].append(result)
    found = []
    for runs in groups.values():
        first = runs[0]
        if len(runs) > 1 and all(run.predictions.names == first.predictions.names for run in runs):
            found.append(
                replace(
                    first,
                    name="+".join(run.name for run in runs),
                    model=f"{first.model}, mean of {len(runs)}",
                    parameters=sum(run.parameters for run in runs),
                    predictions=Predictions.mean([run.predictions for run in runs]),
                )
            )
    return found


def score_runs(
    seeds: Sequence[Sequence[Predictions]], metric: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Score]:
    """Compute mean, spread and interval of every metric over runs.

    The interval is a bootstrap over both things that vary (Efron 1979; two levels as in Davison and Hinkley
    1997, section 3.8): seeds are drawn with replacement, each with all of its folds, and so are the sequences
    of each test part; runs that tested on the same sequences share the draw. With one seed it is the
    variation of the test parts alone. Where each seed has a test part of its own, it errs on the wide side.

    Args:
        seeds: Labels and outputs of the test parts: for each seed, one a fold.
        metric: The benchmark's metric, to be first.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    runs = [run for folds in seeds for run in folds]
    values = [_evaluated(run, np.ones((1, len(run)))) for run in runs]
    names = [metric, *(name for name in values[0] if name != metric)]
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in names}
    step = max(1, _CHUNK // sum({tuple(run.names): len(run) for run in runs}.values()))
    for start in range(0, resamples, step):
        for name, row in _draw(seeds, min(step, resamples - start), generator).items():
            drawn[name].append(row)
    return {name: _score([float(one[name][0]) for one in values], drawn[name]) for name in names}


def _draw(
    seeds: Sequence[Sequence[Predictions]], resamples: int, generator: np.random.Generator
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Draw means over runs, of every metric."""
    weights: dict[tuple[str, ...], np.ndarray] = {}
    per_seed: dict[str, list[np.ndarray]] = defaultdict(list)
    for folds in seeds:
        found = []
        for run in folds:
            key = tuple(run.names)
            if key not in weights:
                weights[key] = draw_resamples(generator, resamples, len(run))
            found.append(_evaluated(run, weights[key]))
        for name in found[0]:
            per_seed[name].append(np.mean([one[name] for one in found], axis=0))
    # Rows of multiplicities: how often each seed is in each draw.
    times = draw_resamples(generator, resamples, len(seeds))
    return {name: (times * np.stack(rows, axis=1)).sum(1) / len(seeds) for name, rows in per_seed.items()}


def _by_seed(runs: Sequence[RunResult]) -> list[list[Predictions]]:
    found: dict[int, list[Predictions]] = defaultdict(list)
    for run in runs:
        found[run.seed].append(run.predictions)
    return list(found.values())


def _evaluated(
    run: Predictions, weights: Float[np.ndarray, "resamples n"]
) -> dict[str, Float[np.ndarray, " resamples"]]:
    return evaluate_resamples(weights, run.outputs, run.labels, run.task, run.classes)


def _score(values: list[float], drawn: list[np.ndarray]) -> Score:
    several = len(values) > 1
    low, high = percentile_interval(drawn)
    return Score(
        values=tuple(values),
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if several else float("nan"),
        spread=float(max(values) - min(values)) if several else float("nan"),
        low=low,
        high=high,
    )


def table_as_dict(benchmark: Benchmark, rows: Sequence[SummaryRow]) -> dict[str, Any]:
    """Return the table for JSON."""
    return {
        "benchmark": benchmark.name,
        "metric": benchmark.metric,
        "paper": benchmark.paper.source,
        "interval": f"95 %, bootstrap over runs and test sequences, {RESAMPLES} resamples",
        "rows": [asdict(row) for row in rows],
        "quirks": {name: QUIRKS[name] for row in rows for name in row.quirks},
        "published": [asdict(number) for number in published_numbers(benchmark)],
    }


def table_as_markdown(benchmark: Benchmark, rows: Sequence[SummaryRow]) -> str:
    """Return the table as Markdown, with the quirks of the protocols and the published numbers below."""
    lines = [
        f"# {benchmark.name}",
        "",
        f"Metric: {benchmark.metric}. Intervals: 95 %, bootstrap over runs and test sequences.",
        "",
        "| model | parameters | protocol | runs | tested | mean | 95 % interval | SD | max - min |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        score = row.scores[benchmark.metric]
        seeds = len(row.runs) // max(row.folds, 1)
        runs = f"{len(row.runs)}" if not row.folds else f"{row.folds} folds x {seeds}"
        size = f"{row.parameters:,}" if row.parameters else ""
        lines.append(
            f"| {row.model} | {size} | {row.protocol} | {runs} | {_tested(row)} | {score.mean:.4f} "
            f"| {score.low:.4f} to {score.high:.4f} | {_cell(score.sd)} | {_cell(score.spread)} |"
        )
    lines += ["", *_other_metrics(benchmark, rows), "", "## Protocols", ""]
    for protocol in sorted({row.protocol for row in rows}):
        same = [row for row in rows if row.protocol == protocol]
        lines.append(f"- {protocol}: {same[0].explanation}")
        quirks = [name for name in QUIRKS if any(name in row.quirks for row in same)]
        lines += [f"  - {name}: {QUIRKS[name]}" for name in quirks]
    return "\n".join([*lines, *_published(published_numbers(benchmark), benchmark.metric)]) + "\n"


def _other_metrics(benchmark: Benchmark, rows: Sequence[SummaryRow]) -> list[str]:
    names = [name for name in rows[0].scores if name != benchmark.metric]
    lines = [f"| model | protocol | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = " | ".join(f"{row.scores[name].mean:.4f}" for name in names)
        lines.append(f"| {row.model} | {row.protocol} | {cells} |")
    return lines


def _published(numbers: Sequence[PublishedNumber], metric: str) -> list[str]:
    if not numbers:
        return []
    lines = ["", "## Published", "", f"| model | parameters | {metric} | source |", "|---|---|---|---|"]
    sources: dict[str, int] = {}
    for number in numbers:
        spread = "" if number.spread is None else f"; ± is the {number.spread_means}"
        note = f"; {number.note}" if number.note else ""
        place = sources.setdefault(f"{number.citation}{spread}{note}", len(sources) + 1)
        value = f"{number.value:.4g}" + ("" if number.spread is None else f" ± {number.spread:.3g}")
        lines.append(f"| {number.model} | {number.parameters} | {value} | {place} |")
    return [*lines, "", *(f"{place}. {source}" for source, place in sources.items())]


def _tested(row: SummaryRow) -> str:
    low, high = min(row.tested), max(row.tested)
    counts = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{counts} (validation)" if row.tested_on == "validation" else counts


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"
