"""Annotated genomes: GenBank files, and the features of GFF3 files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from Bio import SeqIO
from Bio.SeqFeature import AfterPosition, BeforePosition

from genomics.alphabet import TokenArray, encode
from genomics.fasta import FastaRecord, parse_fasta
from genomics.files import check_file, decode_text, read_lines
from genomics.numbers import whole_number
from seqmamba.errors import UserError, quoted
from seqmamba.paths import expand

_GFF_COLUMNS = 9
_STRAND_OF = {1: "+", -1: "-"}
_CODON_STARTS = {"1": 0, "2": 1, "3": 2}


@dataclass(frozen=True, slots=True)
class Feature:
    """Something annotated on a sequence, in 0-based, half-open coordinates in either format.

    Attributes:
        chrom: Name of the sequence.
        kind: What it is: "CDS", "gene", "tRNA", ...
        parts: (start, end) of every stretch, left to right: exons, or the two ends of a gene across the
            origin.
        strand: "+", "-" or ".".
        partial: Whether an end lies outside the sequence (GenBank's ``<`` and ``>``, or another record).
        qualifiers: Attributes such as "gene", "product", "ID" or "Parent"; several values are joined with
            ``;``.
        phase: Bases in front of the first whole codon: column 8 of GFF3, GenBank's ``/codon_start`` less one;
            None where the file says nothing.
        order: The parts in the order of reading where that is neither left to right (+) nor right to left
            (-), such as across the origin; else None.
    """

    chrom: str
    kind: str
    parts: tuple[tuple[int, int], ...]
    strand: str
    partial: bool
    qualifiers: Mapping[str, str]
    phase: int | None = None
    order: tuple[tuple[int, int], ...] | None = None

    @property
    def in_order(self) -> tuple[tuple[int, int], ...]:
        """The parts in the order of reading, from 5' to 3'."""
        if self.order is not None:
            return self.order
        return self.parts[::-1] if self.strand == "-" else self.parts

    @property
    def start(self) -> int:
        """First base of the leftmost part."""
        return self.parts[0][0]

    @property
    def end(self) -> int:
        """One past the last base of the rightmost part."""
        return max(end for _, end in self.parts)


@dataclass(frozen=True, slots=True)
class AnnotatedSequence:
    """One GenBank record; its name is the accession with version, `circular` its topology."""

    name: str
    description: str
    tokens: TokenArray
    features: tuple[Feature, ...]
    circular: bool


def covered(features: Iterable[Feature], length: int) -> npt.NDArray[np.bool_]:
    """Mark the bases that at least one of the features covers.

    Args:
        features: Features of one sequence.
        length: Bases of that sequence.

    Returns:
        bool, shape (length,).
    """
    mask = np.zeros(length, dtype=np.bool_)
    for feature in features:
        for start, end in feature.parts:
            mask[start:end] = True
    return mask


def read_genbank(path: str | Path) -> Iterator[AnnotatedSequence]:
    """Read a GenBank file with sequences, plain or gzip.

    Args:
        path: The file, usually ``.gb``, ``.gbk`` or ``.gbff``, possibly gzipped.

    Yields:
        Its records.

    Raises:
        UserError: If the file is no GenBank, breaks off, has a record without a sequence or one of another
            length than its LOCUS line says, or letters that are no DNA.
    """
    path = expand(path)
    lines = [decode_text(line) for _, line in read_lines(path)]
    first = next((line for line in lines if line.strip()), "")
    if not first.startswith("LOCUS") and not any(line.startswith("LOCUS ") for line in lines):
        raise UserError(f"{path}: is no GenBank file (it has no LOCUS line), it starts with {first[:20]!r}")
    if next((line for line in reversed(lines) if line.strip()), "") != "//":
        raise UserError(
            f"{path}:{len(lines)}: the last record does not end with '//'",
            hint="the file is truncated; download it again",
        )
    parser = SeqIO.parse(io.StringIO("\n".join(lines) + "\n"), "genbank")
    number = 0
    while (record := _next_record(parser, path, number + 1)) is not None:
        number += 1
        yield _annotated(record, path)
    if number == 0:
        raise UserError(f"{path}: holds no GenBank record")


def _next_record(parser: Iterator[Any], path: str | Path, number: int) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            record = next(parser, None)
        except UserError:
            raise
        except Exception as error:  # Biopython raises many types for malformed text
            reason = " ".join(str(error).split())  # some quote the lines
            raise UserError(f"{path}: record {number} cannot be read as GenBank ({reason})") from error
    for warning in caught:
        if "Expected sequence length" in str(warning.message):
            raise UserError(
                f"{path}: record {number}: {warning.message}", hint="the file is damaged; download it again"
            )
    return record


def _annotated(record: Any, path: str | Path) -> AnnotatedSequence:
    where = f"{path}: record {record.id!r}"
    if not record.seq.defined:
        raise UserError(
            f"{where} has annotations but no sequence",
            hint="download the full record, 'GenBank (full)' on the NCBI site",
        )
    try:
        tokens = encode(bytes(record.seq))
    except UserError as error:
        raise UserError(f"{where}: {error.message}", hint=error.hint) from None
    features = [_from_biopython(feature, record.id, len(tokens), where) for feature in record.features]
    return AnnotatedSequence(
        name=record.id,
        description=record.description,
        tokens=tokens,
        features=tuple(feature for feature in features if feature is not None),
        circular=record.annotations.get("topology") == "circular",
    )


def _from_biopython(feature: Any, chrom: str, length: int, where: str) -> Feature | None:
    """Convert a feature; None if it lies on another record altogether, or between two bases (``7^8``)."""
    if feature.location is None:
        raise UserError(f"{where}: the location of a {feature.type!r} feature cannot be read")
    try:
        own = [part for part in feature.location.parts if part.ref is None]
        order = tuple((int(part.start), int(part.end)) for part in own)  # Biopython's is that of reading
    except (TypeError, ValueError):  # an end that is unknown, `?`
        raise UserError(f"{where}: the location of a {feature.type!r} feature is not known") from None
    order = tuple((start, end) for start, end in order if start != end)
    if not order:
        return None
    parts = tuple(sorted(order))
    if any(not 0 <= start < end <= length for start, end in parts):
        raise UserError(
            f"{where}: a {feature.type!r} feature at {feature.location} lies outside the {length} bases",
            hint="the file is damaged or annotates another sequence",
        )
    ends = [position for part in own for position in (part.start, part.end)]
    fuzzy = any(isinstance(position, BeforePosition | AfterPosition) for position in ends)
    strand = _STRAND_OF.get(feature.location.strand, ".")
    qualifiers = {key: ";".join(map(str, values)) for key, values in feature.qualifiers.items()}
    return Feature(
        chrom=chrom,
        kind=feature.type,
        parts=parts,
        strand=strand,
        partial=fuzzy or len(own) < len(feature.location.parts),
        qualifiers=qualifiers,
        phase=_CODON_STARTS.get(qualifiers.get("codon_start", "")),
        order=None if order == (parts[::-1] if strand == "-" else parts) else order,
    )


def read_gff3(path: str | Path) -> Iterator[Feature]:
    """Read the features of a GFF3 file, plain or gzip, one a line (exons of a transcript are not joined).

    GFF3 counts from 1 and includes the end; features come out 0-based and half-open. The sequences behind
    ``##FASTA``, if there are any, are skipped; `read_gff3_sequences` reads them.

    Args:
        path: The file.

    Yields:
        The features in the order of the file.

    Raises:
        UserError: With file and line, for a line without nine columns, or with impossible coordinates or
            strand; for features behind the sequences; for GTF; and for a file without any feature.
    """
    path = expand(path)
    found = sequences = False
    for number, raw in read_lines(path):
        sequences = sequences or _begins_sequences(raw)
        if sequences and b"\t" in raw and not raw.startswith(b">"):
            raise UserError(f"{path}:{number}: has columns, but sequences began above")
        if sequences or not raw or raw.startswith(b"#"):
            continue
        found = True
        yield _gff3_feature(decode_text(raw), f"{path}:{number}")
    if not found:
        raise UserError(f"{path}: holds no GFF3 feature")


def _begins_sequences(line: bytes) -> bool:
    return line.startswith((b"##FASTA", b">"))


def is_gff3(path: str | Path) -> bool:
    """Say whether the first line of a file, plain or gzip, says GFF3; nothing is read from a pipe."""
    path = check_file(path)
    return path.is_file() and next(read_lines(path))[1].startswith(b"##gff-version")


def read_gff3_sequences(path: str | Path) -> Iterator[FastaRecord]:
    """Read the sequences that stand in a GFF3 file behind its features.

    Args:
        path: The file, plain or gzip.

    Yields:
        The records in the order of the file.

    Raises:
        UserError: If there are none, or they are not FASTA.
    """
    path = expand(path)
    lines = dropwhile(lambda line: not _begins_sequences(line[1]), read_lines(path))
    yield from parse_fasta((line for line in lines if not line[1].startswith(b"#")), path)


def _gff3_feature(line: str, where: str) -> Feature:
    fields = line.split("\t")
    if len(fields) == _GFF_COLUMNS - 1:
        fields.append(".")  # trailing white space was stripped with an empty last column
    if len(fields) != _GFF_COLUMNS:
        raise UserError(f"{where}: expected {_GFF_COLUMNS} columns separated by tabs, got {len(fields)}")
    chrom, _, kind, start_text, end_text, _, strand, phase, attributes = fields
    first, end = whole_number(start_text), whole_number(end_text)
    if first is None or end is None:
        raise UserError(
            f"{where}: start and end must be whole numbers, got {quoted(start_text)} and {quoted(end_text)}"
        )
    if not 1 <= first <= end:
        raise UserError(f"{where}: expected 1 <= start <= end, got {first} and {end}")
    if strand not in ("+", "-", ".", "?"):
        raise UserError(f"{where}: strand must be +, -, . or ?, got {strand!r}")
    if phase not in (".", "0", "1", "2"):
        raise UserError(f"{where}: phase must be 0, 1, 2 or ., got {phase!r}")
    if "=" not in attributes and '"' in attributes:
        raise UserError(
            f"{where}: expected key=value in column 9, got {quoted(attributes)}",
            hint="the file is GTF; convert it to GFF3, for example with `gffread`",
        )
    pairs = (pair.partition("=") for pair in attributes.split(";") if "=" in pair)
    qualifiers = {
        unquote(key.strip()): ";".join(unquote(word) for word in value.strip().split(","))
        for key, _, value in pairs
    }
    return Feature(
        chrom=unquote(chrom),
        kind=kind,
        parts=((first - 1, end),),
        strand="." if strand == "?" else strand,
        partial=qualifiers.get("partial") == "true",
        qualifiers=qualifiers,
        phase=None if phase == "." else int(phase),
    )
