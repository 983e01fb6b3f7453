from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomics.alphabet import decode
from genomics.features import covered, is_gff3, read_genbank, read_gff3, read_gff3_sequences
from seqmamba.errors import UserError

GENBANK = b"""LOCUS       TOY                       60 bp    DNA     circular BCT 01-JAN-2000
DEFINITION  A toy plasmid.
ACCESSION   TOY
VERSION     TOY.1
FEATURES             Location/Qualifiers
     source          1..60
                     /organism="Toy"
     CDS             3..11
                     /gene="abc"
                     /codon_start=2
                     /product="first"
     CDS             complement(<21..29)
                     /gene="def"
     CDS             join(55..60,1..2)
                     /gene="ori"
ORIGIN
        1 acgtacgtac gtacgtacgt acgtacgtac gtacgtacgt acgtacgtac gtacgtacgt
//
"""


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_genbank(tmp_path: Path, packed: bool) -> None:
    path = write(tmp_path / "x.gbk", gzip.compress(GENBANK) if packed else GENBANK)
    (record,) = read_genbank(path)
    assert (record.name, record.circular) == ("TOY.1", True)
    assert decode(record.tokens) == "ACGT" * 15
    source, first, second, third = record.features
    assert (source.kind, source.parts) == ("source", ((0, 60),))
    assert (first.start, first.end, first.strand, first.partial) == (2, 11, "+", False)
    assert first.qualifiers["gene"] == "abc"
    assert (second.parts, second.strand, second.partial) == (((20, 29),), "-", True)
    assert third.parts == ((0, 2), (54, 60))  # across the origin
    assert third.in_order == ((54, 60), (0, 2))
    assert (first.in_order, second.in_order) == (((2, 11),), ((20, 29),))
    assert (first.phase, second.phase) == (1, None)
    mask = covered([first, third], 60)
    assert np.flatnonzero(mask).tolist() == [*range(11), *range(54, 60)]


def test_features_of_other_records_are_left_out(tmp_path: Path) -> None:
    content = GENBANK.replace(b"3..11", b"J00194.1:5..9").replace(
        b"join(55..60,1..2)", b"join(55..60,J00194.1:1..2)"
    )
    (record,) = read_genbank(write(tmp_path / "x.gbk", content))
    assert [(f.parts, f.partial) for f in record.features[1:]] == [(((20, 29),), True), (((54, 60),), True)]


def test_several_genbank_records(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gbk", GENBANK + GENBANK.replace(b"TOY", b"TWO"))
    assert [record.name for record in read_genbank(path)] == ["TOY.1", "TWO.1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b">a\nACGT\n", "is no GenBank file"),
        (GENBANK[:-40], "does not end with '//'"),
        (GENBANK[:-3], "does not end with '//'"),
        (GENBANK.replace(b" gtacgtacgt\n//", b"\n//"), "record 1: Expected sequence length 60"),
        (GENBANK.replace(b"acgtacgtac gt", b"acgtacgtac gz", 1), "record 'TOY.1'.*'[zZ]'"),
        (GENBANK.partition(b"ORIGIN")[0] + b"CONTIG      join(X.1:1..60)\n//\n", "but no sequence"),
        (GENBANK.replace(b"3..11", b"3..x11..."), "location of a 'CDS' feature cannot be read"),
        (GENBANK.replace(b"3..11", b"3..911"), "'CDS' feature at .* lies outside the 60 bases"),
    ],
)  # fmt: skip
def test_broken_genbank_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "x.gbk", content)
    with pytest.raises(UserError, match=message):
        list(read_genbank(path))


@given(st.integers(0, len(GENBANK) - 1), st.binary(max_size=20), st.integers(0, 40))
@settings(max_examples=100)
def test_damaged_genbank_gives_records_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, noise: bytes, removed: int
) -> None:
    path = tmp_path_factory.mktemp("gbk") / "x.gbk"
    write(path, GENBANK[:position] + noise + GENBANK[position + removed :])
    try:
        records = list(read_genbank(path))
    except UserError:
        return
    assert all(0 <= start < end for record in records for f in record.features for start, end in f.parts)


GFF = b"""##gff-version 3
chr1\tsrc\tgene\t3\t11\t.\t+\t.\tID=g1;Name=a%3Bb;Alias=x,y

# a comment
chr1\tsrc\tCDS\t1\t1\t.\t?\t0\tParent=g1
##FASTA
>chr1
ACGT
"""


