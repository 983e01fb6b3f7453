"""Variants as value objects: their alleles, and the two windows of bases that a model compares.

`Variant.position` is 1-based, as in VCF; every other coordinate is 0-based and half-open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from genomics.alphabet import LEGAL_LETTERS, N, TokenArray, encode, reverse_complement
from genomics.fasta import Fasta
from seqmamba.errors import UserError

SMALLEST_WINDOW = 8
_BLOCK = 16_384  # bases read at once, since neighbouring variants see almost the same window
_LARGEST_POSITION = 2**31 - 1  # of BCF and of every index
_SYMBOLIC = re.compile(rb"<[^<>\s,]+>")
_BREAKEND = re.compile(rb"[A-Za-z.]*[\[\]][^\s,\[\]]+[\[\]][A-Za-z.]*|\.[A-Za-z]+|[A-Za-z]+\.")


class Reason(StrEnum):
    """Why an allele has no scores."""

    NO_ALT = "NO_ALT"  # the row has no alternative allele
    STAR = "STAR"  # `*`: deleted by a variant further left
    SYMBOLIC = "SYMBOLIC"  # `<DEL>` and the like: no sequence
    BREAKEND = "BREAKEND"  # joins two places
    UNKNOWN_CONTIG = "UNKNOWN_CONTIG"  # the genome has no such sequence
    OUTSIDE = "OUTSIDE"  # not wholly inside the sequence, telomeres (POS 0) included
    REF_MISMATCH = "REF_MISMATCH"  # REF is not what the genome has there
    AMBIGUOUS = "AMBIGUOUS"  # the changed bases hold N or an IUPAC code, or the genome does
    NO_CHANGE = "NO_CHANGE"  # ALT equals REF
    TOO_LONG = "TOO_LONG"  # the change ends beyond a quarter of the window
    NOT_FINITE = "NOT_FINITE"  # the model returned no number


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a file of variants.

    Attributes:
        line: Line number in the file, from 1.
        chrom: Chromosome or contig as the file calls it.
        position: First base of REF, 1-based; 0 and one past the end are telomeres.
        ref: Letters of REF.
        alts: The alternative alleles, as in the file; empty where there is none.
        fields: All columns of the row, as in the file.
        ending: The line ending.
    """

    line: int
    chrom: str
    position: int
    ref: bytes
    alts: tuple[bytes, ...]
    fields: tuple[bytes, ...]
    ending: bytes


def parse_variant(
    line: int,
    chrom: str,
    position: bytes,
    ref: bytes,
    alt: bytes,
    fields: Sequence[bytes],
    ending: bytes,
    where: str,
) -> Variant:
    """Check the four columns that make a variant.

    Args:
        line: See `Variant`.
        chrom: See `Variant`.
        position: Digits.
        ref: Letters.
        alt: Alleles with commas between them, or ``.`` for none.
        fields: See `Variant`.
        ending: See `Variant`.
        where: ``file:line``, for the errors.

    Raises:
        UserError: If one of the columns is not what VCF allows there.
    """
    if not chrom or chrom != "".join(chrom.split()) or chrom.startswith("#"):
        raise UserError(f"{where}: CHROM: expected a name without white space, got {chrom!r}")
    if not (position.isdigit() and len(position) <= 10 and int(position) <= _LARGEST_POSITION):
        raise UserError(
            f"{where}: POS: expected a whole number from 0 to {_LARGEST_POSITION}, got {_text(position)}"
        )
    if not ref or ref.translate(None, LEGAL_LETTERS):
        raise UserError(f"{where}: REF: expected bases, got {_text(ref)}")
    alts = () if alt == b"." else tuple(alt.split(b","))
    for allele in alts:
        if not _is_allele(allele):
            raise UserError(
                f"{where}: ALT: expected bases, '*', '<ID>' or a breakend, got {_text(allele)}",
                hint="alleles are separated by single commas",
            )
    return Variant(line, chrom, int(position), ref, alts, tuple(fields), ending)


