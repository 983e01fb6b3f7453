"""What a WAV header says of the size of the data, against the size of the file.

The size is a 32-bit number of bytes. A writer that passes 4 GiB wraps it, one that dies leaves 0, one that
writes to a pipe leaves the largest number, and of a truncated file the header promises more than there is.
libsndfile reads what it can of all of them without a word.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEAD = 12
_CHUNK = 8
_WRAP = 2**32
_MOST_CHUNKS = 1_000
_STREAMED = {0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFF000, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFE}
"""Sizes that programs write that do not know the length: the data reach to the end of the file."""


def find_wav_problem(path: Path) -> str | None:
    """Return what is wrong with the size in a WAV header; None for files of other formats.

    Args:
        path: Any file.

    Returns:
        A clause to put behind the file's name.

    Raises:
        OSError: If the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if len(head) < _HEAD or head[:4] not in (b"RIFF", b"RIFX") or head[8:] != b"WAVE":
            return None
        order = "<" if head[:4] == b"RIFF" else ">"
        position, bytes_per_second = _HEAD, 0
        for _ in range(_MOST_CHUNKS):
            file.seek(position)
            chunk = file.read(_CHUNK)
            if len(chunk) < _CHUNK:
                return "is cut off before its samples begin"
            name, length = chunk[:4], struct.unpack(f"{order}I", chunk[4:])[0]
            position += _CHUNK
            if name == b"data":
                return _compare(length, size - position, bytes_per_second)
            if name == b"fmt " and length >= _HEAD:
                body = file.read(_HEAD)
                bytes_per_second = struct.unpack(f"{order}I", body[8:])[0] if len(body) == _HEAD else 0
            position += length + length % 2
    return "has no samples among its first thousand parts"


def _compare(promised: int, there: int, bytes_per_second: int) -> str | None:
    """Compare the size of the data with the bytes that follow."""
    if promised in _STREAMED:
        return None
    if promised == 0 and there > 1:
        return f"says that it holds 0 samples, but {there:,} bytes follow: its writer did not finish it"
    if there - promised >= _WRAP:
        return (
            f"says that it holds {promised:,} bytes of samples, but {there:,} follow: a WAV header cannot "
            "count beyond 4 GiB"
        )
    if promised > there:
        sentence = f"is truncated: its header promises {promised:,} bytes of samples, {there:,} are there"
        if bytes_per_second == 0:
            return sentence
        return f"{sentence}, {there / bytes_per_second:.3g} of {promised / bytes_per_second:.3g} s"
    return None
