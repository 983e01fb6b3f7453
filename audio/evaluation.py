"""What a test pass leaves in the run folder: predictions.tsv, results.json and report.html."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio.batches import LabelledWaveforms
from audio.event_metrics import Tolerance
from audio.events import EventConfig
from audio.manifests import SourceConfig
from audio.models import WaveformClassifier
from audio.rate_transfer import evaluate_rate, evaluate_rates
from audio.results import DataSummary, Results, SplitSummary
from audio.splits import SplitConfig
from audio.tagging_scores import SCORES, sum_up
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, evaluate
from seqmamba.nn.options import is_whole, require
from seqmamba.plain_json import to_json
from seqmamba.results import BaselineSummary
from seqmamba.stratify import PARTS
from seqmamba.training.answers import Answers, count_classes, print_metrics, run_facts, write_answers
from seqmamba.training.run_folder import RunFolder


@dataclass(frozen=True)
class EvaluationConfig:
    """What a test pass computes besides the predictions.

    Args:
        bootstrap: Resamples of the test part behind the 95 % intervals; 0 gives no intervals.
        baselines: Train a logistic regression on log-mel statistics on the same split.
        rates: Other sampling rates in Hz at which to test the model without training it again; not a tagger.
        events: How a tagger's probabilities become events.
        tolerance: How far events may be off.

    Raises:
        UserError: If a value is out of range.
    """

    bootstrap: int = 1000
    baselines: bool = True
    rates: tuple[int, ...] = ()
    events: EventConfig = field(default_factory=EventConfig)
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(self.rates))  # YAML and JSON have lists
        require(is_whole(self.bootstrap, 0), "evaluation.bootstrap", "a whole number >= 0", self.bootstrap)
        require(all(map(is_whole, self.rates)), "evaluation.rates", "whole numbers of Hz", self.rates)


def evaluate_run(
    folder: RunFolder,
    model: WaveformClassifier,
    data: LabelledWaveforms,
    test: Answers,
    config: EvaluationConfig,
    *,
    crops: int,
    seed: int | None,
) -> dict[str, Estimate]:
    """Evaluate a test pass and write its files, each whole or not at all.

    A tagger has no predictions of whole recordings: its scores alone are written.

    Args:
        folder: The run folder.
        model: The tested model.
        data: The data module, set up.
        test: The model's answers; of a tagger, what `audio.tagging_scores.count_tags` counts: numerators as
            outputs, denominators as labels.
        config: What to compute.
        crops: Stretches of each recording, as in `test`.
        seed: The run's seed; it also seeds the bootstrap.

    Returns:
        The test metrics with their 95 % intervals.
    """
    from audio.report import write_report  # matplotlib is not needed to predict

    options: dict[str, Any] = {"n_bootstrap": config.bootstrap, "seed": seed or 0}
    whole = data.task != "tagging"
    if whole:
        metrics = evaluate(test.outputs, test.labels, data.task, data.classes, **options)
        write_predictions(folder, data, test)
    else:
        metrics = sum_up(test.outputs, test.labels, SCORES, **options)
    rates = evaluate_rates(model, data, config.rates, crops=crops, **options) if config.rates else {}
    # Lightning tests in inference mode, and the baseline is trained.
    with torch.inference_mode(False), torch.enable_grad():
        baselines = _baselines(data, options) if config.baselines and whole else {}
    Results(
        task=data.task,
        classes=tuple(data.classes),
        **run_facts(folder, model, test.seconds, seed),
        parameters=sum(p.numel() for p in model.parameters()),
        model=asdict(model.config),
        data=summarise_data(data),
        split=summarise_split(data),
        metrics=metrics,
        baselines=baselines,
        rates=rates,
        notes=list(data.notes),
    ).save(folder.results)
    write_report(folder.path)
    print_metrics(metrics, baselines)
    _print_rates(next(iter(metrics)), rates)
    return metrics


def evaluate_source(
    model: WaveformClassifier,
    source: str,
    files: SourceConfig,
    *,
    rates: Sequence[int] = (),
    crops: int = 10,
    bootstrap: int = 1000,
    batch_size: int = 16,
    seed: int = 1,
    output: Path | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Test a model on all recordings of a folder or table, and print the metrics.

    Args:
        model: A trained model, not one for tagging.
        source: See `audio.manifests.find_clips`; its labels are among the model's classes.
        files: How it is read.
        rates: Other sampling rates in Hz to test at; see `audio.rate_transfer`.
        crops: Stretches of each recording, where training cut recordings.
        bootstrap: Resamples behind the 95 % intervals.
        batch_size: Recordings predicted at once.
        seed: Seed of the resamples.
        output: File for the metrics, JSON; None writes none.

    Returns:
        ``"16000 Hz"``, and other rates with the way of meeting them -> metrics with their intervals.
    """
    from audio.datasets import LoadingConfig, WaveformDataModule  # Lightning is not needed to predict

    config = model.config
    if config.task == "tagging":
        raise UserError("the model tags frames, not recordings", hint="use `seqmamba audio timeline`")
    data = WaveformDataModule(
        source,
        files,
        config.task,
        () if config.task == "regression" else config.classes,
        LoadingConfig(config.rate, config.channels, batch_size=batch_size, damaged="leave_out"),
        SplitConfig(by="none"),
    )
    data.setup()
    for note in data.notes:
        print(f"note: {note}", file=sys.stderr)
    options: dict[str, Any] = {"n_bootstrap": bootstrap, "seed": seed}
    found = {f"{config.rate} Hz": evaluate_rate(model.eval(), data, crops=crops, **options)}
    found |= evaluate_rates(model, data, rates, crops=crops, **options)
    own, others = f"{config.rate:,} Hz", {name: found[name] for name in list(found)[1:]}
    print(f"{own}, {len(data.names):,} recordings")
    metrics = next(iter(found.values()))
    print_metrics(metrics, {})
    _print_rates(next(iter(metrics)), others)
    if output is not None:
        with atomic_path(output) as part:
            text = json.dumps(to_json(found), indent=1, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
    return found


def write_predictions(folder: RunFolder, data: LabelledWaveforms, answers: Answers) -> None:
    """Write ``predictions.tsv``; see `write_answers`."""
    write_answers(folder, answers, data.task, data.classes, data.names, data.assignment)


def _print_rates(metric: str, rates: dict[str, dict[str, Estimate]]) -> None:
    """Print a metric of the model at other sampling rates."""
    for name, estimates in rates.items():
        estimate = estimates[metric]
        print(f"{name}: {metric} {estimate.value:.4f} ({estimate.low:.4f} - {estimate.high:.4f})", flush=True)


def summarise_data(data: LabelledWaveforms) -> DataSummary:
    """Count and measure the recordings of a data module, set up."""
    seconds = np.asarray(data.seconds)
    counted = data.task not in ("regression", "unlabelled")
    return DataSummary(
        n=len(data.names),
        per_class=count_classes(data.task, data.classes, data.labels) if counted else {},
        seconds={
            "min": float(seconds.min()),
            "median": float(np.median(seconds)),
            "max": float(seconds.max()),
            "total": float(seconds.sum()),
        },
        rate=data.rate,
        channels=data.channels,
    )


def summarise_split(data: LabelledWaveforms) -> SplitSummary:
    """Say how a data module's recordings were divided."""
    counts = {
        part: count_classes(data.task, data.classes, data.labels[data.assignment == part]) for part in PARTS
    }
    return SplitSummary(data.explanation, counts)


def _baselines(data: LabelledWaveforms, options: dict[str, Any]) -> dict[str, BaselineSummary]:
    from audio.baselines import log_mel_baseline  # needs torchaudio

    print("training the baseline (log-mel statistics) on the same split", file=sys.stderr)
    return {"log_mel": log_mel_baseline(data, **options)}
