"""From places in a data set to padded batches with true lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from audio.batches import WaveformBatch
from audio.datasets.order import Item
from audio.datasets.reader import ClipReader
from audio.datasets.tagging import frame_targets
from audio.events import Event
from seqmamba.errors import UserError
from seqmamba.training.shared_order import BatchRequest


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker; an exception would arrive with the worker's traceback in its message.

    Attributes:
        message: Of the error.
        hint: Of the error.
    """

    message: str
    hint: str | None


@dataclass(frozen=True)
class FramedEvents:
    """What is heard in the frames of clips.

    Attributes:
        events: Of the file of each clip, in seconds from its start.
        starts: First sample of each clip within its file.
        classes: Names of the columns.
        rate: Samples a second.
        frame: Samples of a frame.
    """

    events: Sequence[Sequence[Event]]
    starts: Sequence[int]
    classes: Sequence[str]
    rate: int
    frame: int

    def target(self, clip: int, start: int, samples: int) -> Float[Tensor, "frames classes"]:
        """Return 0 or 1 for each frame of a stretch of a clip."""
        return frame_targets(
            self.events[clip],
            self.classes,
            start=self.starts[clip] + start,
            samples=samples,
            rate=self.rate,
            frame=self.frame,
        )


class ClipBatches(Dataset[WaveformBatch | Failure]):
    """Some of the clips; the loader asks for a whole batch at a time.

    Clips are asked for by (pass, place): crops are drawn from the seed, the pass and the clip.

    Args:
        reader: Reads clips.
        places: Positions of the clips in the data set, int64.
        labels: Class numbers (n,), or labels or targets (n, k), of all clips.
        events: What is heard when, for tagging.
        crop: Samples that a clip is cut to, at random; None leaves clips whole.
        seed: Of what is drawn.
    """

    def __init__(
        self,
        reader: ClipReader,
        places: np.ndarray,
        labels: np.ndarray,
        *,
        events: FramedEvents | None,
        crop: int | None,
        seed: int,
    ) -> None:
        self._reader, self._places, self._labels = reader, places, torch.from_numpy(labels)
        self._events, self._crop, self._seed = events, crop, seed

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, request: BatchRequest) -> WaveformBatch | Failure:
        try:
            return self._batch(request.items)
        except UserError as error:
            return Failure(error.message, error.hint)

    def _batch(self, items: Sequence[Item]) -> WaveformBatch:
        clips = [int(self._places[place]) for _, place in items]
        stretches = [self._stretch(number, clip) for (number, _), clip in zip(items, clips, strict=True)]
        starts, frames = zip(*stretches, strict=True)
        index = torch.tensor(clips)
        target = self._labels[index]
        if self._events is not None:
            target = _padded([self._events.target(clip, *stretches[i]) for i, clip in enumerate(clips)])
        others = (torch.tensor(frames), target, index)
        device = self._reader.device
        return WaveformBatch(
            self._reader.read_batch(clips, starts, frames), *(x.to(device, non_blocking=True) for x in others)
        )

    def _stretch(self, number: int, clip: int) -> tuple[int, int]:
        """Return the first sample and the length of what a pass reads of a clip."""
        length = int(self._reader.lengths[clip])
        if self._crop is None or length <= self._crop:
            return 0, length
        generator = np.random.default_rng((self._seed, number, clip))
        return int(generator.integers(length - self._crop + 1)), self._crop


def _padded(targets: list[Tensor]) -> Float[Tensor, "batch frames classes"]:
    """Pad with NaN: nothing is known of frames behind the true lengths."""
    return torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=torch.nan)
