"""Training, validation and testing of a `WaveformClassifier`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audio.augmentation import AugmentationConfig, augment
from audio.batches import LabelledWaveforms, WaveformBatch
from audio.evaluation import EvaluationConfig, evaluate_run, write_predictions
from audio.finetuning import build_model
from audio.inference import predict_batch
from audio.mixing import MixingConfig, divergence, mix_batch, one_hot_targets
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.tagging_scores import count_tags
from audio.targets import no_labels
from seqmamba.errors import UserError
from seqmamba.nn.lora import merge_lora
from seqmamba.nn.options import is_number, require, require_choice, require_whole
from seqmamba.training.answers import AnsweringTask
from seqmamba.training.callbacks import run_seed
from seqmamba.training.distillation import DistillationConfig, Teacher
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder


class WaveformTask(AnsweringTask):
    """Classification (one class or several labels) or regression of recordings, or tagging of their frames.

    The task, the class names, the sampling rate and the scale of regression targets come from the data
    module, so a recipe need not repeat them. The loss is the divergence from the target probabilities, which
    mixing and smoothing make soft, binary cross-entropy, or the squared error of standardised targets.

    Args:
        model: What to build. ``task``, ``classes``, ``rate`` and ``channels`` may stay unset.
        optimiser: AdamW and its schedule.
        augmentation: How training recordings are changed.
        mixing: How they are mixed; not for tagging.
        crops: Where training cuts recordings: number of stretches, evenly spaced, whose predictions are
            averaged in validation and testing.
        label_smoothing: Share of the target probability spread over all classes (classification).
        balance_classes: Weigh the positives of every label by the inverse of their frequency (multi-label
            and tagging).
        choose_by: What the best epoch has: the smallest validation ``loss``, or the highest ``accuracy``.
        cuda_graphs: Whether training steps run as CUDA graphs, see `GraphedTraining`: for stretches of one
            length, which keep a GPU busy for less time than it takes to launch their kernels.
        evaluation: What a test run computes besides metrics.
        init_from: A pretrained model to begin with: its stem and backbone take the place of `model`'s.
        distil_from: A trained model whose answers are learned too; not for tagging.

    Raises:
        UserError: If a value is out of range.
    """

    validation_metrics: ClassVar[dict[str, tuple[str, ...]]] = {
        "classification": ("accuracy", "f1"),
        "multilabel": ("accuracy", "auprc"),
        "regression": ("pearson", "mae"),
    }
    positive_weights: Tensor | None

    def __init__(
        self,
        model: WaveformClassifierConfig = WaveformClassifierConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008  frozen
        mixing: MixingConfig = MixingConfig(),  # noqa: B008  frozen
        crops: int = 10,
        label_smoothing: float = 0.0,
        balance_classes: bool = False,
        choose_by: Literal["loss", "accuracy"] = "loss",
        cuda_graphs: bool = False,
        evaluation: EvaluationConfig = EvaluationConfig(),  # noqa: B008  frozen
        init_from: InitConfig | None = None,
        distil_from: DistillationConfig | None = None,
    ) -> None:
        super().__init__(optimiser)
        fits = is_number(label_smoothing) and 0 <= label_smoothing < 1
        require(fits, "label_smoothing", "a number in [0, 1)", label_smoothing)
        require_whole("crops", crops)
        require_choice("choose_by", choose_by, ("loss", "accuracy"))
        self.record_hyperparameters(
            model=model,
            optimiser=self.optimiser_config,
            augmentation=augmentation,
            mixing=mixing,
            crops=crops,
            label_smoothing=label_smoothing,
            balance_classes=balance_classes,
            choose_by=choose_by,
            cuda_graphs=cuda_graphs,
            evaluation=evaluation,
            init_from=init_from,
            distil_from=distil_from,
        )
        self.model_config = model
        self.augmentation, self.mixing, self.crops = augmentation, mixing, crops
        self.label_smoothing, self.balance_classes = label_smoothing, balance_classes
        self.cuda_graphs, self.evaluation_config = cuda_graphs, evaluation
        self.init_from, self.distil_from = init_from, distil_from
        self.teacher: Teacher | None = None
        if choose_by == "accuracy":
            self.monitor, self.monitor_mode = "val/accuracy", "max"  # type: ignore[misc]
        self.register_buffer("positive_weights", None, persistent=False)

    @property
    def exported(self) -> WaveformClassifier:
        """The model, for ``RUN/pretrained``; low-rank updates become part of its weights."""
        return merge_lora(self.model)

    def configure_model(self) -> None:
        """Build the model for the classes of the data; Lightning calls this after the data module's setup."""
        if hasattr(self, "model"):
            return
        data: LabelledWaveforms = self.trainer.datamodule  # type: ignore[attr-defined]
        config = self.model_config
        self.check_classes(config, data)
        if data.task == "unlabelled":
            raise no_labels()
        size = self.augmentation.seconds and round(self.augmentation.seconds * data.rate)
        known: Any = {"task": data.task, "classes": tuple(data.classes), "rate": data.rate}
        known |= {"channels": data.channels, "max_length": size or data.max_length, "crop_length": size}
        self.model = build_model(replace(config, **known), self.init_from, self.optimiser_config.lr)
        self._logits = self.graphed(self.model, self.forward) if self.cuda_graphs else self.forward
        if self.distil_from is not None and data.task == "tagging":
            raise UserError("distil_from: expected none for tagging, whose frames no teacher answers for")
        if self.distil_from is not None and self.fitting:
            expected = {name: known[name] for name in ("task", "classes", "rate", "channels")}
            self.teacher = Teacher.read(self.distil_from, (WaveformClassifier,), **expected)
        if data.task == "tagging":
            if self.mixing.kind != "none" or not self.augmentation.keeps_events:
                raise UserError(
                    "augmentation, mixing: tagging expects no cuts, shifts, speeds, gaps or mixes, which its "
                    "labels do not follow"
                )
            if self.evaluation_config.rates:
                raise UserError("evaluation.rates: expected none for tagging")
            return
        labels = torch.as_tensor(data.labels[data.assignment == "train"])
        if data.task == "regression":
            self.standardise_targets(labels)
        elif data.task == "multilabel" and self.balance_classes:
            positive = labels.sum(dim=0).clamp_min(1)
            self.positive_weights = ((len(labels) - positive).clamp_min(1) / positive).to(self.device)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the model's logits."""
        logits: Tensor = self.model(waveform, lengths)
        return logits

    def training_step(self, batch: WaveformBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, changed and mixed."""
        config = self.model.config
        waveform, lengths = augment(batch.waveform, batch.lengths, config.rate, self.augmentation)
        target = batch.target
        if config.task == "classification":
            target = one_hot_targets(target, len(config.classes), self.label_smoothing)
        if config.task != "tagging":
            waveform, lengths, target = mix_batch(waveform, lengths, target, config.rate, self.mixing)
        # stretches of one length need no masks
        masked = config.crop_length is None
        logits = self(waveform, lengths) if masked else self._logits(waveform)
        loss = self._loss(logits, target)
        if self.teacher is not None:
            soft = self.teacher.answer(waveform, lengths if masked else None)
            loss = self.teacher.loss(loss, logits, soft, self.model)
        logged: dict[str, Any] = {"on_step": False, "on_epoch": True, "prog_bar": True, "sync_dist": True}
        self.log("train/loss", loss, batch_size=len(waveform), **logged)
        return loss

    def validation_step(self, batch: WaveformBatch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        if self.model.config.task == "tagging":
            loss = self._loss(self(batch.waveform, batch.lengths), batch.target)
        else:
            outputs = predict_batch(self.model, batch.waveform, batch.lengths, self.crops)
            loss = self._loss_of_predictions(outputs, batch.target)
            self.collect(batch.index, outputs, batch.target)
        self.log("val/loss", loss, batch_size=len(batch.index), prog_bar=True, sync_dist=True)

    def test_step(self, batch: WaveformBatch, batch_idx: int) -> None:
        """Keep a batch's predictions; of a tagger, what is right of them."""
        if self.model.config.task == "tagging":
            self._count_tags(batch)
            return
        outputs = predict_batch(self.model, batch.waveform, batch.lengths, self.crops)
        self.collect(batch.index, outputs, batch.target)

    def predict_step(self, batch: WaveformBatch, batch_idx: int) -> Tensor:
        """Return probabilities, or values in the units of the training targets, and keep them."""
        if self.model.config.task == "tagging":
            raise UserError("the model tags frames, not recordings", hint="use `seqmamba audio timeline`")
        outputs = predict_batch(self.model, batch.waveform, batch.lengths, self.crops)
        self.collect(batch.index, outputs, batch.target)
        return outputs

    def on_test_epoch_end(self) -> None:
        """Write predictions and results of the test part to the run folder."""
        evaluate_run(
            RunFolder.of(self.trainer),
            self.model,
            self.trainer.datamodule,  # type: ignore[attr-defined]
            self.answers(),
            self.evaluation_config,
            crops=self.crops,
            seed=run_seed(self.trainer),
        )

    def on_predict_epoch_end(self) -> None:
        """Write the predictions for all recordings to the run folder."""
        folder = RunFolder.of(self.trainer)
        write_predictions(folder, self.trainer.datamodule, self.answers())  # type: ignore[attr-defined]
        print(f"predictions: {folder.predictions}")

    def _count_tags(self, batch: WaveformBatch) -> None:
        """Keep what is found and right in each recording, which adds up over them."""
        config, chosen = self.model.config, self.evaluation_config
        probabilities = self.model.predict(batch.waveform, batch.lengths).double().cpu().numpy()
        counts = []
        for found, target in zip(probabilities, batch.target.cpu().numpy(), strict=True):
            known = np.isfinite(target).all(axis=1)
            counts.append(
                count_tags(
                    found[known],
                    target[known],
                    config.classes,
                    self.model.frame / config.rate,
                    chosen.events,
                    chosen.tolerance,
                )
            )
        parts, wholes = torch.from_numpy(np.stack(counts, axis=1))
        self.collect(batch.index, parts, wholes)

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        task = self.model.config.task
        if task == "classification":
            return divergence(logits, target)
        if task == "regression":
            return F.mse_loss(logits, (target - self.model.target_mean) / self.model.target_scale)
        known = target.isfinite()
        losses = F.binary_cross_entropy_with_logits(
            logits, target.nan_to_num(), pos_weight=self.positive_weights, reduction="none"
        )
        return losses.masked_fill(~known, 0).sum() / known.sum().clamp_min(1)

    def _loss_of_predictions(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of what is predicted of whole recordings, cut into pieces or not."""
        task = self.model.config.task
        if task == "classification":
            return F.nll_loss(outputs.clamp_min(1e-12).log(), target)
        if task == "regression":
            return F.mse_loss(outputs / self.model.target_scale, target / self.model.target_scale)
        with torch.autocast(outputs.device.type, enabled=False):
            return F.binary_cross_entropy(outputs.float().clamp(0, 1), target)
