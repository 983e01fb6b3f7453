from __future__ import annotations

from pathlib import Path

import pytest

from genomics.datasets.regions import RegionSplit
from genomics.tiling import Span
from seqmamba.errors import UserError


def test_the_end_of_every_long_sequence_is_held_out() -> None:
    split = RegionSplit(test_bases=100, validation_bases=50)
    assert split.regions({"a": 1000, "b": 300, "c": 299}) == {
        "train": [Span("a", 0, 850), Span("b", 0, 150), Span("c", 0, 299)],
        "validation": [Span("a", 850, 900), Span("b", 150, 200)],
        "test": [Span("a", 900, 1000), Span("b", 200, 300)],
    }


def regions_of(tmp_path: Path, text: str) -> dict[str, list[Span]]:
    bed = tmp_path / "x.bed"
    bed.write_text(text)
    return RegionSplit(bed=str(bed)).regions({"chr1": 1000, "2": 500})


def test_regions_of_a_bed_file(tmp_path: Path) -> None:
    found = regions_of(
        tmp_path, "1\t0\t600\ttrain\n1\t500\t700\tTRAIN\nchr1\t700\t1000\tvalid\nchr2\t5\t9\ttest\n"
    )
    assert found["train"] == [Span("chr1", 0, 600), Span("chr1", 500, 700)]
    assert found["validation"] == [Span("chr1", 700, 1000)]
    assert found["test"] == [Span("2", 5, 9)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t0\t10\tfold3\n", r"x\.bed:1: column 4 must be train, validation or test, got 'fold3'"),
        ("1\t0\t10\n", "got None"),
        ("1\t0\t10\ttrain\n3\t0\t10\ttest\n", r"x\.bed:2: no sequence is called '3'"),
        ("2\t0\t501\ttrain\n", "2 has 500 bases, got 501"),
        (
            "1\t0\t100\ttrain\n1\t10\t20\ttrain\n1\t90\t120\ttest\n",
            "chr1:90-100 is in two regions, for train",
        ),
        ("1\t0\t100\ttest\n1\t50\t120\ttest\n", r"chr1:50-100 is in two regions, for test and for test"),
    ],
)
def test_refused_regions(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        regions_of(tmp_path, text)


@pytest.mark.parametrize("name", ["test_bases", "validation_bases"])
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: expected a positive number of bases, got 0"):
        RegionSplit(**{name: 0})
