"""Files written from facts, in every way that their formats allow: the facts are read back."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_checks import check_reading, check_stretches, within, write_genome
from hostile_locations import LENGTH, Location, genbank, locations
from hostile_mutations import bgzipped, gzipped, two_members
from hostile_oracles import letters_of, pyfaidx_sequences, reverse
from hostile_originals import GENOME
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_cases import expected_windows

from genomics.alphabet import decode
from genomics.annotations import read_labelled
from genomics.fasta import Fasta, read_fasta
from genomics.features import read_genbank, read_gff3
from genomics.gene_labels import CODING
from genomics.intervals import read_bed
from genomics.variants import Haplotypes, VariantWindows
from genomics.vcf import Vcf

LETTERS = "".join(random.Random(5).choices("ACGT", k=LENGTH))
Layout = Callable[[str], bytes]


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """How a text is written to a file: its line ends, byte order mark, last line and compression."""
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    last = draw(st.booleans())
    pack = draw(st.sampled_from([bytes, bytes, gzipped, bgzipped, two_members]))

    def write(text: str) -> bytes:
        whole = text if last else text.removesuffix("\n")
        return pack((mark + whole.replace("\n", ending)).encode())

    return write


def examine(check: Callable[..., None], examples: int, *arguments: Any, **cases: st.SearchStrategy) -> None:
    @settings(max_examples=examples)
    @given(**cases)
    def each(**case: Any) -> None:
        with within():
            check(*arguments, **case)

    each()


each_number = pytest.mark.parametrize(
    "examples", [25, pytest.param(400, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]
)


@pytest.fixture
def genome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fasta:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "cache"))
    return write_genome(tmp_path / "genome.fa")


names = st.text("ABCabc0123456789._|:-", min_size=1, max_size=12)
bases = st.text("ACGTNacgtnURYSWKMBDHV", min_size=1, max_size=200)
records = st.lists(
    st.tuples(names, bases, st.integers(1, 80), st.sampled_from(["", " a title", "\ttab"])),
    min_size=1,
    max_size=4,
    unique_by=lambda record: record[0],
)


def written_fasta(folder: Path, records: list[tuple[str, str, int, str]], layout: Layout, gaps: bool) -> None:
    text = ""
    for name, letters, width, title in records:
        lines = [letters[i : i + width] for i in range(0, len(letters), width)]
        text += f">{name}{title}\n" + "\n".join(lines) + ("\n\n" if gaps else "\n")
    path = folder / f"{random.Random(text).random()}.fa"
    path.write_bytes(layout(text))
    expected = {name: letters_of(letters.encode()) for name, letters, *_ in records}
    assert {record.name: letters_of(record.sequence) for record in read_fasta(path)} == expected
    fasta = Fasta(path)
    assert fasta.names == tuple(expected)
    for name, letters in expected.items():
        check_stretches(fasta, name, letters)
    assert pyfaidx_sequences(path) in (None, expected)


@each_number
def test_sequences(genome: Fasta, examples: int) -> None:
    folder = genome.path.parent
    examine(written_fasta, examples, folder, records=records, layout=layouts(), gaps=st.booleans())


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int, int, str]:
    """A chromosome as one of its names, a stretch of it from 0, and a strand."""
    chrom = draw(st.sampled_from([*GENOME, "1", "2", "MT", "CHR1"]))
    length = len(GENOME[{"1": "chr1", "2": "chr2", "MT": "chrM", "CHR1": "chr1"}.get(chrom, chrom)])
    start = draw(st.integers(0, length - 1))
    return chrom, start, draw(st.integers(start + 1, length)), draw(st.sampled_from("+-."))


def letters_at(chrom: str, start: int, end: int) -> str:
    name = {"1": "chr1", "2": "chr2", "MT": "chrM", "CHR1": "chr1"}.get(chrom, chrom)
    return letters_of(GENOME[name][start:end].encode())


def written_bed(genome: Fasta, rows: list[tuple], layout: Layout, gap: str, columns: int) -> None:
    text = 'track name="x"\n# a comment\n\n'
    for number, (chrom, start, end, strand) in enumerate(rows):
        fields = [chrom, str(start), str(end), f"peak{number}", "960", strand, str(start), str(end)]
        text += gap.join(fields[:columns]) + "\n"
    path = genome.path.with_name("x.bed")
    path.write_bytes(layout(text))
    for row, (chrom, start, end, strand) in zip(read_bed(path), rows, strict=True):
        kept = strand if columns >= 6 else "."
        place = row.interval
        assert (place.chrom, place.start, place.end, place.strand) == (chrom, start, end, kept)
        found = genome.place(place, "x")
        letters = letters_at(chrom, start, end)
        tokens = genome.fetch(found.chrom, found.start, found.end, found.strand)
        assert decode(tokens) == (reverse(letters) if kept == "-" else letters)


@each_number
def test_intervals(genome: Fasta, examples: int) -> None:
    rows = st.lists(places(), min_size=1, max_size=6)
    gap, columns = st.sampled_from(["\t", " ", "  "]), st.sampled_from([3, 4, 6, 8])
    examine(written_bed, examples, genome, rows=rows, layout=layouts(), gap=gap, columns=columns)


alleles = st.lists(st.text("ACGTacgt", min_size=1, max_size=6), min_size=1, max_size=3)


def written_vcf(genome: Fasta, rows: list[tuple], layout: Layout, samples: bool) -> None:
    windows = VariantWindows(genome, 32)
    more = "\tFORMAT\tNA1\n" if samples else "\n"
    text = f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO{more}"
    expected = []
    for (chrom, start, end, _), alts in rows:
        ref = letters_at(chrom, start, min(end, start + 7))
        text += f"{chrom}\t{start + 1}\t.\t{ref}\t{','.join(alts)}\t.\t.\t." + (
            "\tGT\t0/1\n" if samples else "\n"
        )
        expected.append((chrom, start + 1, ref, alts))
    path = genome.path.with_name("x.vcf")
    path.write_bytes(layout(text))
    for variant, (chrom, position, ref, alts) in zip(Vcf(path).variants(), expected, strict=True):
        assert (variant.chrom, variant.position, variant.ref.decode()) == (chrom, position, ref)
        assert [alt.decode() for alt in variant.alts] == alts
        for alt, found in zip(alts, windows.at(variant).alleles, strict=True):
            if isinstance(found, Haplotypes):
                whole = letters_at(chrom, 0, 10_000)
                wanted = expected_windows(whole, position, ref, letters_of(alt.encode()), 32)
                assert (decode(found.ref), decode(found.alt)) == (wanted.ref, wanted.alt)


@each_number
def test_variants(genome: Fasta, examples: int) -> None:
    rows = st.lists(st.tuples(places(), alleles), min_size=1, max_size=6)
    examine(written_vcf, examples, genome, rows=rows, layout=layouts(), samples=st.booleans())


@st.composite
def genes(draw: st.DrawFn) -> list[tuple[str, list[tuple[int, int]]]]:
    """Coding sequences on `LETTERS` that are apart: a strand, and exons from left to right."""
    cuts = sorted(draw(st.sets(st.integers(1, LENGTH - 1), min_size=2, max_size=12)))
    found = []
    while len(cuts) >= 2:
        exons = draw(st.integers(1, min(3, len(cuts) // 2)))
        found.append((draw(st.sampled_from("+-")), list(zip(cuts[::2], cuts[1::2], strict=False))[:exons]))
        cuts = cuts[2 * exons :]
    return found


def written_gff3(folder: Path, genes: list[tuple], layout: Layout, inside: bool, phases: bool) -> None:
    lines = ["##gff-version 3", f"##sequence-region TOY 1 {LENGTH}"]
    expected = [0] * LENGTH
    rows = []
    for number, (strand, exons) in enumerate(genes):
        read = 0
        total = sum(end - start for start, end in exons)
        for start, end in exons if strand == "+" else exons[::-1]:
            phase = str(-read % 3) if phases else "."
            lines.append(f"TOY\tx\tCDS\t{start + 1}\t{end}\t.\t{strand}\t{phase}\tID=c{number}")
            rows.append((start, end, strand))
            for place in range(start, end) if strand == "+" else reversed(range(start, end)):
                expected[place] = -1 if total % 3 else (1 if strand == "+" else 4) + read % 3
                read += 1
    fasta = f">TOY\n{LETTERS}\n"
    text = "\n".join(lines) + ("\n##FASTA\n" + fasta if inside else "\n###\n")
    (folder / "x.fa").write_text(fasta)
    path = folder / "x.gff3"
    path.write_bytes(layout(text))
    assert [(f.start, f.end, f.strand) for f in read_gff3(path)] == rows
    (chromosome,) = read_labelled(path if inside else [folder / "x.fa", path], CODING)
    coding = {place for start, end, _ in rows for place in range(start, end)}
    assert decode(chromosome.tokens) == LETTERS
    for place in range(LENGTH):
        assert chromosome.labels[place] in ((expected[place],) if place in coding else (0, -1))


@each_number
def test_annotation(genome: Fasta, examples: int) -> None:
    cases = {"genes": genes(), "layout": layouts(), "inside": st.booleans(), "phases": st.booleans()}
    examine(written_gff3, examples, genome.path.parent, **cases)


def written_genbank(folder: Path, places: list[Location], layout: Layout) -> None:
    features = [("CDS", place.text) for place in places]
    path = folder / "x.gb"
    path.write_bytes(layout(genbank(LETTERS, [("source", f"1..{LENGTH}"), *features, ("variation", "7^8")])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Biopython's, of parts that overlap
        (record,) = read_genbank(path)
    assert (record.name, decode(record.tokens), record.circular) == ("TOY.1", LETTERS, True)
    assert [feature.kind for feature in record.features] == ["source", *["CDS"] * len(places)]
    for feature, place in zip(record.features[1:], places, strict=True):
        letters = "".join(LETTERS[position] for position in place.positions)
        read = letters if place.strand != "-" else reverse(letters)[::-1]
        check_reading(feature, LETTERS, list(place.positions), read, mixed=place.strand == "both")
        assert feature.partial == any(mark in place.text for mark in "<>J")


@each_number
def test_locations(genome: Fasta, examples: int) -> None:
    places = st.lists(locations, min_size=1, max_size=5)
    examine(written_genbank, examples, genome.path.parent, places=places, layout=layouts())
