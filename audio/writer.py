"""Writing recordings block by block, of any length."""

from __future__ import annotations

import os
import struct
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import soundfile
from jaxtyping import Float
from torch import Tensor

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.paths import expand

Encoding = Literal["PCM_16", "PCM_24", "FLOAT"]
_ENCODINGS: tuple[Encoding, ...] = ("PCM_16", "PCM_24", "FLOAT")
_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
_STEPS = {"PCM_16": 2**15, "PCM_24": 2**23}
_FORMATS = {".wav": "WAV", ".w64": "W64", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
_LOSSY = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}
_WAV_BYTES = 2**32 - 2**16
"""What the 32-bit sizes of a WAV header can count, less what a header needs."""

_PIECE = 2**16  # libsndfile's Vorbis encoder keeps what it is given at once on its stack


@dataclass(frozen=True)
class WriterConfig:
    """How a recording is written.

    Args:
        rate: Samples a second.
        channels: Number of channels.
        frames: Samples of each channel that will come, where that is known.
        encoding: Sample format of WAV, W64 and FLAC files; lossy formats have their own.
        keep_unfinished: Whether an error or an interruption leaves what was written so far as the file,
            complete and playable, rather than nothing.

    Raises:
        UserError: If a value is out of range.
    """

    rate: int
    channels: int = 1
    _: KW_ONLY
    frames: int | None = None
    encoding: Encoding = "PCM_16"
    keep_unfinished: bool = False

    def __post_init__(self) -> None:
        require_whole("rate", self.rate)
        require_whole("channels", self.channels)
        require_choice("encoding", self.encoding, _ENCODINGS)
        if self.frames is not None:
            require_whole("frames", self.frames, 0)


class Writer:
    """Writes a recording in the memory of one block; the file appears under its name when it is complete.

    The name's ending chooses the format: .wav, .w64, .flac, .ogg or .mp3. A WAV file that could pass 4 GiB,
    or whose length is not known before, is written as RF64 (EBU Tech 3306); if it stayed below, its header
    becomes that of a WAV file on closing, as the standard provides.

    Use it as a context manager.

    Args:
        path: The file to write.
        config: How.

    Raises:
        UserError: If the ending is not known, the format does not take the rate, channels or encoding, or
            the folder cannot be written.
    """

    def __init__(self, path: str | Path, config: WriterConfig) -> None:
        self.path, self.config = expand(path), config
        self.frames = 0
        """Samples of each channel that were written."""
        format_name = _FORMATS.get(self.path.suffix.lower())
        if format_name is None:
            raise UserError(f"{path}: expected a name that ends in {', '.join(_FORMATS)}")
        if format_name == "WAV" and _may_pass_wav(config):
            format_name = "RF64"
        self._format = format_name
        subtype = _LOSSY.get(format_name, config.encoding)
        if not soundfile.check_format(format_name, subtype):
            raise UserError(f"{path}: a {format_name} file cannot hold {subtype} samples")
        self._atomic = atomic_path(self.path)
        try:
            self._part = self._atomic.__enter__()
            self._sound = soundfile.SoundFile(
                self._part, "w", config.rate, config.channels, subtype, format=format_name
            )
        except soundfile.LibsndfileError as error:
            self._part.unlink(missing_ok=True)
            raise UserError(
                f"{path}: cannot be written with {config.channels} channels of {config.rate} Hz "
                f"({error.error_string.strip().rstrip('.')})"
            ) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sound.close()
        if kind is None or (self.config.keep_unfinished and self.frames):
            if self._format == "RF64":
                _downgrade(self._part)
            self._atomic.__exit__(None, None, None)
        else:
            self._atomic.__exit__(kind, error, trace)

    def write(self, waveform: Float[Tensor, "length channels"]) -> None:
        """Write the next samples; integer formats clip what lies outside [-1, 1].

        Args:
            waveform: Samples on any device.

        Raises:
            UserError: If the channels are not those of the file, a sample is no finite number, or the disk
                is full.
        """
        if waveform.ndim != 2 or waveform.shape[1] != self.config.channels:
            raise UserError(
                f"{self.path}: expected samples (length, {self.config.channels}), got {tuple(waveform.shape)}"
            )
        samples = waveform.detach().float().cpu()
        if not samples.isfinite().all():
            raise UserError(f"{self.path}: cannot hold a sample that is no finite number")
        if self._format not in _LOSSY and (steps := _STEPS.get(self.config.encoding)):
            # libsndfile would cut the bits off, which lowers every sample by half a step on average.
            samples = (samples * steps).round_() / steps
        for piece in samples.split(_PIECE):
            try:
                self._sound.write(piece.numpy())
            except (soundfile.LibsndfileError, AssertionError):  # the latter where it wrote a part only
                raise UserError(f"{self.path}: cannot be written further", hint="is the disk full?") from None
            self.frames += len(piece)


def _may_pass_wav(config: WriterConfig) -> bool:
    if config.frames is None:
        return True
    return config.frames * config.channels * _BYTES[config.encoding] > _WAV_BYTES


def _downgrade(path: Path) -> None:
    """Make a small RF64 file a WAV file: its table of 64-bit sizes becomes a chunk that readers skip."""
    size = os.path.getsize(path)
    with path.open("r+b") as file:
        head = file.read(20)
        length = struct.unpack("<I", head[16:])[0]
        table = file.read(length)
        if head[12:16] != b"ds64" or size > _WAV_BYTES:
            return
        data_bytes = struct.unpack("<Q", table[8:16])[0]
        file.seek(20 + length)
        while (chunk := file.read(8))[:4] != b"data":
            skip = struct.unpack("<I", chunk[4:])[0]
            file.seek(skip + skip % 2, os.SEEK_CUR)
        file.seek(-4, os.SEEK_CUR)
        file.write(struct.pack("<I", data_bytes))
        file.seek(0)
        file.write(b"RIFF" + struct.pack("<I", size - 8) + b"WAVE" + b"JUNK")