def _is_allele(allele: bytes) -> bool:
    if allele and not allele.translate(None, LEGAL_LETTERS):
        return True
    return allele == b"*" or any(kind.fullmatch(allele) for kind in (_SYMBOLIC, _BREAKEND))


def _text(field: bytes) -> str:
    text = field.decode("utf-8", "replace")
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _without_sequence(allele: bytes) -> Reason | None:
    """Say why an allele has no sequence, if so."""
    if not allele.translate(None, LEGAL_LETTERS):
        return None
    if allele == b"*":
        return Reason.STAR
    return Reason.SYMBOLIC if allele.startswith(b"<") else Reason.BREAKEND


@dataclass(frozen=True, slots=True, eq=False)
class Haplotypes:
    """The genome's bases around a variant, and the same with the variant in place: equally many.

    Attributes:
        ref: Token ids of the genome, shape (length,).
        alt: Token ids with the alternative allele, shape (length,).
        ref_span: The bases of `ref` that the variant may stand for: the trimmed REF allele, and for a pure
            insertion or deletion also the repeat that it could be written along, as [start, end).
        alt_span: The same of `alt`.
        substitution: Whether both alleles have the same length, so that every base keeps its place.
    """

    ref: TokenArray
    alt: TokenArray
    ref_span: tuple[int, int]
    alt_span: tuple[int, int]
    substitution: bool

    def reverse_complement(self) -> Haplotypes:
        """Return the same variant on the other strand."""
        length = len(self.ref)
        ref_span, alt_span = ((length - end, length - start) for start, end in (self.ref_span, self.alt_span))
        return Haplotypes(
            reverse_complement(self.ref),
            reverse_complement(self.alt),
            ref_span,
            alt_span,
            self.substitution,
        )


@dataclass(frozen=True, slots=True)
class Site:
    """A row of variants laid on the genome.

    Attributes:
        alleles: The windows of every alternative allele, or why there are none.
        mismatch: Whether REF differs from the genome in a base that both know.
    """

    alleles: tuple[Haplotypes | Reason, ...]
    mismatch: bool = False


