"""Every format is read back by a reader that is not its writer."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genomics.intervals import read_bed
from genomics.track_files import (
    Intervals,
    peaks,
    split_suffix,
    track_format,
    write_bedgraph,
    write_bigwig,
    write_peaks,
)
from seqmamba.errors import UserError

LENGTHS = {"chr1": 100_000, "chr10": 50_000, "chr2": 3_000, "empty": 10}


def part(chrom: str, starts: list[int], ends: list[int], values: list[float]) -> Intervals:
    return Intervals(chrom, np.array(starts), np.array(ends), np.array(values, dtype=np.float32))


def example(n: int = 20_000) -> list[Intervals]:
    rng = np.random.default_rng(0)
    chr1 = np.arange(n)
    return [
        Intervals("chr1", chr1[: n // 2] * 5, chr1[: n // 2] * 5 + 5, rng.random(n // 2).astype(np.float32)),
        Intervals("chr1", chr1[n // 2 :] * 5, chr1[n // 2 :] * 5 + 3, rng.random(n // 2).astype(np.float32)),
        part("chr10", [], [], []),
        part("chr10", [7, 49_990], [9, 50_000], [-1.5, 3e-7]),
        part("chr2", [0], [3_000], [2.0]),
    ]


def dense(parts: list[Intervals], chrom: str) -> np.ndarray:
    values = np.full(LENGTHS[chrom], np.nan, dtype=np.float32)
    for found in parts:
        if found.chrom == chrom:
            for start, end, value in zip(*found[1:], strict=True):
                values[start:end] = value
    return values


def test_bigwig_is_read_back_by_pybigwig(tmp_path: Path) -> None:
    pyBigWig = pytest.importorskip("pyBigWig")
    bases = write_bigwig(tmp_path / "x.bw", LENGTHS, example())
    file = pyBigWig.open(str(tmp_path / "x.bw"))
    assert file.isBigWig()
    assert file.chroms() == {name: LENGTHS[name] for name in ("chr1", "chr10", "chr2")}
    total = 0
    for chrom in file.chroms():
        expected = dense(example(), chrom)
        np.testing.assert_array_equal(file.values(chrom, 0, LENGTHS[chrom], numpy=True), expected)
        total += int(np.isfinite(expected).sum())
    assert bases == total == file.header()["nBasesCovered"]
    # zoom levels: a wide view is read from summaries, which must agree with the values
    means = file.stats("chr1", 0, 100_000, nBins=4, type="mean")
    quarters = dense(example(), "chr1").reshape(4, -1)
    np.testing.assert_allclose(means, np.nanmean(quarters, axis=1), rtol=0.01)
    np.testing.assert_allclose(file.stats("chr1", type="max"), np.nanmax(quarters), rtol=1e-6)


def test_bigwig_header_follows_the_specification(tmp_path: Path) -> None:
    """Kent et al. 2010, supplementary tables 5 to 11: header, zoom headers, chromosome tree, R tree."""
    write_bigwig(tmp_path / "x.bw", LENGTHS, example())
    content = (tmp_path / "x.bw").read_bytes()
    magic, version, levels, tree, data, index = struct.unpack_from("<IHHQQQ", content)
    assert (magic, version) == (0x888FFC26, 4)
    assert levels >= 1
    zooms = [struct.unpack_from("<IIQQ", content, 64 + 24 * level) for level in range(levels)]
    reductions = [zoom[0] for zoom in zooms]
    assert reductions == sorted(set(reductions))
    assert struct.unpack_from("<I", content, len(content) - 4)[0] == 0x888FFC26  # the end is there
    # the leaves of the chromosome tree: keys in byte order, and ids in the order of the keys
    tree_magic, _, key_size, value_size, count, _ = struct.unpack_from("<IIIIQQ", content, tree)
    assert (tree_magic, value_size, count) == (0x78CA8C91, 8, 3)
    leaf, _, in_node = struct.unpack_from("<BBH", content, tree + 32)
    assert (leaf, in_node) == (1, 3)
    rows = [struct.unpack_from(f"<{key_size}sII", content, tree + 36 + (key_size + 8) * i) for i in range(3)]
    names = [key.rstrip(b"\0").decode() for key, _, _ in rows]
    assert names == ["chr1", "chr10", "chr2"]
    assert [number for _, number, _ in rows] == [0, 1, 2]
    assert [length for _, _, length in rows] == [LENGTHS[name] for name in names]
    assert struct.unpack_from("<I", content, index)[0] == 0x2468ACE0
    assert data < index


def test_the_same_values_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("x.bw", "x.bedGraph", "x.bedGraph.gz", "x.bed.gz"):
        contents = []
        for turn in "ab":
            path = tmp_path / turn / name
            path.parent.mkdir(exist_ok=True)
            if name.endswith("bw"):
                write_bigwig(path, LENGTHS, example())
            elif "bedGraph" in name:
                write_bedgraph(path, example())
            else:
                write_peaks(path, example(), name="x", threshold=0.5)
            contents.append(path.read_bytes())
        assert contents[0] == contents[1]


def test_failures_behind_pybigtools_come_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted(failure: BaseException) -> Iterator[Intervals]:
        yield from example()
        raise failure

    for failure in (KeyboardInterrupt(), UserError("why"), OSError(28, "full")):
        with pytest.raises(type(failure)):
            write_bigwig(tmp_path / "x.bw", LENGTHS, interrupted(failure))
    with pytest.raises(UserError, match="there is no value to write"):
        write_bigwig(tmp_path / "x.bw", LENGTHS, [part("chr1", [], [], [])])
    wrong_order = [part("chr1", [5, 3], [7, 4], [1.0, 2.0])]
    with pytest.raises(UserError, match=r"x\.bw: the bigWig could not be written \(\d of 3 bases"):
        write_bigwig(tmp_path / "x.bw", LENGTHS, wrong_order)
    capfd.readouterr()


def test_bedgraph_columns(tmp_path: Path) -> None:
    parts = [part("chr1", [0, 5], [5, 6], [0.25, 1 / 3]), part("chr2", [7], [9], [-2e-9])]
    assert write_bedgraph(tmp_path / "x.bedGraph", parts) == 8
    text = "chr1\t0\t5\t0.25\nchr1\t5\t6\t0.333333\nchr2\t7\t9\t-2e-09\n"
    assert (tmp_path / "x.bedGraph").read_text() == text
    write_bedgraph(tmp_path / "x.bedGraph.gz", parts)
    packed = (tmp_path / "x.bedGraph.gz").read_bytes()
    assert gzip.decompress(packed).decode() == text
    with bgzf.open(tmp_path / "x.bedGraph.gz", "rb") as file:  # tabix wants BGZF
        assert file.read(1000).decode() == text


def test_peaks_join_what_touches(tmp_path: Path) -> None:
    parts = [
        part("chr1", [0, 10, 20, 40], [10, 20, 30, 50], [0.4, 0.5, 0.9, 0.7]),
        part("chr1", [50, 60], [60, 70], [0.7, 0.1]),
        part("chr2", [70], [80], [1.0]),
    ]
    found = list(peaks(parts, 0.5))
    assert [(p.chrom, p.start, p.end, p.summit) for p in found] == [
        ("chr1", 10, 30, 25),
        ("chr1", 40, 60, 45),
        ("chr2", 70, 80, 75),
    ]
    np.testing.assert_allclose([p.mean for p in found], [0.7, 0.7, 1.0], rtol=1e-6)
    assert write_peaks(tmp_path / "x.bed", parts, name="my class", threshold=0.5) == 3
    assert (tmp_path / "x.bed").read_text().splitlines()[0] == "chr1\t10\t30\tmy_class\t700\t."
    assert [(row.interval.start, row.name) for row in read_bed(tmp_path / "x.bed")] == [
        (10, "my_class"),
        (40, "my_class"),
        (70, "my_class"),
    ]
    write_peaks(tmp_path / "x.narrowPeak", parts, name="c", threshold=0.5, narrow=True)
    first = (tmp_path / "x.narrowPeak").read_text().splitlines()[0].split("\t")
    assert first == ["chr1", "10", "30", "c_1", "700", ".", "0.9", "-1", "-1", "15"]


def test_scores_of_values_that_are_no_probabilities_stay_in_range(tmp_path: Path) -> None:
    write_peaks(tmp_path / "x.bed", [part("chr1", [0, 5], [1, 6], [-3.0, 7.0])], name="x", threshold=-10)
    assert [line.split("\t")[4] for line in (tmp_path / "x.bed").read_text().splitlines()] == ["0", "1000"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=60),
    seed=st.integers(0, 99),
)
def test_any_intervals_survive_in_bigwig(gaps: list[tuple[int, int]], seed: int, tmp_path: Path) -> None:
    pyBigWig = pytest.importorskip("pyBigWig")
    starts, ends, position = [], [], 0
    for gap, length in gaps:
        starts.append(position + gap)
        position += gap + length
        ends.append(position)
    values = np.random.default_rng(seed).normal(size=len(starts)).astype(np.float32)
    written = Intervals("c", np.array(starts), np.array(ends), values)
    write_bigwig(tmp_path / "x.bw", {"c": position + seed}, [written])
    found = pyBigWig.open(str(tmp_path / "x.bw")).intervals("c")
    assert found == tuple(zip(starts, ends, values.tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        ("a.b.bw", "bigWig", ".bw"),
        ("a.bigWig", "bigWig", ".bigWig"),
        ("a.BedGraph.gz", "bedGraph", ".BedGraph.gz"),
        ("a.bed", "BED", ".bed"),
        ("a.narrowPeak.gz", "narrowPeak", ".narrowPeak.gz"),
    ],
)
def test_the_name_says_the_format(name: str, kind: str, suffix: str) -> None:
    assert track_format(Path(name)) == kind
    assert split_suffix(Path(name))[1] == suffix


@pytest.mark.parametrize("name", ["a.wig", "bw", "a.bw.gz", "a.gz", "a.bb"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"--output .*: expected a name that ends in \.bw"):
        track_format(Path(name))
