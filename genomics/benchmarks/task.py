"""Training on a benchmark: `SequenceTask` with the paper's way to choose the best epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from genomics.augmentation import AugmentationConfig
from genomics.evaluation import EvaluationConfig
from genomics.models import SequenceModelConfig
from genomics.tasks import SequenceTask
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import OptimiserConfig

_WITHOUT_BASELINES = EvaluationConfig(baselines=False, attributions=0)


class BenchmarkTask(SequenceTask):
    """Classification of a benchmark's sequences.

    Args:
        model: What to build.
        optimiser: AdamW and its schedule.
        label_smoothing: Share of the target probability spread over all classes.
        evaluation: What a test run computes besides metrics; the command that runs many seeds and folds
            trains no baselines for each.
        choose_by: What picks the best epoch on the validation part: the loss, or a metric as papers do.
        init_from: A pretrained model to begin with; see `SequenceTask`.
        augmentation: See `SequenceTask`.
        cuda_graphs: See `SequenceTask`.
    """

    def __init__(
        self,
        model: SequenceModelConfig = SequenceModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        label_smoothing: float = 0.0,
        evaluation: EvaluationConfig = _WITHOUT_BASELINES,
        choose_by: Literal["loss", "accuracy", "mcc", "auroc"] = "loss",
        init_from: InitConfig | None = None,
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008  frozen
        cuda_graphs: bool = False,
    ) -> None:
        super().__init__(
            model,
            optimiser,
            label_smoothing,
            evaluation=evaluation,
            init_from=init_from,
            augmentation=augmentation,
            cuda_graphs=cuda_graphs,
        )
        self.monitor = f"val/{choose_by}"  # type: ignore[misc]  # of this task, not of its class
        self.monitor_mode = "min" if choose_by == "loss" else "max"  # type: ignore[misc]

    def configure_model(self) -> None:
        """Build the model; explain no sequence whose padding the protocol counts as sequence."""
        super().configure_model()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        division = getattr(data, "division", None)
        if division is not None and division.protocol == "paper" and data.benchmark.paper.max_length:
            self.evaluation_config = replace(self.evaluation_config, attributions=0)
