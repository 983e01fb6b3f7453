"""Reading clips at one rate and number of channels, from their files, from memory or from a device's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio.files import AudioInfo
from audio.loading import with_channels
from audio.manifests import Clip
from audio.segments import place_of, read_segment
from seqmamba.progress import Progress

_MOST_THREADS = 8


class ClipReader:
    """Clips as waveforms of one rate and number of channels; processes that load batches may share it.

    Args:
        clips: The clips.
        infos: What the file of each holds.
        rate: Samples a second.
        channels: 1 averages the channels of a file; a file with one is repeated.

    Raises:
        UserError: If a clip reaches past the end of its file.
    """

    def __init__(self, clips: Sequence[Clip], infos: Sequence[AudioInfo], rate: int, channels: int) -> None:
        self.rate, self.channels = rate, channels
        self._places = [place_of(clip, info, rate) for clip, info in zip(clips, infos, strict=True)]
        self.lengths: Int[np.ndarray, " n"] = np.array([place.frames for place in self._places], np.int64)
        self._offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        self._decoded: Tensor | None = None

    def __len__(self) -> int:
        return len(self._places)

    @property
    def bytes(self) -> int:
        """What all clips take in memory."""
        return int(self._offsets[-1]) * self.channels * 4

    @property
    def device(self) -> torch.device:
        """Where waveforms are."""
        return torch.device("cpu") if self._decoded is None else self._decoded.device

    def read(
        self, number: int, start: int = 0, frames: int | None = None
    ) -> Float[Tensor, "length channels"]:
        """Return a clip or a stretch of it.

        Args:
            number: Position of the clip.
            start: First sample of the stretch, at `rate`.
            frames: Its length; up to the clip's end when None.

        Raises:
            UserError: If it cannot be read.
        """
        place = self._places[number]
        frames = place.frames - start if frames is None else frames
        if self._decoded is not None:
            first = int(self._offsets[number]) + start
            return self._decoded[first : first + frames]
        waveform = read_segment(place.info, self.rate, place.start + start, frames)
        return with_channels(waveform, self.channels, place.info.path)

    def read_batch(
        self, numbers: Sequence[int], starts: Sequence[int], frames: Sequence[int]
    ) -> Float[Tensor, "batch length channels"]:
        """Return stretches of clips side by side, padded on the right with silence.

        On a GPU that is one look-up, which waits for nothing.

        Args:
            numbers: Positions of the clips.
            starts: First samples of the stretches, at `rate`.
            frames: Their lengths.

        Raises:
            UserError: If one cannot be read.
        """
        if self._decoded is None or self._decoded.device.type == "cpu":
            stretches = [self.read(*place) for place in zip(numbers, starts, frames, strict=True)]
            return torch.nn.utils.rnn.pad_sequence(stretches, batch_first=True)
        firsts = torch.from_numpy(self._offsets[list(numbers)]) + torch.tensor(starts)
        firsts, ends = (x.to(self.device, non_blocking=True) for x in (firsts, firsts + torch.tensor(frames)))
        places = firsts[:, None] + torch.arange(max(frames), device=self.device)
        silent = places >= ends[:, None]
        return self._decoded[places.masked_fill_(silent, 0)].masked_fill_(silent[..., None], 0)

    def decode_all(self, *, shared: bool) -> None:
        """Decode all clips into memory, once.

        Args:
            shared: Whether processes share it.

        Raises:
            UserError: If one cannot be read.
        """
        if self._decoded is not None:
            return
        decoded = torch.empty(int(self._offsets[-1]), self.channels)
        if shared:
            decoded.share_memory_()
        progress = Progress(len(self), unit="clips")

        def decode(number: int) -> None:
            decoded[self._offsets[number] : self._offsets[number + 1]] = self.read(number)

        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
        try:
            for _ in pool.map(decode, range(len(self))):
                progress.advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
        progress.finish()
        self._decoded = decoded

    def move_to(self, device: torch.device) -> None:
        """Keep what was decoded on a device.

        Args:
            device: Mostly that which trains.
        """
        if self._decoded is not None:
            self._decoded = self._decoded.to(device)
