"""Reading the recordings of a sound font.

Section numbers are those of the SoundFont Technical Specification 2.04 (E-mu Systems, 2006).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from seqmamba.errors import UserError

_CHUNK = struct.Struct("<4sI")
_HEADER = struct.Struct("<20sIIIIIBbHH")  # section 7.10
_MONO, _RIGHT, _LEFT = 1, 2, 4
_CHANNELS: dict[int, Literal["mono", "right", "left"]] = {_MONO: "mono", _RIGHT: "right", _LEFT: "left"}


class Recording(NamedTuple):
    """A recording of a sound font.

    Attributes:
        name: At most 20 characters.
        start: First sample in the font's pool.
        frames: Number of samples.
        rate: Samples a second.
        channel: ``mono``, or which of two it is.
    """

    name: str
    start: int
    frames: int
    rate: int
    channel: Literal["mono", "right", "left"]


class SoundFont:
    """The recordings of a sound font file, 16 bits each sample.

    Args:
        path: A ``.sf2`` file.

    Raises:
        UserError: If it is none, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            chunks = dict(self._chunks(file))
            for name in (b"smpl", b"shdr"):
                if name not in chunks:
                    raise UserError(f"{path}: is no sound font with recordings")
            self._pool, self._pool_bytes = chunks[b"smpl"]
            start, size = chunks[b"shdr"]
            file.seek(start)
            headers = file.read(size)
        if len(headers) != size or size % _HEADER.size:
            raise UserError(f"{path}: its list of recordings breaks off")
        self.recordings = list(self._read_headers(headers))

    def samples(self, recording: Recording) -> Int[np.ndarray, " frames"]:
        """Return the samples of a recording, int16.

        Args:
            recording: One of `recordings`.
        """
        with self.path.open("rb") as file:
            file.seek(self._pool + 2 * recording.start)
            return np.frombuffer(file.read(2 * recording.frames), dtype="<i2")

    def _chunks(self, file: BinaryIO) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Yield the name of every chunk that is no list, and where it begins and its bytes (section 3)."""
        end = self.path.stat().st_size
        position = 0
        while position + _CHUNK.size <= end:
            file.seek(position)
            name, size = _CHUNK.unpack(file.read(_CHUNK.size))
            if position == 0 and (name != b"RIFF" or file.read(4) != b"sfbk"):
                raise UserError(f"{self.path}: is no sound font (no RIFF sfbk header)")
            position += _CHUNK.size
            if position + size > end:
                raise UserError(f"{self.path}: breaks off at byte {end:,}")
            if name in (b"RIFF", b"LIST"):
                position += 4  # its kind; chunks follow
                continue
            yield name, (position, size)
            position += size + size % 2

    def _read_headers(self, headers: bytes) -> Iterator[Recording]:
        for fields in _HEADER.iter_unpack(headers):
            name, start, end, rate, kind = *fields[:3], fields[5], fields[9]
            if kind not in _CHANNELS:  # the end of the list, or of sound in the instrument's memory
                continue
            text = name.split(b"\0")[0].decode("latin-1").strip()
            if not 0 <= start < end <= self._pool_bytes // 2 or not rate:
                raise UserError(f"{self.path}: the recording {text!r} does not lie in it")
            yield Recording(text, start, end - start, rate, _CHANNELS[kind])
