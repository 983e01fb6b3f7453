"""The index of a FASTA file, in the format of ``samtools faidx``: built strictly, verified before use.

A wrong index is a silent error: it shifts every base after the irregular line. An existing ``.fai`` is used
only if each of its records leads exactly to the next header, and a file in which a line is out of step is
not indexed at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from genomics.alphabet import LEGAL_LETTERS
from genomics.files import is_gzip
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.paths import data_dir

_LINE_WIDTH = 80
_COMPRESSED_SUFFIXES = (".gz", ".bgz", ".bz2", ".zip")
_LEGAL_LINE = LEGAL_LETTERS + b"\r\n"


class _Record(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def sequence(self) -> bytes: ...


class Entry(NamedTuple):
    """One line of a ``.fai`` file: bases in all, byte offset of the first, bases and bytes in a full line."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_bytes: int

    @property
    def end(self) -> int:
        """Byte offset of the next header, if the last line ends like the others."""
        lines = -(-self.length // self.line_bases)
        return self.offset + self.length + lines * (self.line_bytes - self.line_bases)


def ensure_index(
    path: Path, *, rewrap: Callable[[Path], Iterator[_Record]]
) -> tuple[Path, Path, dict[str, int]]:
    """Make sure that a FASTA file can be read at random.

    Args:
        path: The file.
        rewrap: Reads the file strictly from start to end; used when it is compressed or irregular.

    Returns:
        The file to read (`path`, or its regular copy in the cache), its index, and the length of every
        sequence.

    Raises:
        UserError: If the file is not valid FASTA, or neither its folder nor the cache can be written.
    """
    # pyfaidx goes by the name of a file where this module goes by its first bytes.
    if not is_gzip(path) and path.suffix.lower() not in _COMPRESSED_SUFFIXES:
        beside = path.with_name(path.name + ".fai")
        for index in (beside, cached_path(path, ".fa.fai")):
            if (entries := _load(index, path)) is not None:
                return path, index, _lengths(entries)
        if (entries := _scan(path)) is not None:
            index = (
                beside if os.access(path.parent, os.W_OK) and _owned(beside) else cached_path(path, ".fa.fai")
            )
            _save(index, entries, path)
            return path, index, _lengths(entries)
    copy = cached_path(path, ".fa")
    index = copy.with_name(copy.name + ".fai")
    entries = _load(index, copy) if copy.exists() else None
    if entries is None:
        entries = _write_copy(copy, rewrap(path))
        _save(index, entries, copy)
    return copy, index, _lengths(entries)


def _lengths(entries: list[Entry]) -> dict[str, int]:
    return {entry.name: entry.length for entry in entries}


def _owned(index: Path) -> bool:
    return not index.exists() or os.access(index, os.W_OK)


def cached_path(path: Path, suffix: str) -> Path:
    """Return where the cache keeps what was made of a file; another content or place is another path.

    Args:
        path: The file.
        suffix: End of the name.
    """
    status = path.stat()
    identity = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return (
        data_dir() / "genomes" / f"{path.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}{suffix}"
    )


def _scan(path: Path) -> list[Entry] | None:
    """Index a plain file in one pass; None if any line is irregular or illegal."""
    entries: list[Entry] = []
    names: set[str] = set()
    name = ""
    length = offset = line_bases = line_bytes = position = 0
    short_seen = blank_seen = False

    with path.open("rb") as handle:
        for line in handle:
            position += len(line)
            if line.startswith(b">"):
                if name:
                    entries.append(Entry(name, length, offset, line_bases, line_bytes))
                words = line[1:].split()
                if blank_seen or (name and not length) or not words or b"\r" in line[:-2]:
                    return None
                name = words[0].decode("latin-1")
                if name in names or not (name.isascii() and name.isprintable()):
                    return None
                names.add(name)
                length, offset, line_bases, line_bytes, short_seen = 0, position, 0, 0, False
                continue
            if line.translate(None, _LEGAL_LINE) or b"\r" in line[:-2] or not name:
                return None
            bases = len(line.rstrip(b"\r\n"))
            if bases == 0:
                blank_seen = True  # harmless at the end of the file only
                continue
            if length == 0:
                line_bases, line_bytes = bases, len(line)
            whole = len(line) - bases == line_bytes - line_bases
            if blank_seen or short_seen or bases > line_bases or not (whole or not line.endswith(b"\n")):
                return None
            short_seen = bases < line_bases or not whole
            length += bases
    if not name or not length:
        return None
    if line_bytes == line_bases:
        line_bytes += 1  # a single line without a newline, at the end of the file
    return [*entries, Entry(name, length, offset, line_bases, line_bytes)]


def _load(index: Path, path: Path) -> list[Entry] | None:
    """Read an index; None if it is absent, older than the file, malformed, or does not describe the file."""
    try:
        if index.stat().st_mtime_ns < path.stat().st_mtime_ns:
            return None
        rows = [line.split("\t") for line in index.read_text("utf-8").splitlines()]
        entries = [Entry(name, *map(int, numbers)) for name, *numbers in rows]
    except (OSError, ValueError, TypeError):
        return None
    return entries if entries and _describes(entries, path) else None


def _describes(entries: list[Entry], path: Path) -> bool:
    size = path.stat().st_size
    names = {entry.name for entry in entries}
    position = 0
    with path.open("rb") as handle:
        for entry in entries:
            if entry.length < 1 or entry.line_bases < 1 or entry.line_bytes - entry.line_bases not in (1, 2):
                return False
            if not position < entry.offset < size:
                return False
            handle.seek(position)
            header = handle.read(entry.offset - position)
            words = header[1:].split(maxsplit=1)
            one_line = header.endswith(b"\n") and header.count(b"\n") == 1
            if not (header.startswith(b">") and one_line and words and words[0] == entry.name.encode()):
                return False
            if entry.end > size + 2 or not _lines_fit(entry, handle):
                return False
            position = entry.end
        handle.seek(max(position - (entry.line_bytes - entry.line_bases), 0))
        rest = handle.read()
    complete = position - (entry.line_bytes - entry.line_bases) <= size
    return len(names) == len(entries) and complete and not rest.strip()


def _lines_fit(entry: Entry, handle: BinaryIO) -> bool:
    """Say whether the first line of a sequence ends where the index says, and the last with a base."""
    first_end = entry.offset + min(entry.length, entry.line_bases)
    last_end = entry.end - (entry.line_bytes - entry.line_bases)
    for end in (first_end, last_end):
        handle.seek(end - 1)
        around = handle.read(1 + entry.line_bytes - entry.line_bases)
        if around[:1].isspace() or around[1:].strip():
            return False
    return True


def _save(index: Path, entries: list[Entry], path: Path) -> None:
    try:
        with atomic_path(index) as part:
            part.write_text("".join("\t".join(map(str, entry)) + "\n" for entry in entries), "utf-8")
        newest = max(index.stat().st_mtime_ns, path.stat().st_mtime_ns)
        os.utime(index, ns=(newest, newest))  # the file's own time may lie in the future
    except OSError as error:
        raise _unwritable(index, error) from None


def _write_copy(copy: Path, records: Iterator[_Record]) -> list[Entry]:
    entries = []
    position = 0
    try:
        with atomic_path(copy) as part, part.open("wb") as handle:
            for record in records:
                header = f">{record.name}\n".encode()
                position += handle.write(header)
                entry = Entry(record.name, len(record.sequence), position, _LINE_WIDTH, _LINE_WIDTH + 1)
                for start in range(0, entry.length, _LINE_WIDTH):
                    handle.write(record.sequence[start : start + _LINE_WIDTH] + b"\n")
                position = entry.end
                entries.append(entry)
    except OSError as error:
        raise _unwritable(copy, error) from None
    return entries


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be written ({error.strerror})",
        hint="set SEQMAMBA_DATA to a folder that can be written and has room",
    )
