"""Training, validation and testing of a `SequenceModel`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from genomics.augmentation import AugmentationConfig, augment, mix
from genomics.ensembles import EnsembleModel
from genomics.equivariance import reverse_complement_some
from genomics.evaluation import EvaluationConfig, evaluate_run, write_predictions
from genomics.finetuning import build_model
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.lora import merge_lora
from seqmamba.training.answers import AnsweringTask
from seqmamba.training.callbacks import run_seed
from seqmamba.training.distillation import DistillationConfig, Teacher
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder


class Batch(TypedDict):
    """What `SequenceDataModule` delivers.

    Attributes:
        tokens: Token ids (batch, length) int64, padded on the right.
        lengths: True lengths in bases (batch,) int64; None where every sequence fills the batch.
        labels: Class numbers (batch,) int64, or label or target values (batch, k) float32.
        index: Positions of the sequences in the data module's records (batch,) int64.
    """

    tokens: Tensor
    lengths: Tensor | None
    labels: Tensor
    index: Tensor


class SequenceTask(AnsweringTask):
    """Classification (one class or several labels) or regression of whole sequences.

    The task, the class names and the scale of regression targets come from the data module, so a recipe need
    not repeat them. The loss is cross-entropy, binary cross-entropy, or the squared error of standardised
    targets.

    Args:
        model: What to build. ``task`` and ``classes`` may stay unset.
        optimiser: AdamW and its schedule.
        label_smoothing: Share of the target probability spread over all classes (classification).
        balance_classes: Weigh every class, or the positives of every label, by the inverse of its frequency.
        evaluation: What a test run computes besides metrics.
        init_from: A pretrained model to begin with: its embedding and backbone take the place of `model`'s.
        augmentation: How training sequences are changed.
        cuda_graphs: Whether training steps run as CUDA graphs, see `GraphedTraining`: for short sequences of
            one length, which keep a GPU busy for less time than it takes to launch their kernels.
        distil_from: A trained model whose answers are learned too.

    Raises:
        UserError: If a value is out of range.
    """

    validation_metrics: ClassVar[dict[str, tuple[str, ...]]] = {
        "classification": ("accuracy", "mcc", "auroc"),
        "multilabel": ("accuracy", "mcc", "auroc"),
        "regression": ("pearson", "mae"),
    }
    class_weights: Tensor | None

    def __init__(
        self,
        model: SequenceModelConfig = SequenceModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        label_smoothing: float = 0.0,
        balance_classes: bool = False,
        evaluation: EvaluationConfig = EvaluationConfig(),  # noqa: B008  frozen
        init_from: InitConfig | None = None,
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008  frozen
        cuda_graphs: bool = False,
        distil_from: DistillationConfig | None = None,
    ) -> None:
        super().__init__(optimiser)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing: expected at least 0 and less than 1, got {label_smoothing}")
        self.record_hyperparameters(
            model=model,
            optimiser=self.optimiser_config,
            label_smoothing=label_smoothing,
            balance_classes=balance_classes,
            evaluation=evaluation,
            init_from=init_from,
            augmentation=augmentation,
            cuda_graphs=cuda_graphs,
            distil_from=distil_from,
        )
        self.model_config = model
        self.evaluation_config = evaluation
        self.init_from = init_from
        self.label_smoothing = label_smoothing
        self.balance_classes = balance_classes
        self.augmentation = augmentation
        self.cuda_graphs = cuda_graphs
        self.distil_from = distil_from
        self.teacher: Teacher | None = None
        self.register_buffer("class_weights", None, persistent=False)

    @property
    def exported(self) -> SequenceModel:
        """The model, for ``RUN/pretrained``; low-rank updates become part of its weights."""
        return merge_lora(self.model)

    def configure_model(self) -> None:
        """Build the model for the classes of the data; Lightning calls this after the data module's setup."""
        if hasattr(self, "model"):
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        config = self.model_config
        self.check_classes(config, data)
        config = replace(
            config,
            task=data.task,
            classes=tuple(data.classes),
            max_length=data.max_length or config.max_length,
        )
        self.model = build_model(SequenceModel, config, self.init_from, self.optimiser_config.lr)
        if self.distil_from is not None and self.fitting:
            expected = {"task": config.task, "classes": config.classes}
            self.teacher = Teacher.read(self.distil_from, (SequenceModel, EnsembleModel), **expected)
        embedded = self.model.forward_embedded
        self._logits = self.graphed(self.model, embedded) if self.cuda_graphs else embedded
        labels = torch.as_tensor(data.records.labels[data.assignment == "train"])
        if config.task == "regression":
            self.standardise_targets(labels)
        elif self.balance_classes:
            self.class_weights = _class_weights(labels, config.task, len(config.classes)).to(self.device)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the model's logits."""
        logits: Tensor = self.model(tokens, lengths)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, on random strands if the model asks for that, and augmented."""
        tokens, lengths, labels = batch["tokens"], batch["lengths"], batch["labels"]
        if self.model.config.strand in ("augment", "conjoin"):
            chosen = torch.rand(len(tokens), device=tokens.device) < 0.5
            tokens = reverse_complement_some(tokens, lengths, chosen)
        tokens = augment(tokens, lengths, self.augmentation)
        one_hot = self.model.one_hot(tokens)
        soft = None if self.teacher is None else self.teacher.answer(tokens, lengths)
        if self.augmentation.mixup:
            if self.model.config.task == "classification":
                labels = F.one_hot(labels, len(self.model.config.classes)).to(one_hot.dtype)
            targets = labels if soft is None else torch.cat((labels, soft), dim=1)
            one_hot, lengths, targets = mix(one_hot, lengths, targets, self.augmentation.mixup)
            labels, soft = targets[:, : labels.shape[1]], targets[:, labels.shape[1] :]
        logits = self._logits(one_hot) if lengths is None else self._logits(one_hot, lengths)
        loss = self._loss(logits, labels)
        if self.teacher is not None and soft is not None:
            loss = self.teacher.loss(loss, logits, soft, self.model)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(tokens), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        logits = self(batch["tokens"], batch["lengths"])
        loss = self._loss(logits, batch["labels"])
        self.log("val/loss", loss, batch_size=len(logits), prog_bar=True, sync_dist=True)
        self._collect(logits, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep a batch's predictions."""
        self._collect(self(batch["tokens"], batch["lengths"]), batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return probabilities, or values in the units of the training targets, and keep them."""
        logits = self(batch["tokens"], batch["lengths"])
        self._collect(logits, batch)
        return self.model.to_predictions(logits)

    def on_test_epoch_end(self) -> None:
        """Write predictions, results and the report of the test part to the run folder."""
        evaluate_run(
            RunFolder.of(self.trainer),
            self.model,
            self.trainer.datamodule,  # type: ignore[attr-defined]
            self.answers(),
            self.evaluation_config,
            seed=run_seed(self.trainer),
        )

    def on_predict_epoch_end(self) -> None:
        """Write the predictions for all sequences to the run folder."""
        folder = RunFolder.of(self.trainer)
        write_predictions(folder, self.trainer.datamodule, self.answers())  # type: ignore[attr-defined]
        print(f"predictions: {folder.predictions}")

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        task = self.model.config.task
        if task == "classification":
            return F.cross_entropy(logits, labels, self.class_weights, label_smoothing=self.label_smoothing)
        if task == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=self.class_weights)
        return F.mse_loss(logits, (labels - self.model.target_mean) / self.model.target_scale)

    def _collect(self, logits: Tensor, batch: Batch) -> None:
        self.collect(batch["index"], self.model.to_predictions(logits), batch["labels"])


def _class_weights(labels: Tensor, task: str, classes: int) -> Tensor:
    """Return inverse frequencies: of each class, with mean one, or of each label's positives to negatives."""
    if task == "multilabel":
        positive = labels.sum(dim=0).clamp_min(1)
        return (len(labels) - positive).clamp_min(1) / positive
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts)