class VariantWindows:
    """Cuts the windows around variants out of a genome.

    The base at `Variant.position` has index ``window // 2`` in the forward window, so ``window // 2 - 1`` in
    the reverse complement of an even one. At the ends of a sequence the window is shifted inwards, never
    padded; a sequence shorter than the window is its own window. With a variant that changes the length, both
    windows have as many bases as the shorter of the two sequences allows. Their starts agree away from the
    ends, so a deletion brings new bases in at the end of the alternative window and an insertion pushes some
    out. The change must end within a quarter of the window, so that bases remain on both sides.

    Args:
        genome: Where the windows come from; names match with and without ``chr``.
        window: Bases.

    Raises:
        UserError: If the window is too small.
    """

    def __init__(self, genome: Fasta, window: int) -> None:
        if window < SMALLEST_WINDOW:
            raise UserError(f"--window: expected at least {SMALLEST_WINDOW} bases, got {window}")
        self.window = window
        self._genome = genome
        self._contig = lru_cache(4096)(self._find_contig)
        self._block: TokenArray | None = None
        self._block_name, self._block_start = "", 0

    def at(self, variant: Variant) -> Site:
        """Lay a row on the genome.

        Args:
            variant: A row of the file.
        """
        contig = self._contig(variant.chrom)
        start = variant.position - 1
        ref = encode(variant.ref)
        fails: Reason | None = None
        mismatch = False
        if contig is None:
            fails = Reason.UNKNOWN_CONTIG
        elif not 0 <= start <= self._genome.length(contig) - len(ref):
            fails = Reason.OUTSIDE
        else:
            genome = self._fetch(contig, start, start + len(ref))
            mismatch = bool(((genome != ref) & (genome != N) & (ref != N)).any())
            fails = Reason.REF_MISMATCH if mismatch else None
        alleles = [
            _without_sequence(allele) or fails or self._haplotypes(str(contig), start, ref, encode(allele))
            for allele in variant.alts
        ]
        return Site(tuple(alleles) or (Reason.NO_ALT,), mismatch)

    def _haplotypes(self, contig: str, start: int, ref: TokenArray, alt: TokenArray) -> Haplotypes | Reason:
        """Build both windows of one allele whose REF is right."""
        offset, ref, alt = _trim(ref, alt)
        length, change = self._genome.length(contig), len(alt) - len(ref)
        width = min(self.window, length, length + change)
        if not (len(ref) or len(alt)):
            return Reason.NO_CHANGE
        if offset + max(len(ref), len(alt)) > max(1, width // 4):
            return Reason.TOO_LONG
        first = start + offset  # the first changed base
        behind = first + len(ref)  # the first base after the change
        ref_start = min(max(start - width // 2, 0), length - width)
        alt_start = min(max(start - width // 2, 0), length + change - width)
        alt_end = behind + width - (first - alt_start) - len(alt)
        left = min(ref_start, alt_start)
        genome = self._fetch(contig, left, max(ref_start + width, alt_end))
        if N in genome[first - left : behind - left] or N in ref or N in alt:
            return Reason.AMBIGUOUS
        parts = (genome[alt_start - left : first - left], alt, genome[behind - left : alt_end - left])
        ref_core = (first - ref_start, behind - ref_start)
        alt_core = (first - alt_start, first - alt_start + len(alt))
        alt_window = np.concatenate(parts)
        ref_window = genome[ref_start - left : ref_start - left + width].copy()  # lets the block go
        if not len(alt):
            before, after = _repeat(ref_window, *ref_core)
        elif not len(ref):
            before, after = _repeat(alt_window, *alt_core)
        else:
            before = after = 0
        ref_span, alt_span = ((max(a - before, 0), min(b + after, width)) for a, b in (ref_core, alt_core))
        return Haplotypes(ref_window, alt_window, ref_span, alt_span, substitution=change == 0)

    def _find_contig(self, chrom: str) -> str | None:
        try:
            return self._genome.resolve(chrom)
        except UserError:
            return None

    def _fetch(self, contig: str, start: int, end: int) -> TokenArray:
        """Read [start, end) of a sequence, from the block that was read last where it holds it."""
        if not (
            self._block is not None
            and self._block_name == contig
            and self._block_start <= start
            and end <= self._block_start + len(self._block)
        ):
            block_start = max(0, start - self.window)
            block_end = min(max(end, start + max(_BLOCK, 2 * self.window)), self._genome.length(contig))
            self._block = self._genome.fetch(contig, block_start, block_end)
            self._block_name, self._block_start = contig, block_start
        return self._block[start - self._block_start : end - self._block_start]


def _trim(ref: TokenArray, alt: TokenArray) -> tuple[int, TokenArray, TokenArray]:
    """Remove the bases that both alleles begin with, then those that both end with.

    Returns:
        How many bases were removed at the start, and what remains of both alleles.
    """
    shorter = min(len(ref), len(alt))
    differing = np.flatnonzero(ref[:shorter] != alt[:shorter])
    start = int(differing[0]) if len(differing) else shorter
    ref, alt, shorter = ref[start:], alt[start:], shorter - start
    differing = np.flatnonzero(ref[len(ref) - shorter :][::-1] != alt[len(alt) - shorter :][::-1])
    end = int(differing[0]) if len(differing) else shorter
    return start, ref[: len(ref) - end], alt[: len(alt) - end]


def _repeat(longer: TokenArray, start: int, end: int) -> tuple[int, int]:
    """Return how far [start, end) can move left and right and still leave the same sequence when removed."""
    period = end - start
    same = longer[:-period] == longer[period:]
    left, right = same[:start][::-1], same[start:]
    return int(np.argmin(np.append(left, False))), int(np.argmin(np.append(right, False)))