def test_gff3_counts_from_zero(tmp_path: Path) -> None:
    gene, cds = read_gff3(write(tmp_path / "x.gff3", GFF))
    assert (gene.chrom, gene.kind, gene.parts, gene.strand) == ("chr1", "gene", ((2, 11),), "+")
    assert gene.qualifiers == {"ID": "g1", "Name": "a;b", "Alias": "x;y"}
    assert (cds.parts, cds.strand) == (((0, 1),), ".")
    assert (gene.phase, cds.phase) == (None, 0)
    assert (gene.partial, cds.partial) == (False, False)


def test_the_sequences_of_gff3(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gff3", GFF.replace(b"ACGT\n", b"ACGTACGTACGT\n>chr2 title\nAC\n\nGT\n"))
    assert is_gff3(path)
    assert [(r.name, r.sequence) for r in read_gff3_sequences(path)] == [
        ("chr1", b"ACGTACGTACGT"),
        ("chr2", b"ACGT"),
    ]
    path = write(tmp_path / "y.gff3", GFF.partition(b"##FASTA")[0])
    assert len(list(read_gff3(path))) == 2
    with pytest.raises(UserError, match=r"y\.gff3: holds no FASTA record"):
        list(read_gff3_sequences(path))


def test_an_escaped_comma_does_not_part_values(tmp_path: Path) -> None:
    line = b"chr1\ts\tgene\t1\t2\t.\t+\t.\tNote=a%2Cb,c\n"
    (feature,) = read_gff3(write(tmp_path / "x.gff3", line))
    assert feature.qualifiers == {"Note": "a,b;c"}


def test_what_lies_between_two_bases_has_no_place(tmp_path: Path) -> None:
    content = GENBANK.replace(b"3..11", b"7^8").replace(b"join(55..60,1..2)", b"join(55..60,2^3)")
    (record,) = read_genbank(write(tmp_path / "x.gbk", content))
    assert [feature.parts for feature in record.features[1:]] == [((20, 29),), ((54, 60),)]


def test_parts_in_the_order_of_reading(tmp_path: Path) -> None:
    """GenBank writes complement(join(...)) from left to right; it is read from right to left."""
    content = GENBANK.replace(b"complement(<21..29)", b"complement(join(21..29,35..40))")
    content = content.replace(b"join(55..60,1..2)", b"complement(join(55..60,1..2))")
    (record,) = read_genbank(write(tmp_path / "x.gbk", content))
    _, _, spliced, origin = record.features
    assert (spliced.parts, spliced.in_order, spliced.order) == (
        *(((20, 29), (34, 40)), ((34, 40), (20, 29))),
        None,
    )
    assert origin.in_order == ((0, 2), (54, 60))
    assert origin.strand == "-"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"chr1 src gene 1 2\n", ":1: expected 9 columns"),
        (b"chr1\ts\tgene\tx\t2\t.\t+\t.\tID=1\n", ":1: start and end must be whole numbers"),
        (b"chr1\ts\tgene\t0\t2\t.\t+\t.\tID=1\n", ":1: expected 1 <= start <= end, got 0"),
        (b"chr1\ts\tgene\t3\t2\t.\t+\t.\tID=1\n", ":1: expected 1 <= start <= end"),
        (b"chr1\ts\tgene\t1\t2\t.\tplus\t.\tID=1\n", ":1: strand"),
        (b"chr1\ts\tCDS\t1\t2\t.\t+\t3\tID=1\n", ":1: phase must be 0, 1, 2 or ., got '3'"),
        (b"##gff-version 3\n", "holds no GFF3 feature"),
        (b"chr1\ts\tgene\t1_0\t2_0\t.\t+\t.\tID=1\n", ":1: start and end must be whole numbers, got '1_0'"),
        (
            b'chr1\ts\tCDS\t1\t9\t.\t+\t.\tgene_id "a"; transcript_id "b";\n',
            ":1: expected key=value in column 9",
        ),
        (GFF.replace(b"# a comment", b">chr1"), ":5: has columns, but sequences began above"),
    ],
)
def test_broken_gff3_is_refused_with_its_line(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(read_gff3(write(tmp_path / "x.gff3", line)))
