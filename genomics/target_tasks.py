"""What the tasks share whose models have named targets: what they begin with, and what a test writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from torch import nn

from genomics.finetuning import build_model
from genomics.target_results import TargetResults
from seqmamba.metrics import Estimate
from seqmamba.nn.lora import merge_lora
from seqmamba.training.answers import TimedTask, run_facts
from seqmamba.training.callbacks import run_seed
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder


class TargetTask(TimedTask):
    """A model with named targets, built when the data are known; its tests end in `TargetResults`.

    A subclass calls `build` in its ``configure_model``, and `report` at the end of a test.

    Args:
        model: What to build.
        optimiser: AdamW and its schedule.
        evaluation: How a test pass counts.
        init_from: A pretrained model to begin with.
    """

    title: ClassVar[str]
    """What the results are about."""

    model: Any

    def __init__(
        self, model: Any, optimiser: OptimiserConfig | None, evaluation: Any, init_from: InitConfig | None
    ) -> None:
        super().__init__(optimiser)
        self.record_hyperparameters(
            model=model, optimiser=self.optimiser_config, evaluation=evaluation, init_from=init_from
        )
        self.model_config = model
        self.evaluation_config = evaluation
        self.init_from = init_from

    @property
    def exported(self) -> nn.Module:
        """The model, for ``RUN/pretrained``; low-rank updates become part of its weights."""
        return merge_lora(self.model)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the model's targets."""
        names: tuple[str, ...] = self.model.config.targets
        return names

    @property
    def seed(self) -> int:
        """The run's seed, 0 if it has none: of what a test draws."""
        return run_seed(self.trainer) or 0

    def build(self, build: Callable[[Any], nn.Module], config: Any) -> None:
        """Build the model, with a pretrained encoder where there is one.

        Args:
            build: Makes a model of its configuration.
            config: The configuration, complete.
        """
        self.model = build_model(build, config, self.init_from, self.optimiser_config.lr)

    def log_means(self, metrics: Mapping[str, Mapping[str, Estimate]], names: Sequence[str]) -> None:
        """Log the mean over the targets of some validation metrics, where a target has them.

        Args:
            metrics: Target to metric to estimate.
            names: Of the metrics.
        """
        for name in names:
            values = [found[name].value for found in metrics.values() if np.isfinite(found[name].value)]
            if values:
                self.log(f"val/{name}", float(np.mean(values)), sync_dist=True)

    def report(self, counts: Mapping[str, int], metrics: Mapping[str, Mapping[str, Estimate]]) -> None:
        """Write the results of a test to the run folder, and print them.

        Args:
            counts: What was judged, such as bins or variants.
            metrics: Target to metric to estimate.
        """
        folder = RunFolder.of(self.trainer)
        results = TargetResults(
            title=self.title,
            **run_facts(folder, self.model, self.pass_seconds, run_seed(self.trainer)),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            model=asdict(self.model.config),
            counts=counts,
            metrics=metrics,
        )
        results.save(folder)
        results.print()
