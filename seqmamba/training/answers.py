"""Tasks that are tested, above all those whose models answer for whole items, and what a test makes of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, evaluate
from seqmamba.predictions import Predictions
from seqmamba.results import BaselineSummary, how_made
from seqmamba.training.hardware import describe_device, software_versions
from seqmamba.training.metrics_csv import read_rows
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.task import Task

SECONDS_COLUMN = "train/seconds"


@dataclass(frozen=True)
class Answers:
    """What the model said of some items.

    Attributes:
        index: Positions in the data module's list (n,).
        outputs: Probabilities, or values for regression (n, k).
        labels: Class numbers (n,), or labels or targets (n, k).
        seconds: How long the pass took.
    """

    index: Int[np.ndarray, " n"]
    outputs: Float[np.ndarray, "n k"]
    labels: Shaped[np.ndarray, "n *k"]  # noqa: UP037  dimensions, no type
    seconds: float


class TimedTask(Task):
    """Times epochs and tests, and tests on one device.

    Args:
        optimiser: See `Task`.
    """

    def __init__(self, optimiser: OptimiserConfig | None = None) -> None:
        super().__init__(optimiser)
        self._start = 0.0

    @property
    def pass_seconds(self) -> float:
        """Seconds since the epoch or test began."""
        return time.monotonic() - self._start

    def on_train_epoch_start(self) -> None:
        """Start the epoch's clock."""
        self._start = time.monotonic()

    def on_train_epoch_end(self) -> None:
        """Log how long the epoch took, validation included."""
        self.log(SECONDS_COLUMN, self.pass_seconds, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Start the clock.

        Raises:
            UserError: On several devices, where each would see, and report on, a part of the test set only.
        """
        self.require_one_device()
        self._start = time.monotonic()


class AnsweringTask(TimedTask):
    """Collects the answers of a pass and logs their metrics in validation.

    A subclass has a ``model`` whose config says ``task`` and ``classes``, and hands the answers of every
    batch to `collect`.

    Args:
        optimiser: See `Task`.
    """

    validation_metrics: ClassVar[Mapping[str, tuple[str, ...]]]
    """Task to the metrics to follow during training; a test pass computes all of them."""

    model: Any

    def __init__(self, optimiser: OptimiserConfig | None = None) -> None:
        super().__init__(optimiser)
        self._collected: list[tuple[Tensor, Tensor, Tensor]] = []

    @staticmethod
    def check_classes(config: Any, data: Any) -> None:
        """Refuse data whose task or classes are others than a recipe names.

        Args:
            config: The model's; without ``classes`` anything goes.
            data: The data module, set up.

        Raises:
            UserError: If they are.
        """
        if config.classes and (config.task, config.classes) != (data.task, tuple(data.classes)):
            raise UserError(
                f"model.classes: the recipe says {config.task} of {', '.join(config.classes)}, the data have "
                f"{data.task} of {', '.join(data.classes)}",
                hint="leave task and classes out of the recipe; they are taken from the data",
            )

    def standardise_targets(self, labels: Float[Tensor, "n targets"]) -> None:
        """Give the model the mean and the deviation of regression targets.

        Args:
            labels: Those of the training part.
        """
        self.model.target_mean.copy_(labels.mean(dim=0))
        self.model.target_scale.copy_(labels.std(dim=0, correction=0).clamp_min(1e-12))

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of an earlier pass, also of one that was interrupted."""
        self._collected.clear()

    def on_test_epoch_start(self) -> None:
        """Forget the answers of an earlier pass and start the clock; see `TimedTask`."""
        super().on_test_epoch_start()
        self._collected.clear()

    def on_predict_epoch_start(self) -> None:
        """Start as a test pass does."""
        self.on_test_epoch_start()

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation part, if any answers were collected."""
        if self.trainer.sanity_checking or not self._collected:
            return
        config, answers = self.model.config, self.answers()
        if not np.isfinite(answers.outputs).all():  # the loss says so already, and stops the run
            return
        scores = evaluate(answers.outputs, answers.labels, config.task, config.classes, n_bootstrap=0)
        for name in self.validation_metrics[config.task]:
            if np.isfinite(scores[name].value):
                self.log(f"val/{name}", scores[name].value, sync_dist=True)

    def collect(self, index: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Keep the answers of a batch.

        Args:
            index: Positions in the data module's list (batch,).
            outputs: Probabilities or values (batch, k).
            labels: What is true.
        """
        self._collected.append((index, outputs.detach().float(), labels))

    def answers(self) -> Answers:
        """Return all that was collected, in the order of the data module's list."""
        index, outputs, labels = (torch.cat(p).cpu().numpy() for p in zip(*self._collected, strict=True))
        order = np.argsort(index, kind="stable")
        return Answers(index[order], outputs[order].astype(np.float64), labels[order], self.pass_seconds)


def run_facts(folder: RunFolder, model: nn.Module, seconds: float, seed: int | None) -> dict[str, Any]:
    """Return what the results of a run say of how it came about.

    Args:
        folder: The run folder.
        model: The tested model.
        seconds: How long its test took.
        seed: The run's seed.

    Returns:
        ``created``, ``command``, ``seed``, ``hardware``, ``seconds`` of training, over however many sittings,
        and test, and ``versions``.
    """
    rows = read_rows(folder.metrics)
    trained = sum(float(row[SECONDS_COLUMN]) for row in rows if SECONDS_COLUMN in row)
    return {
        **how_made(),
        "seed": seed,
        "hardware": describe_device(next(model.parameters()).device),
        "seconds": trained + seconds,
        "versions": software_versions(),
    }


def write_answers(
    folder: RunFolder,
    answers: Answers,
    task: str,
    classes: Sequence[str],
    names: Sequence[str],
    assignment: Sequence[str] | np.ndarray,
) -> None:
    """Write ``predictions.tsv``.

    Args:
        folder: The run folder.
        answers: The model's answers for the test part, or for all items.
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Class names, or target names for regression.
        names: Of all items of the data module's list.
        assignment: The part of each of them.
    """
    Predictions(
        task=task,
        classes=tuple(classes),
        names=[names[i] for i in answers.index],
        splits=[str(assignment[i]) for i in answers.index],
        labels=answers.labels,
        outputs=answers.outputs,
    ).save(folder.predictions)


def print_metrics(metrics: Mapping[str, Estimate], baselines: Mapping[str, BaselineSummary]) -> None:
    """Print the test metrics with their intervals, beside those of the baselines.

    Args:
        metrics: Test metrics of the model.
        baselines: What the simple models reach on the same split.
    """
    print(f"{'test':18}{'model':>8}  {'95 % interval':17}" + "".join(f"{name:>11}" for name in baselines))
    for name, estimate in metrics.items():
        others = "".join(f"{baseline.metrics[name].value:11.4f}" for baseline in baselines.values())
        interval = f"{estimate.low:.4f} - {estimate.high:.4f}"
        print(f"{name:18}{estimate.value:8.4f}  {interval:17}{others}")
    sys.stdout.flush()


def count_classes(task: str, classes: Sequence[str], labels: Shaped[np.ndarray, "n *k"]) -> dict[str, int]:  # noqa: UP037
    """Count the items of every class (``all`` where there are no classes).

    Args:
        task: ``classification``, ``multilabel``, ``regression`` or ``unlabelled``.
        classes: Class names.
        labels: Class numbers (n,), or labels or targets (n, k).
    """
    if task in ("regression", "unlabelled"):
        return {"all": len(labels)}
    if task == "classification":
        numbers = np.bincount(labels, minlength=len(classes))
    else:
        numbers = (labels > 0.5).sum(axis=0)
    return {name: int(number) for name, number in zip(classes, numbers, strict=True)}
