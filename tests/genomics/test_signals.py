from __future__ import annotations

import gzip
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from genomics.fasta import Fasta
from genomics.signals import BigWigSignal, open_signal
from genomics.track_files import Intervals, write_bigwig
from seqmamba.errors import UserError


@pytest.fixture
def genome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fasta:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "cache"))
    (tmp_path / "g.fa").write_text(">chr1\n" + "ACGT" * 50 + "\n>chr2\n" + "ACGTA" * 20 + "\n>chrM\nACGTAA\n")
    return Fasta(tmp_path / "g.fa")


ROWS = [("1", 0, 10, 1.5), ("1", 10, 12, -2.0), ("1", 50, 51, 7.0), ("chr2", 90, 100, 3.0)]


def expected(chrom: str, length: int) -> np.ndarray:
    values = np.full(length, np.nan, dtype=np.float32)
    for name, start, end, value in ROWS:
        if name.removeprefix("chr") == chrom.removeprefix("chr"):
            values[start:end] = value
    return values


def bedgraph(path: Path, text: str = "") -> Path:
    rows = text or "".join(f"{c}\t{s}\t{e}\t{v}\n" for c, s, e, v in ROWS)
    content = f"track type=bedGraph\n# a comment\n\n{rows}"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content)
    return path


@pytest.mark.parametrize("name", ["x.bedGraph", "x.bg.gz"])
def test_bedgraph_by_the_genomes_names(genome: Fasta, tmp_path: Path, name: str) -> None:
    signal = open_signal(bedgraph(tmp_path / name), genome)
    for chrom in ("chr1", "chr2", "chrM"):
        length = genome.length(chrom)
        np.testing.assert_array_equal(signal.values(chrom, 0, length), expected(chrom, length))
    np.testing.assert_array_equal(signal.values("chr1", 8, 52), expected("chr1", 200)[8:52])
    assert signal.smallest == -2
    # The copy in the cache is used again, but not for a file that changed.
    [copy] = (tmp_path / "cache" / "genomes").glob("*.bw")
    before = copy.stat().st_mtime_ns
    open_signal(tmp_path / name, genome)
    assert copy.stat().st_mtime_ns == before
    bedgraph(tmp_path / name, "chr1 3 4 9.25\n")
    assert open_signal(tmp_path / name, genome).values("chr1", 2, 5)[1] == 9.25


def test_rows_of_other_sequences_and_missing_values_are_left_out(genome: Fasta, tmp_path: Path) -> None:
    rows = "chrUn\t0\t900\t1\nchr2\t1\t2\tnan\nchr2\t2\t3\t4\n"
    signal = open_signal(bedgraph(tmp_path / "x.bedgraph", rows), genome)
    assert np.flatnonzero(np.isfinite(signal.values("chr2", 0, 100))).tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("chr1\t0\t5\n", "x.bedgraph:4: expected 4 columns"),
        ("chr1\t0\t5\tx\n", "x.bedgraph:4: expected 0 <= start < end and a number, got '0 5 x'"),
        ("chr1\t5\t5\t1\n", "x.bedgraph:4: expected 0 <= start < end"),
        ("chr1\t-1\t5\t1\n", "x.bedgraph:4: expected 0 <= start < end"),
        ("chr1\t1\t5\t1e39\n", "x.bedgraph:4: expected 0 <= start < end and a number"),
        (
            "chr1\t5\t9\t1\nchr1\t8\t10\t1\n",
            "x.bedgraph:5: chr1:8 lies in front of the end of the row",
        ),
        ("chr1\t5\t9\t1\nchr2\t1\t2\t1\nchr1\t20\t30\t1\n", "x.bedgraph:6: chr1 comes again"),
        ("chr1\t5\t201\t1\n", "x.bedgraph:4: chr1:5-201 ends past the end of chr1, which has 200 bases"),
        ("chrUn\t5\t9\t1\n", "has a value on none of the sequences of"),
    ],
)
def test_bedgraph_files_that_are_refused(genome: Fasta, tmp_path: Path, rows: str, message: str) -> None:
    path = bedgraph(tmp_path / "x.bedgraph", rows)
    with pytest.raises(UserError, match=message):
        open_signal(path, genome)
    assert not list((tmp_path / "cache").rglob("*.bw*"))


def test_intervals_are_ones(genome: Fasta, tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_text("1\t10\t20\na\t1\t2\nchr1\t15\t25\n1\t40\t41\nchr2\t0\t3\n")
    signal = open_signal(tmp_path / "x.bed", genome)
    for start, end in ((0, 200), (12, 41), (24, 26), (25, 40)):
        truth = np.zeros(200)
        truth[10:25] = truth[40] = 1
        np.testing.assert_array_equal(signal.values("chr1", start, end), truth[start:end])
    assert not signal.values("chrM", 0, 6).any()
    (tmp_path / "x.bed").write_text("chr1\t190\t201\n")
    with pytest.raises(UserError, match=r"x.bed:1: chr1:190-201 ends past the end"):
        open_signal(tmp_path / "x.bed", genome)
    (tmp_path / "x.bed").write_text("chr9\t190\t201\n")
    with pytest.raises(UserError, match=r"x.bed: has a value on none"):
        open_signal(tmp_path / "x.bed", genome)


def _bigwig(path: Path, length: int = 200) -> Path:
    values = np.arange(100, dtype=np.float32)
    starts = np.arange(0, 200, 2)
    write_bigwig(path, {"chr1": length}, [Intervals("chr1", starts, starts + 1, values)])
    return path


def test_bigwig_and_its_mistakes(genome: Fasta, tmp_path: Path) -> None:
    signal = open_signal(_bigwig(tmp_path / "x.bigWig"), genome)
    np.testing.assert_array_equal(signal.values("chr1", 3, 7), [np.nan, 2, np.nan, 3])
    assert np.isnan(signal.values("chr2", 0, 100)).all()
    with pytest.raises(UserError, match=r"chr1 has 201 bases, and 200 in .*g.fa"):
        open_signal(_bigwig(tmp_path / "y.bw", 201), genome)
    (tmp_path / "z.bw").write_bytes(b"\x26\xfc\x8f\x88 not whole")
    with pytest.raises(UserError, match=r"z.bw: is no bigWig file that can be read"):
        open_signal(tmp_path / "z.bw", genome)
    (tmp_path / "z.txt").write_text("x")
    with pytest.raises(UserError, match=r"z.txt: expected a name that ends in .bw"):
        open_signal(tmp_path / "z.txt", genome)


def _read_many(signal: BigWigSignal, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    whole = np.full(200, np.nan)
    whole[::2] = np.arange(100)
    for start in rng.integers(0, 180, 300).tolist():
        if not np.array_equal(signal.values("chr1", start, start + 20), whole[start : start + 20], True):
            return False
    return True


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_and_unpickled_readers_open_their_own(genome: Fasta, tmp_path: Path) -> None:
    signal = open_signal(_bigwig(tmp_path / "x.bw"), genome)
    signal.values("chr1", 0, 2)  # the parent's handle is open
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert all(pool.starmap(_read_many, [(signal, seed) for seed in range(3)]))
    assert pickle.loads(pickle.dumps(signal)).values("chr1", 2, 3) == 1
