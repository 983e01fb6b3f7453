from __future__ import annotations

from pathlib import Path

import pytest
from genome_files import write_genome

from genomics.fasta import Fasta
from genomics.genome_regions import GenomeConfig, Regions, read_regions
from genomics.intervals import Interval
from seqmamba.errors import UserError


def regions(folder: Path, rows: list[str] | None = None, **options: object) -> Regions:
    fasta = write_genome(folder / "genome.fa")
    if rows is not None:
        (folder / "split.bed").write_text("".join("\t".join(row.split()) + "\n" for row in rows))
        options["split"] = str(folder / "split.bed")
    return read_regions(GenomeConfig(str(fasta), **options), Fasta(fasta))  # type: ignore[arg-type]


def test_chromosomes_are_held_out_under_either_name(tmp_path: Path) -> None:
    parts = regions(tmp_path, validation=["2"], exclude=["chr3"])
    assert parts == {
        "train": [Interval("chr1", 0, 2000)],
        "validation": [Interval("chr2", 0, 2000)],
        "test": [],
    }


def test_column_4_of_published_splits_is_known(tmp_path: Path) -> None:
    rows = ["1 0 500 train", "chr1 500 900 train", "chr1 950 1000 valid", "chr2 0 2000 test"]
    parts = regions(tmp_path, rows)
    assert parts["train"] == [Interval("chr1", 0, 900)]  # rows that touch are one stretch
    assert parts["validation"] == [Interval("chr1", 950, 1000)]
    assert parts["test"] == [Interval("chr2", 0, 2000)]


def test_folds_are_held_out_by_name(tmp_path: Path) -> None:
    rows = ["chr1 0 500 fold0", "chr1 500 900 fold3", "chr2 0 500 fold4", "chr2 500 600 fold1"]
    parts = regions(tmp_path, rows, validation=["fold4"], test=["fold3"])
    assert parts["train"] == [Interval("chr1", 0, 500), Interval("chr2", 500, 600)]
    assert parts["test"] == [Interval("chr1", 500, 900)]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (["chr1 0 500 train", "chr1 400 900 valid"], {}, r"chr1:400-900 for validation overlaps the train"),
        (["chr1 0 900 train", "chr1 10 20 train", "chr1 500 800 test"], {}, r"split.bed:3: .*split.bed:1"),
        (["chr1 0 500 fold0"], {}, "expected train, validation or test in column 4, got 'fold0'"),
        (["chr1 0 500 fold0"], {"test": ["fold9"]}, "test: there is no 'fold9'"),
        (["chr1 0 500"], {}, "split.bed:1: expected the name of a part in column 4"),
        (["chr1 0 2001 train"], {}, "ends past the end of chr1"),
        (["chr9 0 20 train"], {}, "split.bed:1: .* has no sequence named 'chr9'"),
        (None, {"test": ["chr7"]}, "test: there is no 'chr7'"),
        (None, {"test": ["chr1"], "exclude": ["chr1"]}, "'chr1' is held out or excluded twice"),
    ],
)
def test_refuses_with_the_place(
    tmp_path: Path, rows: list[str] | None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        regions(tmp_path, rows, **options)
