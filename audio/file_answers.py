"""What a function of waveforms says of files of any format, rate and length, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audio.files import AudioInfo, describe
from audio.inference import Answer, answer_batch
from audio.inventory import seconds_of
from audio.loading import load
from audio.manifests import Clip
from audio.models import WaveformClassifier
from seqmamba.errors import UserError

_LONG = 4  # times the longest waveform of training, up to which a recording is read whole
_WINDOWS = 32  # of a long recording, held at once


class FileAnswers:
    """Applies a function of a classifier to recordings, brought to its sampling rate and channels.

    A long recording is read in stretches of the length of training, whose answers are averaged, so memory
    does not depend on its length.

    Args:
        model: The classifier.
        answer: What to compute, of waveforms on its device.
        crops: Stretches of each recording whose answers are averaged, where training cut recordings.
    """

    def __init__(self, model: WaveformClassifier, answer: Answer, crops: int) -> None:
        self._config, self._answer, self._crops = model.config, answer, crops
        self._device = next(model.parameters()).device

    @torch.inference_mode()
    def of(self, clips: Sequence[Clip], *, stop: bool) -> list[Float[np.ndarray, " k"] | str]:
        """Return the answer to each recording; the reason where it cannot be read.

        Args:
            clips: The recordings.
            stop: Whether to raise at the first that cannot be read.

        Raises:
            UserError: If one cannot be read, and that is to stop.
        """
        found: list[np.ndarray | str] = [""] * len(clips)
        short: dict[int, Tensor] = {}
        for place, clip in enumerate(clips):
            try:
                info = describe(clip.path)
                if self._is_long(seconds_of(clip, info)):
                    found[place] = self._of_long(clip, info)
                else:
                    short[place] = self._load(clip, info)
            except UserError as error:
                if stop:
                    raise
                found[place] = error.message
        for place, row in zip(short, self._of_short(list(short.values())), strict=True):
            found[place] = row
        return found

    def _of_short(self, waveforms: list[Tensor]) -> Float[np.ndarray, "n k"]:
        """Answer for recordings that are in memory, side by side."""
        if not waveforms:
            return np.empty((0, 0))
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        size = self._config.crop_length
        on_device = batch.to(self._device), lengths.to(self._device)
        return answer_batch(self._answer, *on_device, size, self._crops).double().cpu().numpy()

    def _is_long(self, seconds: float) -> bool:
        """Say whether a recording is to be read in stretches."""
        known = self._config.crop_length or self._config.max_length
        times = max(_LONG, self._crops) if self._config.crop_length else _LONG
        return known is not None and seconds * self._config.rate > times * known

    def _of_long(self, clip: Clip, info: AudioInfo) -> Float[np.ndarray, " k"]:
        """Average the answers to a recording's stretches, which lie end to end."""
        size = self._config.crop_length or self._config.max_length
        assert size is not None
        seconds, whole = size / self._config.rate, seconds_of(clip, info)
        count = math.ceil(whole / seconds)
        starts = np.linspace(0, whole - seconds, count)
        total: np.ndarray | float = 0.0
        for first in range(0, count, _WINDOWS):
            parts = [self._window(clip, info, start, size) for start in starts[first : first + _WINDOWS]]
            rows = self._answer(torch.stack(parts).to(self._device), None)
            total = total + rows.double().sum(dim=0).cpu().numpy()
        return np.asarray(total) / count

    def _window(self, clip: Clip, info: AudioInfo, start: float, size: int) -> Tensor:
        """Read a stretch of exactly so many samples; resampling may leave one too few or too many."""
        waveform = self._load(clip, info, start, size / self._config.rate)[:size]
        return torch.nn.functional.pad(waveform, (0, 0, 0, size - len(waveform)))

    def _load(self, clip: Clip, info: AudioInfo, start: float = 0.0, seconds: float | None = None) -> Tensor:
        return load(
            info,
            self._config.rate,
            self._config.channels,
            start=clip.start_seconds + start,
            seconds=clip.duration_seconds if seconds is None else seconds,
        )
