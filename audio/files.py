"""Reading recordings: what a file holds, a stretch of it, or all of it in blocks of bounded size.

soundfile decodes WAV, FLAC, Ogg Vorbis, MP3 and others and seeks to the exact sample, so a short stretch of
an hour-long file costs milliseconds and a stream needs the memory of one block. Waveforms are float32
(length, channels), in [-1, 1] for integer formats. What a header says is compared with what the file holds:
libsndfile reads a truncated or overlong WAV file as if it were whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from audio.wav_headers import find_wav_problem
from audio.writer import Writer, WriterConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole
from seqmamba.paths import expand

__all__ = ["SUFFIXES", "AudioInfo", "Writer", "WriterConfig", "blocks", "describe", "read"]

_PIECE = 2**20
"""Samples that are decoded at once: a header that promises more than there is must not take the memory."""

_UNKNOWN_LENGTH = 2**62
_MOST_RATE = 10_000_000
_FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
_SUFFIXES_OF_FORMAT = {
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (".wav", ".wave"),
    "RF64": (".wav", ".rf64", ".bwf"),
    "W64": (".w64",),
    "FLAC": (".flac",),
    "OGG": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3",),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
}
SUFFIXES = tuple(sorted({suffix for known in _SUFFIXES_OF_FORMAT.values() for suffix in known}))
"""Endings of the names of recordings; a folder's other files are no recordings."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds.

    Attributes:
        path: The file.
        frames: Number of samples in each channel.
        rate: Samples a second.
        channels: Number of channels.
        format: Container, for example ``FLAC``.
        subtype: Sample format, for example ``PCM_16``.
    """

    path: Path
    frames: int
    rate: int
    channels: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate

    @property
    def misnamed(self) -> bool:
        """Whether the file's name ends as that of another format; it is read by what it holds."""
        suffix = self.path.suffix.lower()
        return suffix in SUFFIXES and suffix not in _SUFFIXES_OF_FORMAT.get(self.format, (suffix,))


def describe(path: str | Path) -> AudioInfo:
    """Read the header of a recording.

    A FLAC file that was written to a pipe says nothing of its length and is decoded to find it.

    Args:
        path: A WAV, FLAC, Ogg Vorbis, MP3 or other file that libsndfile knows, whatever its name ends in.

    Raises:
        UserError: If the file is missing, empty, no recording, holds no samples, or a WAV header disagrees
            with the size of the file.
    """
    with _open(path) as (_, info):
        return info


def read(path: str | Path, *, start: int = 0, frames: int | None = None) -> Float[Tensor, "length channels"]:
    """Read a recording, or a stretch of it without decoding the rest.

    Args:
        path: The file.
        start: First sample of the stretch.
        frames: Number of its samples; up to the end when None.

    Raises:
        UserError: As `describe` does, and if the stretch reaches past the end, the data break off inside it,
            or a sample is no finite number.
    """
    with _open(path) as (sound, info):
        count = _length(info, start, frames)
        pieces = list(_pieces(sound, info, start, count, _PIECE))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def blocks(
    path: str | Path, size: int, *, start: int = 0, frames: int | None = None
) -> Iterator[Float[Tensor, "length channels"]]:
    """Read a recording block by block; laid end to end the blocks are what `read` returns.

    Args:
        path: The file.
        size: Samples of a block; the last block may be shorter.
        start: First sample to read.
        frames: How many to read; up to the end when None.

    Yields:
        Blocks. Only one is held at a time.

    Raises:
        UserError: As `read` does; the blocks in front of damage come first.
    """
    require_whole("size", size)
    with _open(path) as (sound, info):
        yield from _pieces(sound, info, start, _length(info, start, frames), size)


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[soundfile.SoundFile, AudioInfo]]:
    path = expand(path)
    if not path.is_file():
        raise UserError(
            f"{path}: is a folder, expected a recording" if path.is_dir() else f"{path}: no such file"
        )
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty (0 bytes)")
        problem = find_wav_problem(path)
        if problem is not None:
            raise UserError(f"{path}: {problem}", hint="copy it again, or convert it with ffmpeg or sox")
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    with file:
        try:
            # A descriptor has no name: soundfile would believe one that ends in .raw.
            sound = soundfile.SoundFile(file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{path}: is not a recording that can be read ({_reason(error)})",
                hint="convert it to WAV or FLAC",
            ) from None
        with sound:
            yield sound, _info(sound, path)


