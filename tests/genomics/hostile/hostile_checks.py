"""One hostile file: it is refused in a clear sentence, or what comes out is what the oracles say."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hostile_oracles import (
    bed_rows,
    decimal_whole,
    fasta_sequences,
    genbank_readings,
    gff3_rows,
    letters_of,
    plain_lines,
    pyfaidx_sequences,
    reverse,
    table_rows,
    text_of,
    vcf_rows,
)
from hostile_originals import GENOME, wrapped
from variant_cases import expected_windows
from written_variants import FIELDS, scored

from genomics.alphabet import decode
from genomics.annotations import read_labelled
from genomics.datasets.table import from_table, read_label_table
from genomics.fasta import Fasta, read_fasta
from genomics.features import Feature, read_genbank, read_gff3
from genomics.gene_labels import CODING, GENES, UNKNOWN
from genomics.interval_sets import read_intervals
from genomics.intervals import chrom_key, read_bed
from genomics.variant_tables import VariantTable
from genomics.variants import Haplotypes, Variant, VariantWindows
from genomics.vcf import Vcf, VcfWriter
from seqmamba.errors import UserError

SECONDS = 10.0
"""No file of a few kilobytes takes longer, however busy the machine."""

_LONGEST_MESSAGE = 1_000
T = TypeVar("T")


@contextmanager
def within(seconds: float = SECONDS) -> Iterator[None]:
    """Fail when the block takes longer, also in an endless loop."""

    def give_up(number: int, frame: Any) -> None:
        raise TimeoutError(f"took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(read: Callable[[], T], *paths: Path) -> T | None:
    """Return what a reader returns; None if it refuses, as it should, in one sentence that names a file."""
    try:
        return read()
    except UserError as error:
        message = error.message
    assert any(str(path) in message for path in paths), message
    assert message.isprintable(), message
    assert len(message) <= _LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]}"
    return None


def check_fasta(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    streamed = attempt(lambda: list(read_fasta(path)), path)
    indexed = attempt(lambda: Fasta(path), path)
    assert (streamed is None) == (indexed is None)
    if streamed is None or indexed is None:
        return False
    found = {record.name: letters_of(record.sequence) for record in streamed}
    assert list(found.values()) == list(fasta_sequences(content).values())
    assert indexed.names == tuple(found)
    for name, letters in found.items():
        check_stretches(indexed, name, letters)
    other = pyfaidx_sequences(path) if all(name.isascii() for name in found) else None
    assert other is None or other == found
    return True


def check_stretches(fasta: Fasta, name: str, letters: str) -> None:
    """Compare random access with the whole sequence, across every line border."""
    length = len(letters)
    assert fasta.length(name) == length
    assert decode(fasta.fetch(name, 0, length)) == letters
    for start in range(0, length, 7 if length < 1_000 else 997):
        for end in (start + 1, min(start + 61, length)):
            assert decode(fasta.fetch(name, start, end)) == letters[start:end]
            assert decode(fasta.fetch(name, start, end, "-")) == reverse(letters[start:end])


def check_index(path: Path, content: bytes, index: bytes) -> bool:
    """A `.fai` file of any content beside a good file changes nothing, unless the file has other bases."""
    path.write_bytes(content)
    path.with_name(path.name + ".fai").write_bytes(index)
    fasta = Fasta(path)
    assert dict.fromkeys(fasta.names) == dict.fromkeys(fasta_sequences(content))
    for name, letters in fasta_sequences(content).items():
        check_stretches(fasta, name, letters)
    return path.with_name(path.name + ".fai").read_bytes() == index


def check_bed(path: Path, content: bytes, genome: Fasta) -> bool:
    path.write_bytes(content)
    rows = attempt(lambda: list(read_bed(path)), path)
    columns = attempt(lambda: list(read_intervals(path)), path)
    if rows is None:
        assert columns is None
        return False
    for row, expected in zip(rows, bed_rows(content), strict=True):
        place = row.interval
        assert (place.chrom, place.start, place.end, place.strand) == (expected.chrom, *expected[2:5])
        assert (row.name or "") == expected.kind
        found = attempt(lambda place=place: genome.place(place, str(path)), path)  # type: ignore[misc]
        letters = _letters(place.chrom)
        assert (found is None) == (letters is None or place.end > len(letters))
        if found is not None and letters is not None:
            bases = letters[expected.start : expected.end]
            tokens = genome.fetch(found.chrom, found.start, found.end, found.strand)
            assert decode(tokens) == (reverse(bases) if expected.strand == "-" else bases)
    if columns is not None:
        assert [row[1:5] for row in columns] == [
            (i.chrom, i.start, i.end, i.strand) for i in (row.interval for row in rows)
        ]
    return True


def _letters(chrom: str) -> str | None:
    """The bases of a chromosome of the genome, whose names every file spells as it likes."""
    return {chrom_key(name): letters_of(s.encode()) for name, s in GENOME.items()}.get(chrom_key(chrom))


def check_vcf(path: Path, content: bytes, windows: VariantWindows) -> bool:
    path.write_bytes(content)

    def rows() -> list[tuple[Variant, bytes]]:
        source = Vcf(path)
        writer = VcfWriter(FIELDS, source, "x=y")
        return [(v, writer.lines(v, scored(v))) for v in source.variants() if writer.check(v) is None]

    found = attempt(rows, path)
    if found is None:
        return False
    for (variant, line), columns in zip(found, vcf_rows(content), strict=True):
        assert (variant.position, variant.ref) == (int(columns[1]), columns[3])
        assert variant.alts == (() if columns[4] == b"." else tuple(columns[4].split(b",")))
        written = line.rstrip(b"\r\n").split(b"\t")
        assert written[:7] + written[8:] == columns[:7] + columns[8:]
        _check_windows(variant, windows)
    return True


def _check_windows(variant: Variant, windows: VariantWindows) -> None:
    letters = _letters(variant.chrom)
    for alt, found in zip(variant.alts, windows.at(variant).alleles, strict=False):
        if isinstance(found, Haplotypes):
            assert letters is not None
            alleles = letters_of(variant.ref), letters_of(alt)
            expected = expected_windows(letters, variant.position, *alleles, windows.window)
            assert (decode(found.ref), decode(found.alt)) == (expected.ref, expected.alt)
            assert (found.ref_span, found.alt_span) == (expected.ref_span, expected.alt_span)


def check_labels(path: Path, content: bytes, fasta: Path) -> bool:
    path.write_bytes(content)
    table = attempt(lambda: read_label_table(path), path)
    records = attempt(lambda: from_table(fasta, path), path)
    if table is None:
        assert records is None
        return False
    assert len(table.names) == len(table.lines) == len(set(table.names))
    lines = plain_lines(content)
    for row, (name, line) in enumerate(zip(table.names, table.lines, strict=True)):
        text = text_of(lines[line - 1])
        assert name in text
        assert all(cell in text.replace('""', '"') for cell in (column[row] for column in table.columns))
    return records is not None


def check_places(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    rows = attempt(lambda: list(read_intervals(path)), path)
    if rows is None:
        return False
    for (_, chrom, start, end, strand, _), cells in zip(rows, table_rows(content), strict=True):
        assert start == decimal_whole(cells["start"])
        assert end == decimal_whole(cells["end"])
        assert chrom in [cell.strip() for cell in cells.values()]
        assert strand == (cells.get("strand", "").strip() or ".")
    return True


def check_alleles(path: Path, content: bytes, windows: VariantWindows) -> bool:
    path.write_bytes(content)
    variants = attempt(lambda: list(VariantTable(path).variants()), path)
    if variants is None:
        return False
    lines = plain_lines(content)
    for variant in variants:
        fields = [field.strip() for field in lines[variant.line - 1].split(b"\t")]
        assert variant.position in [int(field[:20]) for field in fields if field.isdigit()]
        assert variant.ref in fields
        assert not variant.alts or b",".join(variant.alts) in fields
        _check_windows(variant, windows)
    return True


def check_gff3(path: Path, content: bytes, fasta: Path) -> bool:
    path.write_bytes(content)
    features = attempt(lambda: list(read_gff3(path)), path)
    labelled = attempt(lambda: read_labelled([fasta, path], CODING), path)
    if features is None:
        assert labelled is None
        return False
    for feature, row in zip(features, gff3_rows(content), strict=True):
        assert (feature.kind, feature.parts, feature.strand) == (
            row.kind,
            ((row.start, row.end),),
            row.strand,
        )
        assert feature.phase == (None if row.phase == "." else int(row.phase))
    for chromosome in labelled or []:
        touched = [False] * len(GENOME[chromosome.name])
        for feature in features:
            if chrom_key(feature.chrom) == chrom_key(chromosome.name):
                for position in range(feature.start, min(feature.end, 2 * len(touched))):
                    touched[position % len(touched)] = True
        labels = chromosome.labels
        assert labels.shape == chromosome.tokens.shape
        assert labels.min() >= UNKNOWN
        assert all(label <= 0 or inside for label, inside in zip(labels.tolist(), touched, strict=True))
    return True


def check_genbank(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Biopython's, on what it repairs
        records = attempt(lambda: list(read_genbank(path)), path)
        labelled = attempt(lambda: read_labelled(path, GENES), path)
        if records is None:
            assert labelled is None
            return False
        expected = list(genbank_readings(content))
    for record, (name, letters, readings) in zip(records, expected, strict=True):
        assert (record.name, decode(record.tokens)) == (name, letters)
        for feature, reading in zip(record.features, readings, strict=True):
            assert feature.kind == reading.kind
            check_reading(feature, letters, reading.positions, reading.bases, mixed=reading.mixed)
    return True


def check_reading(
    feature: Feature, letters: str, positions: list[int], bases: str, *, mixed: bool = False
) -> None:
    """Compare a feature's places with positions in the order of reading, and the bases that they give."""
    if mixed:  # parts of both strands have no common order
        assert feature.strand == "."
        assert sorted(p for part in feature.parts for p in range(*part)) == sorted(positions)
        return
    backwards = feature.strand == "-"
    read = [p for part in feature.in_order for p in (reversed(range(*part)) if backwards else range(*part))]
    assert read == positions
    text = "".join(letters[position] for position in read)
    assert (reverse(text)[::-1] if backwards else text) == bases


def write_genome(path: Path) -> Fasta:
    path.write_text("".join(f">{name}\n{wrapped(letters, 60)}" for name, letters in GENOME.items()))
    return Fasta(path)
