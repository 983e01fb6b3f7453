"""What a benchmark run trains: a recipe's model through `seqmamba fit`, or a simple model for comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from genomics.baselines import Baseline, Problem, cnn_baseline, composition_baseline, kmer_baseline
from genomics.benchmarks.benchmark import Benchmark
from genomics.benchmarks.catalogue import find_benchmark
from genomics.benchmarks.frozen import FrozenEncoder, linear_probe
from genomics.datasets.records import LabelledSequences
from genomics.protocols import DivisionConfig, ProtocolName
from seqmamba.errors import UserError
from seqmamba.metrics import METRICS
from seqmamba.training.run_folder import RunFolder

Genome = dict[str, str] | str | None


class Trainer(Protocol):
    """Trains on a benchmark and fills a run folder with results and predictions."""

    def __call__(
        self,
        benchmark: str,
        source: str | None,
        genome: Genome,
        division: DivisionConfig,
        folder: RunFolder,
        *,
        resume: bool,
    ) -> None:
        """Train and test one run.

        Args:
            benchmark: ``<family>/<task>``.
            source: A copy of the release, or None.
            genome: Genome for releases that are intervals.
            division: How to divide it.
            folder: Where to write.
            resume: The folder may hold an unfinished run with the same settings.
        """


def default_recipe(benchmark: Benchmark, division: DivisionConfig) -> dict[str, Any]:
    """Return the settings of a run that recipes may replace: the paper's training, and a small model.

    Under the sound protocol the loss on the validation part picks the epoch, under the paper's its metric
    does (where the paper picks by F1, the correlation coefficient: it orders epochs alike).

    Args:
        benchmark: The benchmark.
        division: How it is divided.
    """
    paper = benchmark.paper
    metric = benchmark.metric if benchmark.metric in ("accuracy", "mcc", "auroc") else "mcc"
    if benchmark.metric in METRICS["regression"]:
        metric = "loss"
    backbone = {"d_model": 128, "n_layers": 4, "direction": "bidirectional", "d_state": 16}
    return {
        "model": {
            "class_path": "genomics.benchmarks.BenchmarkTask",
            "init_args": {
                "model": {"backbone": backbone, "strand": "conjoin"},
                "optimiser": {
                    "lr": paper.lr,
                    "weight_decay": 0.1,
                    "betas": [0.9, 0.999],
                    "warmup_fraction": 0.01,
                },
                "choose_by": metric if division.protocol == "paper" else "loss",
            },
        },
        "trainer": {"max_epochs": paper.epochs, "devices": 1},
    }


def fixed_recipe(
    benchmark: str, source: str | None, genome: Genome, division: DivisionConfig
) -> dict[str, Any]:
    """Return the settings that make a run the one that was asked for, whatever a recipe says.

    Args:
        benchmark: ``<family>/<task>``.
        source: A copy of the release, or None to leave it to the recipe.
        genome: Genome for releases that are intervals, or None to leave it to the recipe.
        division: How it is divided.
    """
    places = {"source": source, "genome": genome}
    given = {name: value for name, value in places.items() if value is not None}
    return {
        "seed_everything": division.seed,
        "data": {
            "class_path": "genomics.benchmarks.BenchmarkDataModule",
            "init_args": {"benchmark": benchmark, **given, "division": asdict(division)},
        },
    }


_FIXED = {
    "seed_everything": "--seeds counts them",
    "run": "-o names the folder of the runs",
    "data.class_path": "the benchmark decides it",
    "data.benchmark": "name another one",
    "data.source": "--source names a copy",
    "data.genome": "--genome names it",
    "data.division": "--protocol, --folds, --clean and --on decide it",
}
"""Keys of a recipe that a run has from its plan, without ``init_args``, and where they come from."""

_FIXED_BY_PAPER = {
    "data.max_length": "sequences are cut and padded to the paper's longest input",
    "model.choose_by": "the paper's metric picks the epoch",
}


def check_overrides(overrides: Sequence[str], protocols: Collection[ProtocolName]) -> None:
    """Refuse settings on top of all recipes that would make a run another than its plan says.

    Args:
        overrides: See `recipe_trainer`.
        protocols: Of the runs.

    Raises:
        UserError: For the first one.
    """
    fixed = _FIXED | (_FIXED_BY_PAPER if "paper" in protocols else {})
    for option in overrides[::2]:
        key = option.removeprefix("--")
        parts = [part for part in key.rstrip("+").split(".") if part != "init_args"]
        for name, reason in fixed.items():
            known = name.split(".")
            shared = min(len(known), len(parts))
            if parts[:shared] == known[:shared]:
                whose = "the paper protocol" if name in _FIXED_BY_PAPER else "a benchmark run"
                raise UserError(f"--set {key}: {whose} fixes {name}", hint=reason)


def recipe_trainer(configs: Sequence[str], overrides: Sequence[str]) -> Trainer:
    """Return the trainer of `default_recipe` with the settings of other recipes on top.

    Args:
        configs: Recipes; their data section is not needed.
        overrides: Words of the command line, ``--key value``.
    """
    return partial(_train_recipe, tuple(configs), tuple(overrides))


def _train_recipe(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    benchmark: str,
    source: str | None,
    genome: Genome,
    division: DivisionConfig,
    folder: RunFolder,
    *,
    resume: bool,
) -> None:
    import yaml

    from seqmamba.cli.lightning import run_lightning

    run = ["--run", str(folder.path)]
    if resume and folder.last.is_file():
        run_lightning(["fit", "--config", str(folder.config), *run, "--ckpt_path", "last"])
    else:
        parts = {
            "defaults": default_recipe(find_benchmark(benchmark), division),
            "fixed": fixed_recipe(benchmark, source, genome, division),
        }
        with TemporaryDirectory(prefix="seqmamba-") as scratch:
            paths = {name: Path(scratch) / f"{name}.yaml" for name in parts}
            for name, path in paths.items():
                path.write_text(yaml.safe_dump(parts[name], sort_keys=False), encoding="utf-8")
            recipes = [str(paths["defaults"]), *configs, str(paths["fixed"])]
            files = [word for recipe in recipes for word in ("--config", recipe)]
            run_lightning(["fit", *files, *overrides, *run, "--overwrite", "true"])
    run_lightning(["test", "--config", str(folder.config), *run, "--ckpt_path", "best"])


Fit = Callable[[LabelledSequences, np.ndarray, int], Baseline]
"""Trains and tests a simple model on divided records, with a seed."""


def probe_trainer(encoder: FrozenEncoder) -> Trainer:
    """Return the trainer of a linear probe: logistic or ridge regression on the vectors of a frozen model.

    The ridge penalty is the one that does best on the validation part.

    Args:
        encoder: The frozen model.
    """

    def fit(records: LabelledSequences, assignment: np.ndarray, seed: int) -> Baseline:
        return linear_probe(encoder, Problem.build(records, assignment), records.tokens)

    return partial(_train_simple, fit)


def _train_simple(
    fit: Fit,
    benchmark: str,
    source: str | None,
    genome: Genome,
    division: DivisionConfig,
    folder: RunFolder,
    *,
    resume: bool,
) -> None:
    from datetime import datetime

    from genomics.benchmarks.module import BenchmarkDataModule
    from genomics.evaluation import summarise_data, summarise_split, write_predictions
    from genomics.results import Results
    from seqmamba.training.answers import Answers

    started = time.monotonic()
    data = BenchmarkDataModule(benchmark, source, genome, division)
    data.setup()
    baseline = fit(data.records, data.assignment, division.seed)
    test = data.part("test")
    answers = Answers(test, baseline.probabilities, data.records.labels[test], time.monotonic() - started)
    write_predictions(folder, data, answers)
    Results(
        title=f"{benchmark}: {baseline.name}",
        task=data.task,
        classes=data.classes,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        seed=division.seed,
        seconds=baseline.seconds,
        data=summarise_data(data.records),
        split=summarise_split(data),
        leaks=data.leaks.as_dict(),
        metrics=baseline.metrics,
        notes=list(data.notes),
    ).save(folder.results)


def _length_gc(records: LabelledSequences, assignment: np.ndarray, seed: int) -> Baseline:
    return composition_baseline(Problem.build(records, assignment), "length_gc", ("length", "gc"))


def _kmer(records: LabelledSequences, assignment: np.ndarray, seed: int) -> Baseline:
    return kmer_baseline(Problem.build(records, assignment))


def _cnn(records: LabelledSequences, assignment: np.ndarray, seed: int) -> Baseline:
    return cnn_baseline(Problem.build(records, assignment), seed=seed)


TRAINERS: dict[str, Trainer] = {
    name: partial(_train_simple, fit)
    for name, fit in (("length_gc", _length_gc), ("kmer", _kmer), ("cnn", _cnn))
}
"""The simple models by name."""