def _info(sound: soundfile.SoundFile, path: Path) -> AudioInfo:
    if not 1 <= sound.samplerate <= _MOST_RATE:
        raise UserError(f"{path}: its header gives a sampling rate of {sound.samplerate} Hz")
    frames = sound.frames if sound.frames < _UNKNOWN_LENGTH else _count(path)
    if frames < 1:
        raise UserError(f"{path}: holds no samples", hint="it is empty, or was cut off")
    return AudioInfo(path, frames, sound.samplerate, sound.channels, sound.format, sound.subtype)


def _count(path: Path) -> int:
    """Count the samples of a file that does not say how many it has."""
    with soundfile.SoundFile(path) as sound:
        count, size = 0, max(1, _PIECE // sound.channels)
        while got := len(_decode(sound, size)):
            count += got
        return count


def _length(info: AudioInfo, start: int, frames: int | None) -> int:
    """Return the number of samples of a stretch."""
    if not 0 <= start < info.frames:
        raise UserError(f"{info.path}: start must lie within its {info.frames:,} samples, got {start:,}")
    if frames is None:
        return info.frames - start
    require_whole("frames", frames)
    if start + frames > info.frames:
        raise UserError(
            f"{info.path}: samples {start:,} to {start + frames:,} reach past its end at {info.frames:,}"
        )
    return frames


def _pieces(
    sound: soundfile.SoundFile, info: AudioInfo, start: int, count: int, size: int
) -> Iterator[Float[Tensor, "length channels"]]:
    """Yield a stretch in pieces of a size."""
    try:
        if start:
            sound.seek(start)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{info.path}: is damaged before sample {start:,} ({_reason(error)})") from None
    position, end = start, start + count
    most = max(1, _PIECE // info.channels)
    while position < end:
        parts: list[Tensor] = []
        wanted = min(size, end - position)
        while wanted:
            part = _decode(sound, min(wanted, most))
            if not len(part):
                raise UserError(
                    f"{info.path}: breaks off after sample {position:,} of {info.frames:,}",
                    hint="the file is truncated or damaged; copy it again",
                )
            _require_finite(part, info, position)
            parts.append(part)
            position, wanted = position + len(part), wanted - len(part)
        yield parts[0] if len(parts) == 1 else torch.cat(parts)


def _decode(sound: soundfile.SoundFile, count: int) -> Float[Tensor, "length channels"]:
    """Decode the next samples; fewer of them at the end, and none behind it or behind damage."""
    buffer = np.full((count, sound.channels), np.nan, dtype=np.float32)
    try:
        return torch.from_numpy(sound.read(out=buffer))
    except soundfile.LibsndfileError:
        # It decodes, then moves to where it is, which a broken file does not allow: the samples are good.
        unwritten = np.flatnonzero(np.isnan(buffer).any(axis=1))
        return torch.from_numpy(buffer[: unwritten[0] if len(unwritten) else count])


def _require_finite(waveform: Tensor, info: AudioInfo, position: int) -> None:
    if info.subtype not in _FLOAT_SUBTYPES or bool(waveform.isfinite().all()):
        return
    bad = int((~waveform.isfinite()).any(dim=1).nonzero()[0])
    raise UserError(f"{info.path}: sample {position + bad:,} is not a finite number")


def _reason(error: soundfile.LibsndfileError) -> str:
    text: str = error.error_string.strip().rstrip(".")
    return text.removeprefix("Error : ")
