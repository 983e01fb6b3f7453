"""Reading recordings: what a file holds, a stretch of it, or all of it in blocks of bounded size.

soundfile decodes WAV, FLAC, Ogg Vorbis and MP3 and seeks to the exact sample, so a short stretch of an
hour-long file costs milliseconds and a stream needs the memory of one block. Waveforms are (length,
channels), as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.paths import expand


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        path: The file.
        sample_rate: Samples a second.
        channels: Number of channels.
        length: Number of samples in each channel.
        encoding: Container and sample format, for example ``FLAC PCM_16``.
    """

    path: Path
    sample_rate: int
    channels: int
    length: int
    encoding: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.length / self.sample_rate


def read_info(path: str | Path) -> AudioInfo:
    """Read the header of a recording.

    Args:
        path: A WAV, FLAC, Ogg Vorbis, MP3 or other file that libsndfile knows.

    Returns:
        What the header says.

    Raises:
        UserError: If the file is missing, empty or no recording.
    """
    with _open(path) as sound:
        return _info(sound, expand(path))


def read_audio(
    path: str | Path, *, start: float = 0.0, seconds: float | None = None, mono: bool = False
) -> tuple[Float[Tensor, "length channels"], int]:
    """Read a recording, or a stretch of it without decoding the rest.

    Args:
        path: The file.
        start: Where the stretch begins, in seconds; rounded to the nearest sample.
        seconds: Its length; up to the end when None.
        mono: Average the channels into one.

    Returns:
        float32 samples, in [-1, 1] for integer formats, and the sample rate.

    Raises:
        UserError: If the file cannot be read, the stretch reaches past the end, or the data break off inside
            it.
    """
    with _open(path) as sound:
        first, count = _stretch(_info(sound, expand(path)), start, seconds)
        sound.seek(first)
        waveform = _read(sound, count, path)
        if len(waveform) < count:
            raise _breaks_off(path, first + len(waveform), first + count)
        return _channels(waveform, mono), sound.samplerate


def stream_audio(
    path: str | Path,
    block: float,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    mono: bool = False,
) -> Iterator[Float[Tensor, "length channels"]]:
    """Read a recording block by block; laid end to end the blocks are what `read_audio` returns.

    Args:
        path: The file.
        block: Length of a block in seconds; the last block may be shorter.
        start: Where to begin, in seconds.
        seconds: How much to read; up to the end when None.
        mono: Average the channels into one.

    Yields:
        float32 blocks. Only one is held at a time.

    Raises:
        UserError: As `read_audio`, and for a block of less than one sample.
    """
    with _open(path) as sound:
        first, left = _stretch(_info(sound, expand(path)), start, seconds)
        size = round(block * sound.samplerate)
        if size < 1:
            raise UserError(
                f"block: expected at least one sample ({1 / sound.samplerate:g} s), got {block} s"
            )
        sound.seek(first)
        position, end = first, first + left
        while position < end:
            waveform = _read(sound, min(size, end - position), path)
            if not len(waveform):
                raise _breaks_off(path, position, end)
            position += len(waveform)
            yield _channels(waveform, mono)


@contextmanager
def _open(path: str | Path) -> Iterator[soundfile.SoundFile]:
    path = expand(path)
    if not path.is_file():
        raise UserError(
            f"{path}: is a folder, expected a recording" if path.is_dir() else f"{path}: no such file"
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes)")
    try:
        sound = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path}: is not a recording that can be read ({error.error_string.strip().rstrip('.')})",
            hint="convert it to WAV or FLAC",
        ) from None
    with sound:
        yield sound


def _info(sound: soundfile.SoundFile, path: Path) -> AudioInfo:
    return AudioInfo(path, sound.samplerate, sound.channels, sound.frames, f"{sound.format} {sound.subtype}")


def _stretch(info: AudioInfo, start: float, seconds: float | None) -> tuple[int, int]:
    """Return the first sample of a stretch and the number of its samples."""
    if not 0 <= start <= info.seconds:
        raise UserError(f"{info.path}: start must lie within its {info.seconds:g} s, got {start} s")
    first = round(start * info.sample_rate)
    if seconds is None:
        return first, info.length - first
    count = round(seconds * info.sample_rate)
    if count < 1:
        raise UserError(
            f"seconds: expected at least one sample ({1 / info.sample_rate:g} s), got {seconds} s"
        )
    if first + count > info.length:
        raise UserError(f"{info.path}: {start} s + {seconds} s reaches past its end at {info.seconds:g} s")
    return first, count


def _read(sound: soundfile.SoundFile, count: int, path: str | Path) -> Tensor:
    try:
        return torch.from_numpy(sound.read(count, dtype="float32", always_2d=True))
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path}: is damaged near sample {sound.tell():,} ({error.error_string.strip()})"
        ) from None


def _channels(waveform: Tensor, mono: bool) -> Tensor:
    return waveform.mean(dim=1, keepdim=True) if mono else waveform


def _breaks_off(path: str | Path, got: int, expected: int) -> UserError:
    return UserError(
        f"{path}: breaks off after sample {got:,} of {expected:,}",
        hint="the file is truncated; copy it again",
    )
