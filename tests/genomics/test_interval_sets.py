from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from interval_cases import sound, write_parts

from genomics.alphabet import decode
from genomics.audit_inputs import folder_parts, read_parts
from genomics.interval_sets import LabelledIntervals, read_intervals, write_intervals
from genomics.intervals import Interval
from seqmamba.errors import UserError


def test_a_folder_of_parts_becomes_one_set(tmp_path: Path) -> None:
    write_parts(tmp_path / "set", sound(np.random.default_rng(0)))
    records = read_parts(folder_parts(tmp_path / "set"))
    assert isinstance(records, LabelledIntervals)
    assert records.classes == ("negative", "positive")
    assert records.split is not None
    parts, counts = np.unique(records.split, return_counts=True)
    assert dict(zip(parts.tolist(), counts.tolist(), strict=True)) == {"test": 200, "train": 600}
    assert np.bincount(records.labels).tolist() == [400, 400]
    assert records.sources[0].endswith("train/negative.csv.gz:2")
    assert records.names[0] == str(records.intervals[0])


def test_what_is_written_is_read_again_and_always_the_same_bytes(tmp_path: Path) -> None:
    places = [Interval("chr1", 0, 10, "+"), Interval("c,2", 5, 6), Interval("x", 1, 9, "-")]
    for name in ("a.csv.gz", "b.csv.gz"):
        write_intervals(tmp_path / name, ["p,q", "r", "s"], places)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert [row[:5] for row in read_intervals(tmp_path / "a.csv.gz")] == [
        ("p,q", "chr1", 0, 10, "+"),
        ("r", "c,2", 5, 6, "."),
        ("s", "x", 1, 9, "-"),
    ]


def test_tables_with_other_names_tabs_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(
        b"\xef\xbb\xbfchrom\tstart\tend\tstrand\r\nchr1\t3\t9\t\r\n\r\n2\t0\t4\t-\r\n"
    )
    assert list(read_intervals(tmp_path / "x.tsv")) == [
        ("chr1:3-9", "chr1", 3, 9, ".", f"{tmp_path / 'x.tsv'}:2"),
        ("2:0-4", "2", 0, 4, "-", f"{tmp_path / 'x.tsv'}:4"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", r"x\.csv: has no column 'region', 'start', 'end'"),
        ("region,start,end\nchr1,5,5\n", r"x\.csv:2: .* start < end, got 5 and 5"),
        ("region,start,end\nchr1,-5,5\n", r"x\.csv:2: .* got -5 and 5"),
        ("region,start,end\nchr1,a,5\n", r"x\.csv:2: start: expected a number, got 'a'"),
        ("region,start,end\nchr1,1,5,7\n", r"x\.csv:2: expected 3 cells, got 4"),
        ("region,start,end,strand\nchr1,1,5,?\n", r"x\.csv:2: strand must be"),
        ("region,start,end\n", r"holds no row below its header"),
    ],
)
def test_what_is_no_table_of_intervals_is_refused_by_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        list(read_intervals(tmp_path / "x.csv"))


def test_a_genome_gives_the_sequences(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">1\nACGTTGCAAC\n>chr2\nGGGGG\n")
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "a.csv").write_text("region,start,end,strand\nchr1,0,4,+\nchr1,4,10,-\n")
        (tmp_path / "set" / part / "b.bed").write_text("chr2\t0\t5\n")
    records = read_parts(folder_parts(tmp_path / "set"), tmp_path / "g.fa")
    assert not isinstance(records, LabelledIntervals)
    assert [decode(tokens) for tokens in records.tokens][:3] == ["ACGT", "GTTGCA", "GGGGG"]
    assert len(set(records.names)) == 6
    (tmp_path / "set" / "train" / "b.bed").write_text("chr2\t0\t6\n")
    with pytest.raises(UserError, match=r"b\.bed:1: chr2:0-6 ends past the end"):
        read_parts(folder_parts(tmp_path / "set"), tmp_path / "g.fa")
    (tmp_path / "set" / "train" / "b.bed").write_text("chr9\t0\t6\n")
    with pytest.raises(UserError, match=r"b\.bed:1"):
        read_parts(folder_parts(tmp_path / "set"), tmp_path / "g.fa")


def test_pairs_of_fasta_files(tmp_path: Path) -> None:
    for part, shift in (("train", 0), ("dev", 3), ("test", 6)):
        (tmp_path / "set" / part).mkdir(parents=True)
        for name in ("pos", "neg"):
            text = "".join(f">s{i + shift}\n{'ACGT'[i] * (5 + shift)}\n" for i in range(3))
            (tmp_path / "set" / part / f"{name}.fa.gz").write_bytes(gzip.compress(text.encode()))
    records = read_parts(folder_parts(tmp_path / "set"))
    assert not isinstance(records, LabelledIntervals)
    assert records.classes == ("neg", "pos")
    assert records.split is not None
    assert records.split.tolist() == ["train"] * 6 + ["validation"] * 6 + ["test"] * 6
    assert records.tokens.lengths.tolist() == [5] * 6 + [8] * 6 + [11] * 6
    assert records.labels.tolist() == [0, 0, 0, 1, 1, 1] * 3


def test_one_file_a_part_with_labels_in_its_headers(tmp_path: Path) -> None:
    for part, words in (("train", "ab"), ("test", "ba")):
        rows = [f">{part}{i}|{words[i % 2]}\nACG{'ACGT'[i % 4]}\n" for i in range(8)]
        (tmp_path / f"{part}.fa").write_text("".join(rows))
    parts = {part: {part: str(tmp_path / f"{part}.fa")} for part in ("train", "test")}
    records = read_parts(parts)
    assert records.classes == ("a", "b")
    assert records.labels.tolist() == [0, 1] * 4 + [1, 0] * 4


def test_a_single_bed_file_names_its_classes_in_column_4(tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_text("".join(f"chr1\t{i}0\t{i}5\t{'ab'[i % 2]}\n" for i in range(1, 9)))
    records = read_parts({None: {"x": tmp_path / "x.bed"}})
    assert records.classes == ("a", "b")
    assert records.split is None
    assert records.labels.tolist() == [1, 0] * 4


def test_mixed_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">x\nACGT\n")
    (tmp_path / "b.bed").write_text("chr1\t1\t5\n")
    with pytest.raises(UserError, match="files of one kind"):
        read_parts(folder_parts(tmp_path))
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no FASTA file and no file of intervals"):
        folder_parts(tmp_path / "empty")
    (tmp_path / "b.bed").unlink()
    with pytest.raises(UserError, match="genome is only used with intervals"):
        read_parts(folder_parts(tmp_path), tmp_path / "a.fa")


def test_what_could_be_taken_for_one_another_is_refused(tmp_path: Path) -> None:
    for part in ("dev", "valid"):
        (tmp_path / "two" / part).mkdir(parents=True)
    with pytest.raises(UserError, match="dev and valid are both the validation part"):
        folder_parts(tmp_path / "two")
    for name in ("a.fa", "a.csv", "notes.txt"):
        (tmp_path / name).write_text(">x\nACGT\n")
    with pytest.raises(UserError, match="two files are called 'a'"):
        folder_parts(tmp_path)


def test_coordinates_beyond_any_chromosome_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_text(f"chr1\t5\t{10**30}\n")
    with pytest.raises(UserError, match=r"x\.bed:1: expected coordinates of at most"):
        list(read_intervals(tmp_path / "x.bed"))
