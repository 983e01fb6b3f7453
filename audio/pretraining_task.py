"""Masked pretraining on recordings without labels."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from audio.augmentation import AugmentationConfig, augment
from audio.batches import LabelledWaveforms, WaveformBatch
from audio.masked_model import MaskedWaveformModel, MaskedWaveformModelConfig
from audio.masking import MaskingConfig, draw_spans, hide_samples
from seqmamba.atomic import atomic_path
from seqmamba.distributed import mean_over_processes
from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.streamed_task import StreamedTask


class Guessed(NamedTuple):
    """What a model made of the hidden frames of a batch.

    Attributes:
        guess: Logits or energies (batch, frames, outputs).
        truth: Codes or energies (batch, frames, values).
        hidden: Which frames count, (batch, frames) bool.
    """

    guess: Tensor
    truth: Tensor
    hidden: Tensor


class MaskedPretrainingTask(StreamedTask):
    """Learns to say what stands in hidden spans of recordings; `audio.finetuning` takes up what it learned.

    Only hidden frames count, and only those of true samples. Validation and test hide the same frames every
    time.

    Besides the loss, a validation logs how many codes are in use: the perplexity of the codes that are true,
    and of those that are guessed, each the mean over codebooks. A true one near 1 means that the targets say
    nothing; a guessed one near 1 that the model has collapsed and says the same of everything. For energies
    the spread of the guesses is logged, in standard deviations of the truth.

    Args:
        model: What to build. ``rate`` and ``channels`` are taken from the data.
        optimiser: AdamW and its schedule.
        masking: What is hidden.
        augmentation: How recordings are changed before; the targets are those of the changed ones. The data
            module cuts them, not ``seconds``, which would forget their true lengths.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        model: MaskedWaveformModelConfig = MaskedWaveformModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        masking: MaskingConfig = MaskingConfig(),  # noqa: B008  frozen
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(optimiser)
        if augmentation.seconds is not None:
            raise UserError(
                "augmentation.seconds: expected none, got a length",
                hint="set data.init_args.loading.crop_seconds",
            )
        self.record_hyperparameters(
            model=model, optimiser=self.optimiser_config, masking=masking, augmentation=augmentation
        )
        self.model_config, self.masking, self.augmentation = model, masking, augmentation
        self._sums: list[Tensor] = []

    @property
    def exported(self) -> MaskedWaveformModel:
        """The model, for ``RUN/pretrained``."""
        return self.model

    def configure_model(self) -> None:
        """Build the model for the rate and the channels of the data."""
        if hasattr(self, "model"):
            return
        data: LabelledWaveforms = self.trainer.datamodule  # type: ignore[attr-defined]
        config = replace(self.model_config, rate=data.rate, channels=data.channels)
        self.model = MaskedWaveformModel(config)

    def training_step(self, batch: WaveformBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: the mean over hidden frames, see `mean_over_processes`."""
        waveform, lengths = augment(batch.waveform, batch.lengths, self.model.config.rate, self.augmentation)
        guessed = self._guess(waveform, lengths, None)
        losses = self.model.targets.losses(guessed.guess, guessed.truth)
        count = mean_over_processes(guessed.hidden.sum().float())
        loss = losses.masked_fill(~guessed.hidden, 0).sum() / count.clamp_min(1)
        self.log_loss(loss, len(lengths))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of an earlier pass."""
        self._sums.clear()

    def validation_step(self, batch: WaveformBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        generator = torch.Generator(self.device).manual_seed(batch_idx)
        self._sums.append(self._count(self._guess(batch.waveform, batch.lengths, generator)))

    def on_validation_epoch_end(self) -> None:
        """Log what the validation part says."""
        if self.trainer.sanity_checking or not self._sums:
            return
        self.log_dict({f"val/{name}": value for name, value in self._scores().items()}, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Start as a validation does."""
        self.require_one_device()
        self._sums.clear()

    def test_step(self, batch: WaveformBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Write what the test part says to the run folder, with a report, and print it."""
        from audio.report import write_report  # matplotlib is not needed to train

        scores, folder = self._scores(), RunFolder.of(self.trainer)
        with atomic_path(folder.results) as part:
            part.write_text(json.dumps({"test": scores}, indent=2) + "\n", encoding="utf-8")
        for name, value in scores.items():
            print(f"{name:18} {value:.4f}")
        write_report(folder.path)
        print(f"results: {folder.results}")
        print(f"report:  {folder.report}")

    def _guess(self, waveform: Tensor, lengths: Tensor, generator: torch.Generator | None) -> Guessed:
        """Hide spans and let the model guess them."""
        model, frame, masking = self.model, self.model.frame, self.masking
        truth = model.targets(waveform, lengths)
        span = masking.span(frame, model.config.rate)
        frame_lengths = model.frame_lengths(lengths)
        hidden = draw_spans(frame_lengths, truth.shape[1], span, masking.share, generator)
        shown = hide_samples(waveform, lengths, hidden, frame, masking.noise, generator)
        return Guessed(model(shown, lengths, hidden), truth, hidden)

    def _count(self, guessed: Guessed) -> Tensor:
        """Return sums over hidden frames, float64: see `_scores`."""
        targets, hidden = self.model.targets, guessed.hidden
        loss = targets.losses(guessed.guess, guessed.truth)[hidden].double().sum()
        count = hidden.sum().double()
        guess, truth = guessed.guess[hidden], guessed.truth[hidden]
        if targets.config.kind == "log_mel":
            squares = [x.double().square().mean(dim=-1).sum() for x in (guess, truth)]
            return torch.stack([loss, count, *squares])
        chosen = targets.by_codebook(guess).argmax(dim=-1)  # (hidden frames, codebooks)
        right = (chosen == truth).double().mean(dim=-1).sum()
        sizes = (targets.config.codebooks, targets.config.codes)
        used = [_histogram(codes, *sizes).flatten() for codes in (truth, chosen)]
        return torch.cat((torch.stack([loss, count, right]), *used))

    def _scores(self) -> dict[str, float]:
        """Return the metrics of all that was counted.

        Raises:
            UserError: If nothing was hidden.
        """
        total = self.trainer.strategy.reduce(torch.stack(self._sums).sum(dim=0), reduce_op="sum").cpu()
        loss, count, rest = float(total[0]), float(total[1]), total[2:]
        if count == 0:
            raise UserError("masking: nothing could be hidden: the recordings are shorter than two frames")
        config = self.model.targets.config
        if config.kind == "log_mel":
            spread = math.sqrt(float(rest[0]) / max(float(rest[1]), 1e-12))
            return {"loss": loss / count, "guess_spread": spread}
        used = rest[1:].view(2, config.codebooks, config.codes)
        true, guessed = (_perplexity(part) for part in used)
        return {
            "loss": loss / count,
            "accuracy": float(rest[0]) / count,
            "code_perplexity": true,
            "guess_perplexity": guessed,
        }


def _histogram(codes: Tensor, codebooks: int, size: int) -> Tensor:
    """Count codes (n, codebooks) by codebook: (codebooks, size) float64."""
    counts = torch.zeros(codebooks, size, dtype=torch.float64, device=codes.device)
    return counts.scatter_add_(1, codes.mT, torch.ones_like(codes.mT, dtype=torch.float64))


def _perplexity(counts: Tensor) -> float:
    """Return the exponential of the entropy of the codes in use, the mean over codebooks."""
    shares = counts / counts.sum(dim=1, keepdim=True)
    return float(torch.special.entr(shares).sum(dim=1).exp().mean())
