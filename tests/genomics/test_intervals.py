from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genomics.intervals import Interval, match_chrom, parse_header, read_bed
from seqmamba.errors import UserError


@pytest.mark.parametrize(
    ("header", "length", "expected"),
    [
        ("chr1:100-300", 200, Interval("chr1", 100, 300)),
        ("chr1:100-300(-)", 200, Interval("chr1", 100, 300, "-")),
        ("chr1:100-300:+", 200, Interval("chr1", 100, 300, "+")),
        ("peak_7::chr1:100-300(+)", 200, Interval("chr1", 100, 300, "+")),
        ("chr1:101-300", 200, Interval("chr1", 100, 300)),  # samtools faidx: 1-based
        ("hg19_dna range=chr1:101-300 5'pad=0 strand=- x=y", 200, Interval("chr1", 100, 300, "-")),
        ("enh|chr2:1,000-2,000|x", 1000, Interval("chr2", 1000, 2000)),
        ("2L:5..10", 5, Interval("2L", 5, 10)),
        ("train_enh_0_CHR13_99137199_99137399", 200, Interval("chr13", 99137199, 99137399)),
        ("Pos chrX_10_20", 10, Interval("chrX", 10, 20)),
        ("NC_000913.2:0-4", 4, Interval("NC_000913.2", 0, 4)),
        ("chr1:100-300", 150, None),  # does not fit the sequence
        ("chr1:300-100", 200, None),
        ("chr1:0-199", 200, None),  # 1-based coordinates never start at 0
        ("sequence 12", 200, None),
        ("HLA-A*01:01-2", 5, None),
        (f"chr1:{'9' * 5_000}-3", 5, None),
        ("", 1, None),
    ],
)  # fmt: skip
def test_headers(header: str, length: int, expected: Interval | None) -> None:
    assert parse_header(header, length) == expected


chroms = st.sampled_from(["chr1", "chrX", "2", "NC_000913.2", "scaffold_12", "chrUn_KI270302v1"])


@given(
    chroms, st.integers(0, 10**9), st.integers(2, 10**6), st.sampled_from("+-."), st.sampled_from(range(4))
)
def test_written_coordinates_are_read_back(
    chrom: str, start: int, length: int, strand: str, style: int
) -> None:
    end = start + length
    suffix = "" if strand == "." else f"({strand})"
    header = [
        f"{chrom}:{start}-{end}{suffix}",
        f"name::{chrom}:{start}-{end}{suffix}",
        f"{chrom}:{start + 1}-{end}{suffix}",
        f"x range={chrom}:{start + 1}-{end} 5'pad=0" + ("" if strand == "." else f" strand={strand}"),
    ][style]
    assert parse_header(header, length) == Interval(chrom, start, end, strand)


@given(st.text(max_size=60), st.integers(0, 1000))
def test_any_header_gives_an_interval_of_the_right_length_or_none(header: str, length: int) -> None:
    interval = parse_header(header, length)
    assert interval is None or len(interval) == length


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("chr1", ["1", "2"], "1"),
        ("1", ["chr1", "chr11"], "chr1"),
        ("chrM", ["MT"], "MT"),
        ("CHR7", ["chr7"], "chr7"),
        ("chr3", ["chr1"], None),
        ("x", ["chrX", "X"], None),  # two candidates: no guess
        ("X", ["chrX", "X"], "X"),
    ],
)
def test_chromosome_aliases(name: str, known: list[str], expected: str | None) -> None:
    assert match_chrom(name, known) == expected


def test_impossible_intervals_are_refused() -> None:
    for start, end in [(-1, 5), (5, 5), (6, 5)]:
        with pytest.raises(UserError, match="0 <= start < end"):
            Interval("chr1", start, end)
    with pytest.raises(UserError, match="strand"):
        Interval("chr1", 0, 5, "plus")


def test_overlaps() -> None:
    a = Interval("chr1", 10, 20)
    assert a.overlaps(Interval("chr1", 19, 30, "-"))
    assert not a.overlaps(Interval("chr1", 20, 30))
    assert not a.overlaps(Interval("chr2", 10, 20))


def test_read_bed(tmp_path: Path) -> None:
    content = b"track name=x\n#comment\n\nchr1\t0\t10\tpeak1\t0\t-\r\nchr2 5 9\nchr3\t1\t2\t.\t0\t?\n"
    for name, data in (("x.bed", content), ("x.bed.gz", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(data)
        rows = list(read_bed(path))
        assert [row.interval for row in rows] == [
            Interval("chr1", 0, 10, "-"), Interval("chr2", 5, 9), Interval("chr3", 1, 2),
        ]  # fmt: skip
        assert [(row.name, row.line) for row in rows] == [("peak1", 4), (None, 5), (".", 6)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t1\n", ":1: expected at least 3 columns"),
        ("chr1\t1\t5\nchr1\tx\t5\n", ":2: start and end must be whole numbers"),
        ("chrom\tstart\tend\nchr1\t1\t5\n", ":1: start and end"),
        ("chr1\t5\t5\n", ":1: chr1:5-5: expected 0 <= start < end"),
        ("chr1\t-5\t5\n", ":1: chr1:-5-5"),
        ("chr1\t1_0\t2_0\n", ":1: start and end must be whole numbers, got '1_0' and '2_0'"),
        ("\t1\t5\n", ":1: the name of the chromosome is empty"),
        ("#only a comment\n", "holds no BED row"),
        ("", "is empty"),
    ],
)
def test_broken_bed_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.bed"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        list(read_bed(path))


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from([b"chr1", b"\t", b" ", b"5", b"-1", b"\n", b"x"])).map(b"".join),
    )
)
def test_any_bytes_are_bed_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bed") / "x.bed"
    path.write_bytes(content)
    try:
        rows = list(read_bed(path))
    except UserError:
        return
    assert rows
    assert all(len(row.interval) > 0 for row in rows)
