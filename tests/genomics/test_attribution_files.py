from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pybigtools
import pytest

from genomics.alphabet import decode, encode
from genomics.attribution_files import StrandReport, attribution_format, merged_track, write_attributions
from genomics.attribution_plots import draw
from genomics.attribution_run import Explained
from genomics.intervals import Interval
from seqmamba.errors import UserError


def explained(
    rng: np.random.Generator, place: Interval, *, name: str = "s", effects: bool = False, rc: float = 0.0
) -> Explained:
    n = len(place)
    return Explained(
        name=name,
        interval=place,
        tokens=encode("".join(rng.choice(list("ACGTN"), n))),
        scores=rng.normal(size=n).astype(np.float32),
        effects=rng.normal(size=(n, 4)).astype(np.float32) if effects else None,
        output=1.0,
        output_rc=rc,
        gap=0.25,
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("effects", [False, True])
def test_npz_gives_back_every_sequence(effects: bool, rng: np.random.Generator, tmp_path: Path) -> None:
    places = [Interval("c1", 5, 15, "+"), Interval("d", 0, 1, "-"), Interval("c1", 2, 30)]
    some = [explained(rng, place, name=f"s{i}", effects=effects) for i, place in enumerate(places)]
    for name in ("a.npz", "b.npz"):
        write_attributions(some, tmp_path / name, facts={"method": "ism"})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    with np.load(tmp_path / "a.npz") as found:
        assert found["method"] == "ism"
        assert found["name"].tolist() == ["s0", "s1", "s2"]
        assert found["strand"].tolist() == ["+", "-", "."]
        assert ("effects" in found) == effects
        for i, one in enumerate(some):
            here = slice(*found["offsets"][i : i + 2])
            assert b"".join(found["bases"][here]).decode() == decode(one.tokens)
            assert np.array_equal(found["scores"][here], one.scores)
            if one.effects is not None:
                assert np.array_equal(found["effects"][here], one.effects)
            assert (found["start"][i], found["end"][i]) == (places[i].start, places[i].end)


def test_a_table_counts_down_on_the_minus_strand(rng: np.random.Generator, tmp_path: Path) -> None:
    some = [explained(rng, Interval("c", 5, 8, strand), effects=True) for strand in "+-"]
    write_attributions(some, tmp_path / "x.tsv")
    header, *rows = [line.split("\t") for line in (tmp_path / "x.tsv").read_text().splitlines()]
    assert header == ["name", "chrom", "position", "strand", "base", "score", "A", "C", "G", "T"]
    assert [row[2] for row in rows] == ["5", "6", "7", "7", "6", "5"]
    assert "".join(row[4] for row in rows) == decode(some[0].tokens) + decode(some[1].tokens)
    np.testing.assert_allclose([float(row[5]) for row in rows[3:]], some[1].scores, rtol=1e-5)
    np.testing.assert_allclose([float(row[9]) for row in rows[:3]], some[0].effects[:, 3], rtol=1e-5)  # type: ignore[index]


@pytest.mark.parametrize("seed", range(8))
def test_overlapping_sequences_are_averaged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = []
    for chrom in ("a", "b"):
        starts = np.sort(rng.integers(0, 120, 12))
        places = [
            Interval(chrom, int(s), int(s + rng.integers(1, 50)), str(rng.choice(list("+-")))) for s in starts
        ]
        some += [explained(rng, place) for place in places]
    expected = {}
    for chrom in ("a", "b"):
        total, count = np.zeros(200), np.zeros(200)
        for one in some:
            if one.interval.chrom == chrom:
                here = slice(one.interval.start, one.interval.end)
                total[here] += one.scores[::-1] if one.interval.strand == "-" else one.scores
                count[here] += 1
        expected |= {(chrom, i): total[i] / count[i] for i in np.flatnonzero(count).tolist()}
    found = {}
    for part in merged_track(some):
        assert (part.ends == part.starts + 1).all()
        found |= {
            (part.chrom, start): value
            for start, value in zip(part.starts.tolist(), part.values.tolist(), strict=True)
        }
    assert list(found) == list(expected)  # in order, too
    np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=1e-6)


def test_a_track_in_another_order_is_a_mistake(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="comes after"):
        list(merged_track([explained(rng, Interval("c", start, 30)) for start in (9, 8)]))


def test_bigwig_and_bedgraph_hold_the_scores(rng: np.random.Generator, tmp_path: Path) -> None:
    one = explained(rng, Interval("chr1", 100, 140, "-"))
    write_attributions([one], tmp_path / "x.bw", lengths={"chr1": 1000, "chr2": 50})
    values = pybigtools.open(str(tmp_path / "x.bw")).values("chr1", 0, 1000, fillna=None)
    np.testing.assert_allclose(values[100:140], one.scores[::-1], rtol=1e-6)
    assert np.isnan(values[:100]).all()
    assert np.isnan(values[140:]).all()
    write_attributions([one], tmp_path / "x.bedgraph")
    rows = [line.split("\t") for line in (tmp_path / "x.bedgraph").read_text().splitlines()]
    assert [int(row[1]) for row in rows] == list(range(100, 140))
    write_attributions([one], tmp_path / "x.bedgraph.gz")
    assert (
        gzip.decompress((tmp_path / "x.bedgraph.gz").read_bytes()) == (tmp_path / "x.bedgraph").read_bytes()
    )


def test_endings(tmp_path: Path) -> None:
    names = {"a.NPZ": "npz", "a.tsv": "tsv", "a.bw": "bigWig", "a.bedgraph.gz": "bedGraph"}
    assert {name: attribution_format(Path(name)) for name in names} == names
    for name in ("a.bed", "a.txt", "a"):
        with pytest.raises(UserError, match="expected a name that ends in"):
            attribution_format(Path(name))
    with pytest.raises(UserError, match="no sequence to explain"):
        write_attributions([], tmp_path / "x.npz")
    assert not any(tmp_path.iterdir())


def test_the_strand_report(rng: np.random.Generator, tmp_path: Path) -> None:
    report = StrandReport("log-odds of yes")
    assert "no sequence" in report.text()
    some = [explained(rng, Interval("c", 0, 4), name=f"s{i}", rc=rc) for i, rc in enumerate((1.0, 0.5, -1.0))]
    assert list(report.watch(some)) == some
    assert report.differences.tolist() == [0, 0.5, 2]
    text = report.text()
    assert "log-odds of yes over 3 sequences: median 0.5" in text
    assert "at most 2 (s2)" in text
    assert "changes its sign in 1" in text
    assert "miss their sum by at most 0.25" in text
    report.write(tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text().splitlines()[3] == "s2\t1\t-1\t2"


def test_drawings_of_long_and_short_sequences(rng: np.random.Generator, tmp_path: Path) -> None:
    files = draw(explained(rng, Interval("c", 0, 300), name="a/b c"), tmp_path / "p", "score")
    assert [path.name for path in files] == ["a_b_c.logo.svg", "a_b_c.track.svg"]
    assert all(b"<svg" in path.read_bytes() for path in files)
    files = draw(explained(rng, Interval("c", 0, 20)), tmp_path / "p", "score")
    assert [path.name for path in files] == ["s.logo.svg"]
