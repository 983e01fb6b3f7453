"""Recordings that arrive as bytes: raw PCM or WAV from a pipe, without seeking, without an end in sight."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole

SampleFormat = Literal["u8", "s16le", "s24le", "s32le", "f32le"]
FORMATS: tuple[SampleFormat, ...] = ("u8", "s16le", "s24le", "s32le", "f32le")
_BYTES = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
_OF_WAV: dict[tuple[int, int], SampleFormat] = {
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
}
_EXTENSIBLE = 0xFFFE
_MOST_HEADER_BYTES = 2**20
_WHATEVER_COMES = {0, 0x7FFFFFFF, 0xFFFFFFFF}  # lengths that writers to a pipe give


class ByteStream(Protocol):
    """What bytes are read from, such as ``sys.stdin.buffer``."""

    def read(self, size: int, /) -> bytes:
        """Return that many bytes, fewer at the end only."""

    def read1(self, size: int, /) -> bytes:
        """Return what is there, at most that many bytes; nothing at the end only."""


@dataclass(frozen=True)
class PcmFormat:
    """How samples lie in bytes, those of all channels side by side.

    Args:
        rate: Samples a second.
        channels: Number of channels.
        samples: Sample format, in ffmpeg's names.

    Raises:
        UserError: If a value is out of range.
    """

    rate: int
    channels: int = 1
    samples: SampleFormat = "s16le"

    def __post_init__(self) -> None:
        require_whole("rate", self.rate)
        require_whole("channels", self.channels)
        require_choice("samples", self.samples, FORMATS)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a sample of all channels."""
        return _BYTES[self.samples] * self.channels


class PcmStream:
    """Reads samples as they come.

    A stream that begins as a WAV file tells its own format; its stated length is kept, if it states one.

    Args:
        stream: Where the bytes come from.
        raw: Format of bytes without a header.

    Raises:
        UserError: If the stream is empty, or has no header where ``raw`` is None, or one that is damaged or
            of an unknown sample format.
    """

    def __init__(self, stream: ByteStream, raw: PcmFormat | None = None) -> None:
        self._stream = stream
        head = stream.read(4)
        if not head:
            raise UserError("standard input: is empty")
        self._left: int | None = None
        self._rest = b""
        if head in (b"RIFF", b"RF64"):
            self.format, self._left = _read_header(stream)
        elif raw is None:
            raise UserError(
                "standard input: expected a WAV file, whose first bytes are RIFF",
                hint="for raw samples give --rate, and --samples if they are not s16le",
            )
        else:
            self.format, self._rest = raw, head

    def blocks(self, size: int) -> Iterator[Float[Tensor, "length channels"]]:
        """Yield samples while they come.

        Args:
            size: The most samples of a block; a block is shorter where no more have come yet.

        Raises:
            UserError: If a sample is no finite number.
        """
        step = self.format.frame_bytes
        while True:
            wanted = size * step - len(self._rest)
            if self._left is not None:
                wanted = min(wanted, self._left)
            data = self._stream.read1(wanted) if wanted > 0 else b""
            if self._left is not None:
                self._left -= len(data)
            joined = self._rest + data
            whole = len(joined) // step * step
            self._rest = joined[whole:]
            if whole:
                yield self._samples(joined[:whole])
            if (not data and wanted > 0) or self._left == 0:
                return  # a sample that is not whole is left out

    def _samples(self, data: bytes) -> Tensor:
        samples = _decode(data, self.format.samples).reshape(-1, self.format.channels)
        if not np.isfinite(samples).all():
            raise UserError("standard input: holds a sample that is no finite number")
        return torch.from_numpy(samples)


def _decode(data: bytes, form: SampleFormat) -> npt.NDArray[np.float32]:
    """Return samples as float32, integers scaled to [-1, 1) as libsndfile does."""
    if form == "f32le":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if form == "u8":
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if form == "s24le":
        # three bytes become the upper three of four
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    if form == "s16le":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
    return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(2**31)


def _read_header(stream: ByteStream) -> tuple[PcmFormat, int | None]:
    """Read a WAV header behind its first four bytes, up to the samples; return format and bytes of these."""
    if _exactly(stream, 8)[4:] != b"WAVE":
        raise UserError("standard input: begins as a RIFF file that is no WAV file")
    form: PcmFormat | None = None
    long_size: int | None = None
    read = 0
    while True:
        name, size = struct.unpack("<4sI", _exactly(stream, 8))
        if name == b"data":
            break
        read += size
        if read > _MOST_HEADER_BYTES:
            raise UserError("standard input: has a WAV header of more than a MiB")
        chunk = _exactly(stream, size + size % 2)
        if name == b"fmt ":
            form = _format_of(chunk)
        elif name == b"ds64" and len(chunk) >= 16:
            long_size = int(struct.unpack("<Q", chunk[8:16])[0])
    if form is None:
        raise UserError("standard input: has a WAV header that does not tell its format")
    if size in _WHATEVER_COMES:
        return form, long_size or None
    return form, size


def _format_of(chunk: bytes) -> PcmFormat:
    if len(chunk) < 16:
        raise UserError("standard input: has a damaged WAV header")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE and len(chunk) >= 26:
        kind = struct.unpack("<H", chunk[24:26])[0]
    if (kind, bits) not in _OF_WAV:
        raise UserError(
            f"standard input: has WAV samples of kind {kind} with {bits} bits, which is not known"
        )
    return PcmFormat(rate, channels, _OF_WAV[kind, bits])


def _exactly(stream: ByteStream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise UserError("standard input: ends within its WAV header")
    return data
