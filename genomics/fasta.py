"""FASTA files: strict reading from start to end, and random access that survives forked workers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyfaidx

from genomics.alphabet import LEGAL_LETTERS, TokenArray, encode, illegal_letter, reverse_complement
from genomics.fasta_index import ensure_index
from genomics.files import check_file, decode_text, read_lines
from genomics.intervals import Interval, match_chrom
from seqmamba.errors import UserError, quoted
from seqmamba.file_identity import identify
from seqmamba.paths import expand


@dataclass(frozen=True, slots=True)
class FastaRecord:
    """One FASTA entry.

    Attributes:
        name: The header's first word.
        header: The whole header, without ``>``.
        sequence: The letters as in the file, lines joined; every one is accepted by `encode`.
        line: Line number of the header, from 1.
    """

    name: str
    header: str
    sequence: bytes
    line: int


def read_fasta(path: str | Path, *, unique_names: bool = True) -> Iterator[FastaRecord]:
    """Read a FASTA file from start to end, plain or gzip, and check every line of it.

    Blank lines, mixed line widths, Windows line endings, a byte order mark and a missing last newline are
    fine.

    Args:
        path: The file.
        unique_names: Refuse a name that comes twice; this remembers every name, which a stream of any
            length cannot.

    Yields:
        The records in the order of the file.

    Raises:
        UserError: With file and line: no ``>`` first, a header without a name, an empty record, a name that
            comes twice, or a letter that is no DNA; and for files that `read_lines` refuses.
    """
    path = expand(path)
    yield from parse_fasta(read_lines(path), path, unique_names=unique_names)


def parse_fasta(
    lines: Iterable[tuple[int, bytes]], path: Path, *, unique_names: bool = True
) -> Iterator[FastaRecord]:
    """Read the lines of a FASTA file, or of the part of another file that is FASTA; see `read_fasta`.

    Args:
        lines: Line numbers, and lines without trailing white space.
        path: The file, for messages.
        unique_names: See `read_fasta`.
    """
    seen: dict[str, int] = {}
    name = header = ""
    header_line = 0
    parts: list[bytes] = []

    def finish() -> FastaRecord:
        if not parts:
            raise UserError(
                f"{path}:{header_line}: record {name!r} has no sequence",
                hint="the file may be truncated; complete the record or remove it",
            )
        return FastaRecord(name, header, b"".join(parts), header_line)

    for number, line in lines:
        if line.startswith(b">"):
            if name:
                yield finish()
            header, header_line, parts = decode_text(line[1:]).strip(), number, []
            name = _name(header, number, seen if unique_names else {}, path)
        elif not line:
            continue
        elif not name:
            raise UserError(
                f"{path}:{number}: a FASTA file starts with '>', got {decode_text(line[:20])!r}",
                hint="check that this is the right file",
            )
        else:
            if line.translate(None, LEGAL_LETTERS):
                raise _illegal(line, number, path)
            parts.append(line)
    if not name:
        raise UserError(f"{path}: holds no FASTA record, only blank lines")
    yield finish()


def _name(header: str, number: int, seen: dict[str, int], path: Path) -> str:
    """Return the first word of a header, after checking that it is there and new."""
    if not header:
        raise UserError(f"{path}:{number}: the header has no name after '>'")
    name = header.split(maxsplit=1)[0]
    if name in seen:
        raise UserError(
            f"{path}:{number}: the name {name!r} was already used at line {seen[name]}",
            hint="every sequence needs its own name (the header up to the first space)",
        )
    seen[name] = number
    return name


def _illegal(line: bytes, number: int, path: Path) -> UserError:
    text = decode_text(line)
    legal = LEGAL_LETTERS.decode("ascii")
    column = next(i for i, letter in enumerate(text) if letter not in legal)
    return illegal_letter(text[column], f"{path}:{number}: column {column + 1}")


class Fasta:
    """Random access to the sequences of a FASTA file.

    Reads through pyfaidx. A pyfaidx handle that crosses a fork shares its file position with the parent and
    silently returns wrong bases (pyfaidx issues 92 and 211), so every process opens its own on first use; an
    instance may be passed to workers by fork or by pickling. Gzip and bgzip files, and files whose lines are
    too irregular for an index, are read once in full and copied, unpacked and re-wrapped, into the cache.

    Args:
        path: A plain, gzip or bgzip FASTA file. Its index (``.fai``) is checked and rebuilt when stale, and
            goes to the cache where the folder cannot be written.

    Raises:
        UserError: If the file cannot be read or is not FASTA.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_file(path)
        if not self.path.is_file():
            raise UserError(
                f"{self.path}: is a pipe; random access needs a file", hint="write it to disk first"
            )
        self._indexed, self._index_file, self._lengths = ensure_index(self.path, rewrap=read_fasta)
        self._identity = identify(self._indexed)
        self._aliases: dict[str, str] = {}  # comparing with all names of a draft genome takes its time
        self._reader: pyfaidx.Faidx | None = None
        self._reader_pid = -1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all sequences, in the order of the file."""
        return tuple(self._lengths)

    def length(self, name: str) -> int:
        """Return the number of bases of a sequence.

        Raises:
            UserError: If there is no sequence of that name.
        """
        return self._lengths[self.resolve(name)]

    def resolve(self, name: str) -> str:
        """Return the file's own spelling of a name: ``chr1`` finds ``1`` and the other way round.

        Raises:
            UserError: If there is no sequence of that name.
        """
        if name in self._lengths:
            return name
        found = self._aliases.get(name) or match_chrom(name, self._lengths)
        if found is None:
            known = ", ".join(list(self._lengths)[:5]) + (", ..." if len(self._lengths) > 5 else "")
            raise UserError(f"{self.path}: has no sequence named {quoted(name)}", hint=f"it has {known}")
        self._aliases[name] = found
        return found

    def place(self, interval: Interval, source: str) -> Interval:
        """Return an interval of another file under this file's own name of the sequence.

        Args:
            interval: 0-based and half-open; the name of its sequence with or without ``chr``.
            source: Where it stands, ``file:line``, for messages.

        Raises:
            UserError: If there is no such sequence, or the interval ends past its end.
        """
        try:
            chrom = self.resolve(interval.chrom)
        except UserError as error:
            raise UserError(f"{source}: {error.message}", hint=error.hint) from None
        length = self._lengths[chrom]
        if interval.end > length:
            raise UserError(
                f"{source}: {interval} ends past the end of {chrom}, which has {length:,} bases",
                hint="check that the intervals and the genome are of the same build",
            )
        return replace(interval, chrom=chrom)

    def fetch(self, name: str, start: int, end: int, strand: str = "+") -> TokenArray:
        """Read a stretch of a sequence.

        Args:
            name: Sequence name, with or without ``chr``.
            start: First base, counted from 0.
            end: One past the last base.
            strand: "-" for the reverse complement; "+" and "." read forward.

        Returns:
            uint8 token ids, shape (end - start,).

        Raises:
            UserError: If the name is unknown, the coordinates are not inside the sequence, or the file
                changed.
        """
        letters = self.letters(name, start, end)
        try:
            tokens = encode(letters)
        except UserError as error:
            raise UserError(f"{self.path}: {name}:{start}-{end}: {error.message}", hint=error.hint) from None
        return reverse_complement(tokens) if strand == "-" else tokens

    def letters(self, name: str, start: int, end: int) -> bytes:
        """Read a stretch of a sequence as it stands in the file: lower case marks repeats in most genomes.

        Args:
            name: Sequence name, with or without ``chr``.
            start: First base, counted from 0.
            end: One past the last base.

        Returns:
            ASCII letters, ``end - start`` of them.

        Raises:
            UserError: If the name is unknown, the coordinates are not inside the sequence, or the file
                changed.
        """
        name = self.resolve(name)
        if not 0 <= start < end <= self._lengths[name]:
            raise UserError(
                f"{self.path}: {name}:{start}-{end} lies outside the {self._lengths[name]} bases there are",
                hint="coordinates are 0-based and half-open; check that the genome build is the right one",
            )
        try:
            letters: bytes = self._open().from_file(name, start + 1, end).encode("ascii")
        except (UnicodeError, pyfaidx.FetchError):
            raise self._changed() from None
        if len(letters) != end - start:
            raise self._changed()
        return letters

    def _open(self) -> pyfaidx.Faidx:
        if self._reader is None or self._reader_pid != os.getpid():
            try:
                if identify(self._indexed) != self._identity:
                    raise self._changed()
                self._reader = pyfaidx.Faidx(
                    self._indexed, indexname=self._index_file, build_index=False, rebuild=False
                )
            except OSError as error:
                raise UserError(f"{self.path}: can no longer be opened ({error})") from error
            self._reader_pid = os.getpid()
        return self._reader

    def _changed(self) -> UserError:
        return UserError(f"{self.path}: changed while it was being read", hint="start again")

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_reader": None, "_reader_pid": -1}
