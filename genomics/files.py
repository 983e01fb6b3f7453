"""Opening the text files of the field: plain or gzip, with one clear sentence for whatever is wrong."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from seqmamba.errors import UserError
from seqmamba.paths import expand
from seqmamba.resumable import BGZF_END

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x43\x27\x41\x1a": "a 2bit file",
    b"\x1a\x45\x27\x43": "a 2bit file",
    b"%PDF": "a PDF",
}
# BGZF is gzip with a "BC" field in its head, and an empty block at its end (SAM specification, section 4.1).
_BGZF_HEAD = 14


def check_file(path: str | Path) -> Path:
    """Return the expanded path of a readable, non-empty file or pipe.

    Raises:
        UserError: If the path does not exist, is a folder, is empty, may not be read, or is longer than paths
            can be.
    """
    path = expand(path)
    try:
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{path}: is no path of a file ({error.strerror})") from None
    if not exists:
        raise UserError(
            f"{path}: no such file", hint="check the path; a relative one starts at the current folder"
        )
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: may not be read (permission denied)")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes)")
    return path


def is_gzip(path: Path) -> bool:
    """Say whether a file starts with the gzip magic number (BGZF files do, too)."""
    with path.open("rb") as handle:
        return handle.read(2) == _GZIP


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a plain or gzip text file without trailing white space; see `read_raw_lines`.

    Args:
        path: The file.

    Yields:
        Line number, from 1, and the line without trailing white space.
    """
    for number, line in read_raw_lines(path):
        yield number, line.rstrip()


def read_raw_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a plain or gzip text file as they are.

    Accepts Unix and Windows line endings, a UTF-8 byte order mark and a last line without a newline.

    Args:
        path: The file.

    Yields:
        Line number, from 1, and the line with its line ending; without the byte order mark.

    Raises:
        UserError: If the file is missing, empty, binary, damaged, truncated gzip or in old Mac line endings.
    """
    path = check_file(path)
    number = 0
    try:
        with path.open("rb") as raw, _unpacked(raw, path) as handle:
            for number, line in enumerate(handle, start=1):
                if number == 1:
                    line = line.removeprefix(_BOM)
                if b"\0" in line:
                    raise UserError(f"{path}:{number}: is not text (it holds NUL bytes)")
                if b"\r" in line and b"\r" in line.rstrip():
                    raise UserError(
                        f"{path}:{number}: has a carriage return inside a line",
                        hint="the file has old Mac line endings; convert it with `tr '\\r' '\\n'`",
                    )
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path}: the gzip data break off or are damaged after line {number} ({error})",
            hint="copy or download the file again; `gzip -t` checks it",
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read after line {number} ({error})") from error
    if number == 0:
        raise UserError(f"{path}: is empty once decompressed")


def decode_text(line: bytes) -> str:
    """Decode a header or a table row: UTF-8, or Latin-1 where the bytes are not valid UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _unpacked(raw: BufferedReader, path: Path) -> BufferedReader | gzip.GzipFile:
    """Return the text behind a file's first bytes; only peeks, so that pipes can be read, too."""
    head = raw.peek(_BGZF_HEAD)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise UserError(
                f"{path}: is {what}, expected plain or gzip text", hint="convert or unpack it first"
            )
    if not head.startswith(_GZIP):
        return raw
    if head[:4] == BGZF_END[:4] and head[12:14] == b"BC" and path.is_file():
        _check_bgzf_end(path)
    return gzip.GzipFile(fileobj=raw)


def _check_bgzf_end(path: Path) -> None:
    """Notice a bgzip file that was cut between two blocks, which gzip readers take for its end."""
    with path.open("rb") as handle:
        handle.seek(-min(len(BGZF_END), path.stat().st_size), os.SEEK_END)
        if handle.read() != BGZF_END:
            raise UserError(
                f"{path}: is truncated (the block that ends every bgzip file is missing)",
                hint="copy or download the file again; `bgzip --test` checks it",
            )
