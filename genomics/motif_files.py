"""Files of motifs: MEME's text formats, and JASPAR's matrices of counts.

Biopython's reader of MEME rounds probabilities to counts of sites, wants a background that the format leaves
optional, and takes a matrix that breaks off for a shorter one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float

from genomics.files import decode_text, read_lines
from seqmamba.errors import UserError

UNINFORMATIVE = 0.25
"""Bits of a position below which any letter will do."""

_LETTERS = "ACGT"
_WIDTH = re.compile(r"\bw=\s*(\d+)")


@dataclass(frozen=True)
class NamedMotif:
    """A motif.

    Attributes:
        name: What to call it: the file's identifier, and its name behind a space where it has one.
        probabilities: Of A, C, G and T (rows) at every position.
    """

    name: str
    probabilities: Float[np.ndarray, "4 width"]

    def __len__(self) -> int:
        return self.probabilities.shape[1]

    @property
    def letters(self) -> str:
        """The likeliest letters; N where a position has less than `UNINFORMATIVE` bits."""
        chosen = np.array(list(_LETTERS))[self.probabilities.argmax(axis=0)]
        return "".join(np.where(information(self.probabilities) < UNINFORMATIVE, "N", chosen))

    def reverse_complement(self) -> NamedMotif:
        """Return the motif as it stands on the other strand."""
        return NamedMotif(self.name, self.probabilities[::-1, ::-1])


def information(probabilities: Float[np.ndarray, "4 width"]) -> Float[np.ndarray, " width"]:
    """Return the information of every position in bits (Schneider & Stephens 1990).

    Args:
        probabilities: Of A, C, G and T at every position; without the correction for small samples.
    """
    logs = np.log2(np.maximum(probabilities, 1e-300))
    return 2 + (probabilities * logs).sum(axis=0)


def read_motifs(path: str | Path) -> list[NamedMotif]:
    """Read all motifs of a file, plain or gzip.

    Args:
        path: A file of MEME (its ``letter-probability matrix`` blocks; what else it says is passed over) or
            JASPAR (``>ID NAME`` and four rows of counts, with or without letters and brackets).

    Raises:
        UserError: With file and line, if it is neither, or a matrix is not what its format has.
    """
    rows = [(number, text) for number, line in read_lines(path) if (text := decode_text(line).strip())]
    start = rows[0][1] if rows else ""
    if start.startswith("MEME version"):
        found = list(_read_meme(rows, path))
    elif start.startswith(">"):
        found = list(_read_jaspar(rows, path))
    else:
        raise UserError(
            f"{path}: expected motifs of MEME ('MEME version ...') or JASPAR ('>ID ...'), got {start[:20]!r}"
        )
    if not found:
        raise UserError(f"{path}: holds no motif")
    twice = next((a.name for a, b in pairwise(sorted(found, key=_name)) if a.name == b.name), None)
    if twice is not None:
        raise UserError(f"{path}: has the motif {twice} twice")
    return found


def _name(motif: NamedMotif) -> str:
    return motif.name


def _read_meme(rows: Sequence[tuple[int, str]], path: str | Path) -> Iterator[NamedMotif]:
    """Read the blocks of https://meme-suite.org/meme/doc/meme-format.html."""
    name = ""
    lines = iter(rows)
    for number, text in lines:
        alphabet = text.removeprefix("ALPHABET=").strip()
        if text.startswith("ALPHABET=") and alphabet != _LETTERS:
            raise UserError(f"{path}:{number}: expected the alphabet ACGT, got {alphabet}")
        if text.startswith("MOTIF"):
            name = _title(text.removeprefix("MOTIF"), f"{path}:{number}")
        if not text.startswith("letter-probability matrix:"):
            continue
        match = _WIDTH.search(text)
        if match is None or not int(match[1]) or not name:
            raise UserError(f"{path}:{number}: expected a MOTIF line, and a width in 'w= 12'")
        block = list(islice(lines, int(match[1])))
        if len(block) < int(match[1]):
            raise UserError(f"{path}:{number}: the matrix of {name} breaks off after {len(block)} rows")
        matrix = [_numbers(row, f"{path}:{line}", 4) for line, row in block]
        yield _motif(name, np.array(matrix).T, f"{path}:{number}")
        name = ""


def _read_jaspar(rows: Sequence[tuple[int, str]], path: str | Path) -> Iterator[NamedMotif]:
    """Read the format of https://jaspar.elixir.no: a title and four rows, A, C, G and T."""
    lines = iter(rows)
    for number, text in lines:
        where = f"{path}:{number}"
        if not text.startswith(">"):
            raise UserError(f"{where}: expected '>' and the identifier of a motif, got {text[:20]!r}")
        name = _title(text.removeprefix(">"), where)
        block = list(islice(lines, 4))
        matrix: list[list[float]] = []
        for letter, (line, row) in zip(_LETTERS, block, strict=False):
            if row[:1].isalpha() and row[0].upper() != letter:
                raise UserError(f"{path}:{line}: expected the counts of {letter}, got {row[:20]!r}")
            cells = row.lstrip("ACGTacgt").replace("[", " ").replace("]", " ")
            matrix.append(_numbers(cells, f"{path}:{line}", len(matrix[0]) if matrix else None))
        if len(matrix) < 4:
            raise UserError(f"{where}: expected four rows of counts of {name}, got {len(matrix)}")
        yield _motif(name, np.array(matrix), where)


def _title(text: str, where: str) -> str:
    words = text.split()
    if not words:
        raise UserError(f"{where}: the motif has no identifier")
    return " ".join(dict.fromkeys(words[:2]))


def _numbers(text: str, where: str, count: int | None) -> list[float]:
    try:
        values = [float(cell) for cell in text.split()]
    except ValueError:
        values = [math.nan]
    if not values or not all(math.isfinite(value) and value >= 0 for value in values):
        raise UserError(f"{where}: expected numbers of zero or more, got {text.strip()[:40]!r}")
    if count is not None and len(values) != count:
        raise UserError(f"{where}: expected {count} numbers, got {len(values)}")
    return values


def _motif(name: str, counts: np.ndarray, where: str) -> NamedMotif:
    totals = counts.sum(axis=0)
    if not (totals > 0).all():
        raise UserError(f"{where}: {name}: position {int(totals.argmin()) + 1} has only zeros")
    return NamedMotif(name, counts / totals)
