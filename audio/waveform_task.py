"""Training of a generative model of raw waveforms: bits per sample, base 2, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audio.augmentation import AugmentationConfig, augment
from audio.batches import LabelledWaveforms, WaveformBatch
from audio.waveform_model import WaveformModel, WaveformModelConfig
from seqmamba.atomic import atomic_path
from seqmamba.distributed import mean_over_processes
from seqmamba.errors import UserError
from seqmamba.metrics import draw_resamples, percentile_interval
from seqmamba.nn.options import is_number, is_whole, require, require_bool, require_whole
from seqmamba.nn.packing import length_mask
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.segments import BackpropConfig, segmented_loss
from seqmamba.training.streamed_task import StreamedTask

_CHUNK = 2**16  # positions of a recording that are scored at once, in all rows of a batch
_RESAMPLES = 1000


@dataclass(frozen=True)
class SegmentConfig:
    """What of a recording a training step sees.

    Args:
        samples: Length of a segment, from a random place of its recording; None takes recordings whole.
        carried: The first so many samples of a segment give a state and no loss: the rest starts from it, as
            in the middle of a recording, and no gradient flows into them. With 0 all start from a fresh
            state.
        fill: Whether recordings shorter than `samples` are filled up with silence that counts, here and in
            validation and test: then the model learns that they end.

    Raises:
        UserError: If a value is out of range.
    """

    samples: int | None = None
    carried: int = 0
    fill: bool = False

    def __post_init__(self) -> None:
        if self.samples is not None:
            require_whole("segments.samples", self.samples, 2)
        most = None if self.samples is None else self.samples - 1
        require_bool("segments.fill", self.fill)
        require(self.samples is not None or not self.fill, "segments.fill", "samples to fill up to", None)
        fits = is_whole(self.carried, 0) and (most is None or self.carried <= most)
        require(fits, "segments.carried", "a whole number from 0, less than samples", self.carried)


class Scored(NamedTuple):
    """What a model found in recordings.

    Attributes:
        places: Positions of the recordings in the data module's list.
        bits: Bits of all samples of each, float64.
        samples: Their number.
    """

    places: Tensor
    bits: Float[Tensor, " batch"]
    samples: Tensor


class AutoregressiveTask(StreamedTask):
    """Learns to predict each sample from those before it, and from the recording's class if asked for.

    The loss is the mean of -log2 p over true samples: bits per sample, of the codes that the model's codec
    makes. Validation and test score recordings whole, the state carried from chunk to chunk.

    Args:
        model: What to build. ``rate`` and ``classes`` are taken from the data.
        optimiser: AdamW and its schedule.
        segments: What of a recording a step sees.
        augmentation: How training recordings are changed; `segments` cut them, not `seconds`.
        class_conditional: Whether the model learns the classes of the data.
        unconditional_share: Share of the recordings whose class is hidden in training, so that the model also
            knows what recordings of no class in particular are like.
        cuda_graphs: Whether training steps run as CUDA graphs, see `GraphedTraining`: for segments of one
            length that start from a fresh state.
        backprop: How much of a segment's graph is held at once. With ``segments.samples`` None and truncated
            it trains on whole recordings of any length.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        model: WaveformModelConfig = WaveformModelConfig(),  # noqa: B008  frozen
        optimiser: OptimiserConfig | None = None,
        segments: SegmentConfig = SegmentConfig(),
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008  frozen
        class_conditional: bool = False,
        unconditional_share: float = 0.1,
        cuda_graphs: bool = False,
        backprop: BackpropConfig = BackpropConfig(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(optimiser)
        require_bool("class_conditional", class_conditional)
        require_bool("cuda_graphs", cuda_graphs)
        if cuda_graphs and (segments.carried or not backprop.whole):
            raise UserError("cuda_graphs: expected segments without carried samples, taken whole")
        if backprop.carry:
            raise UserError(
                "backprop.carry: expected false: segments come from random places",
                hint="segments.samples null reads recordings whole, the state carried within them",
            )
        if augmentation.seconds is not None:
            raise UserError("augmentation.seconds: expected none, got a length", hint="set segments.samples")
        share = unconditional_share
        require(is_number(share) and 0 <= share <= 1, "unconditional_share", "a number from 0 to 1", share)
        self.record_hyperparameters(
            model=model,
            optimiser=self.optimiser_config,
            segments=segments,
            augmentation=augmentation,
            class_conditional=class_conditional,
            unconditional_share=share,
            cuda_graphs=cuda_graphs,
            backprop=backprop,
        )
        self.model_config, self.segments, self.augmentation = model, segments, augmentation
        self.class_conditional, self.unconditional_share = class_conditional, share
        self.cuda_graphs, self.backprop = cuda_graphs, backprop
        self._fresh: Callable[..., Tensor] | None = None
        self._scored: list[Scored] = []

    @property
    def exported(self) -> WaveformModel:
        """The model, for ``RUN/pretrained``."""
        return self.model

    def configure_model(self) -> None:
        """Build the model for the rate and the classes of the data."""
        if hasattr(self, "model"):
            return
        data: LabelledWaveforms = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.channels != 1:
            raise UserError(
                f"channels: a generative model has one, got {data.channels}", hint="set channels to 1"
            )
        classes: tuple[str, ...] = ()
        if self.class_conditional:
            if data.task != "classification":
                raise UserError(f"class_conditional: expected data of one class each, got {data.task}")
            classes = tuple(data.classes)
        length = self.segments.samples or data.max_length
        self.model = WaveformModel(
            replace(self.model_config, rate=data.rate, classes=classes, max_length=length)
        )

    def training_step(self, batch: WaveformBatch, batch_idx: int) -> Tensor:
        """Return the bits per sample of a batch of segments."""
        waveform, lengths = augment(batch.waveform, batch.lengths, self.model.config.rate, self.augmentation)
        codes, lengths, before = self._segments(waveform, lengths)
        condition = self._condition(batch)
        if condition is not None:
            hidden = torch.rand(len(condition), device=condition.device) < self.unconditional_share
            condition = condition.masked_fill(hidden, len(self.model.config.classes))
        mask = length_mask(lengths, codes.shape[1])
        carried = min(self.segments.carried, codes.shape[1] - 1)
        if carried or not self.backprop.whole:
            loss = self._carried_loss(codes, before, condition, mask, carried)
        else:
            bits = self._bits(codes, before, condition)
            count = mean_over_processes(mask.sum().float())
            loss = bits.masked_fill(~mask, 0).sum() / count.clamp_min(1)
        self.log_loss(loss, len(codes))
        return loss

    def validation_step(self, batch: WaveformBatch, batch_idx: int) -> None:
        """Score the recordings of a batch."""
        self._scored.append(self._score(batch))

    def test_step(self, batch: WaveformBatch, batch_idx: int) -> None:
        """Score the recordings of a batch."""
        self._scored.append(self._score(batch))

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of an earlier pass."""
        self._scored.clear()

    def on_test_epoch_start(self) -> None:
        """Forget the scores of an earlier pass."""
        self.require_one_device()
        self._scored.clear()

    def on_validation_epoch_end(self) -> None:
        """Log the bits per sample of the validation part."""
        if self.trainer.sanity_checking:
            return
        bits = sum(scored.bits.sum() for scored in self._scored)
        samples = sum(scored.samples.sum() for scored in self._scored)
        total = self.trainer.strategy.reduce(
            torch.stack(
                [torch.as_tensor(x, dtype=torch.float64, device=self.device) for x in (bits, samples)]
            ),
            reduce_op="sum",
        )
        if total[1] == 0:
            raise UserError("validation: the data hold no recording to validate on")
        self.log("val/loss", total[0] / total[1], prog_bar=True, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Write the bits per sample of the test part to the run folder, with a report, and print them."""
        from audio.report import write_report  # matplotlib is not needed to train

        data: LabelledWaveforms = self.trainer.datamodule  # type: ignore[attr-defined]
        places, bits, samples = (torch.cat(x).cpu().numpy() for x in zip(*self._scored, strict=True))
        results = summarise_bits(bits, samples)
        folder = RunFolder.of(self.trainer)
        with atomic_path(folder.results) as part:
            part.write_text(json.dumps({"test": results}, indent=2) + "\n", encoding="utf-8")
        with atomic_path(folder.predictions) as part:
            rows = (
                f"{data.names[i]}\t{n}\t{b / n:.6f}\n" for i, n, b in zip(places, samples, bits, strict=True)
            )
            part.write_text("name\tsamples\tbits_per_sample\n" + "".join(rows), encoding="utf-8")
        low, high = results["interval_95"]
        print(
            f"bits per sample (base 2) {results['bits_per_sample']:.4f} ({low:.4f} to {high:.4f}), "
            f"{results['recordings']:,} recordings of {results['samples']:,} samples"
        )
        write_report(folder.path)
        print(f"results: {folder.results}")
        print(f"report:  {folder.report}")

    def _segments(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes of segments, their true lengths, and the code in front of each."""
        waveform, lengths = self._filled(waveform, lengths)
        size = self.segments.samples
        silence = torch.full((len(lengths),), self.model.config.silence, device=lengths.device)
        if size is None or size >= waveform.shape[1]:
            return self.model.encode(waveform), lengths, silence
        room = (lengths - size).clamp_min(0)
        starts = (torch.rand(len(lengths), device=lengths.device) * (room + 1)).long().clamp_max(room)
        # one sample more, that in front
        places = (starts[:, None] + torch.arange(-1, size, device=lengths.device)).clamp_min(0)
        codes = self.model.encode(waveform.gather(1, places[..., None]))
        return codes[:, 1:], lengths.clamp_max(size), torch.where(starts > 0, codes[:, 0], silence)

    def _filled(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return recordings and their lengths, with silence behind short ones if that counts."""
        size = self.segments.samples
        if size is None or not self.segments.fill:
            return waveform, lengths
        waveform = F.pad(waveform, (0, 0, 0, max(0, size - waveform.shape[1])))
        return waveform * length_mask(lengths, waveform.shape[1])[..., None], lengths.clamp_min(size)

    def _bits(self, codes: Tensor, before: Tensor, condition: Tensor | None) -> Tensor:
        """Return the bits of segments that start from a fresh state."""
        if condition is None:
            condition = torch.full_like(before, len(self.model.config.classes))
        if self._fresh is None:

            def surprise(codes: Tensor, before: Tensor, condition: Tensor) -> Tensor:
                return cast(Tensor, self.model.surprise(codes, before=before, condition=condition))

            self._fresh = self.graphed(self.model, surprise) if self.cuda_graphs else surprise
        return self._fresh(codes, before, condition)

    def _carried_loss(
        self, codes: Tensor, before: Tensor, condition: Tensor | None, mask: Tensor, carried: int
    ) -> Tensor:
        """Return the mean bits behind the first ``carried`` samples, with the graph of a part at a time."""
        state = self.model.init_state(len(codes))
        if carried:
            with torch.no_grad():
                _, state = self.model.surprise(
                    codes[:, :carried], before=before, condition=condition, return_state=True
                )
            before, codes, mask = codes[:, carried - 1], codes[:, carried:], mask[:, carried:]
        total, length = mean_over_processes(mask.sum().float()).clamp_min(1), codes.shape[1]
        size = min(self.backprop.length or length, length)
        known = torch.cat((before[:, None], codes), dim=1)

        def segment(number: int, state: Any) -> tuple[Tensor, Any]:
            part = slice(number * size, min((number + 1) * size, length))
            bits, state = self.model.surprise(
                codes[:, part],
                before=known[:, part.start],
                condition=condition,
                state=state,
                return_state=True,
            )
            return bits.masked_fill(~mask[:, part], 0).sum() / total, state

        count, truncate = -(-length // size), self.backprop.truncate
        return segmented_loss(segment, count, state, self.model.parameters(), truncate=truncate).loss

    def _condition(self, batch: WaveformBatch) -> Tensor | None:
        return batch.target if self.class_conditional else None

    def _score(self, batch: WaveformBatch) -> Scored:
        """Score recordings whole, the state carried from chunk to chunk."""
        waveform, lengths = self._filled(batch.waveform, batch.lengths)
        codes, condition = self.model.encode(waveform), self._condition(batch)
        mask = length_mask(lengths, codes.shape[1])
        total = torch.zeros(len(codes), dtype=torch.float64, device=codes.device)
        state = before = None
        chunk = max(1, _CHUNK // len(codes))
        for part, true in zip(codes.split(chunk, dim=1), mask.split(chunk, dim=1), strict=True):
            bits, state = self.model.surprise(
                part, before=before, condition=condition, state=state, return_state=True
            )
            total += bits.double().masked_fill(~true, 0).sum(dim=1)
            before = part[:, -1].clone()
        return Scored(batch.index, total, lengths)


def summarise_bits(bits: Float[np.ndarray, " n"], samples: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return the bits per sample of recordings with the interval that resampling the recordings gives.

    Args:
        bits: Bits of each recording.
        samples: Its samples.
        seed: Of the resampling.
    """
    weights = draw_resamples(np.random.default_rng(seed), _RESAMPLES, len(bits))
    low, high = percentile_interval([weights @ bits / (weights @ samples)])
    return {
        "bits_per_sample": float(bits.sum() / samples.sum()),
        "interval_95": [low, high],
        "recordings": len(bits),
        "samples": int(samples.sum()),
    }
