from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomics.alphabet import N, decode, gc_fraction
from genomics.datasets import from_bed, from_class_fastas, from_headers, from_table
from genomics.fasta import Fasta
from genomics.intervals import Interval
from seqmamba.errors import UserError

BASES = np.frombuffer(b"ACGT", dtype=np.uint8)


def letters(count: int, seed: int = 0) -> str:
    return np.random.default_rng(seed).choice(BASES, count).tobytes().decode()


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def fasta(path: Path, names: list[str], length: int = 12, seed: int = 0) -> str:
    return write(path, "".join(f">{name}\n{letters(length, seed + i)}\n" for i, name in enumerate(names)))


# --- one FASTA a class -----------------------------------------------------------------------------------


def test_class_fastas_keep_the_order_of_classes_and_files(tmp_path: Path) -> None:
    neg = fasta(tmp_path / "neg.fa", ["a", "b", "c"])
    more = fasta(tmp_path / "more.fa", ["d"])
    pos = fasta(tmp_path / "pos.fa", ["e", "f", "g"])
    records = from_class_fastas({"neg": [neg, more], "pos": pos})
    assert records.classes == ("neg", "pos")
    assert records.names == list("abcdefg")
    assert records.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert records.labels.dtype == np.int64
    assert records.sources[:4] == [f"{neg}:1", f"{neg}:3", f"{neg}:5", f"{more}:1"]
    assert decode(records.tokens[1]) == letters(12, 1)
    assert records.intervals is None
    assert records.split is None


def test_namesakes_in_different_classes_get_their_class_as_prefix(tmp_path: Path) -> None:
    a = fasta(tmp_path / "a.fa", ["1", "2", "3"])
    b = fasta(tmp_path / "b.fa", ["3", "4", "5"])
    c = fasta(tmp_path / "c.fa", ["3", "6", "7"])
    records = from_class_fastas({"x": [a, c], "y": b})
    assert len(set(records.names)) == 9
    assert {"1", "4", "y/3"} <= set(records.names)


def test_coordinates_are_used_only_if_every_header_has_them(tmp_path: Path) -> None:
    with_all = fasta(tmp_path / "a.fa", ["chr1:0-12", "chr2:1-12", "chr3:5-17(-)"])
    other = fasta(tmp_path / "b.fa", ["chr1:20-32", "chr2:20-32", "chr3:20-32"])
    records = from_class_fastas({"x": with_all, "y": other})
    assert records.intervals is not None
    assert records.intervals[:3] == [
        Interval("chr1", 0, 12),
        Interval("chr2", 0, 12),
        Interval("chr3", 5, 17, "-"),
    ]
    some = fasta(tmp_path / "c.fa", ["chr1:20-32", "s2", "s3"])
    records = from_class_fastas({"x": with_all, "y": some})
    assert records.intervals is None
    assert records.notes[0].startswith("2 of 6 headers carry no coordinates")


def test_too_small_a_class_is_named_with_its_place(tmp_path: Path) -> None:
    pos = fasta(tmp_path / "pos.fa", ["a", "b", "c"])
    neg = fasta(tmp_path / "neg.fa", ["d"])
    with pytest.raises(UserError, match=r"neg\.fa:1: class 'neg' has 1 sequence, expected at least 3"):
        from_class_fastas({"pos": pos, "neg": neg})
    with pytest.raises(UserError, match=r"pos\.fa:1: expected at least 2 classes, got 1 \('pos'\)"):
        from_class_fastas({"pos": pos})
    with pytest.raises(UserError, match=r"no file: class 'neg' has 0 sequences"):
        from_class_fastas({"pos": pos, "neg": []})
    with pytest.raises(UserError, match="given twice, for 'pos' and for 'neg'"):
        from_class_fastas({"pos": pos, "neg": pos})


# --- labels in headers -----------------------------------------------------------------------------------


def test_headers_with_label_and_split(tmp_path: Path) -> None:
    parts = ["train", "dev", "TEST"] * 3
    path = fasta(tmp_path / "x.fa", [f"s{i}|{i % 3}|{part}" for i, part in enumerate(parts)])
    records = from_headers(path)
    assert records.names == [f"s{i}" for i in range(9)]
    assert records.classes == ("0", "1", "2")
    assert records.split is not None
    assert records.split.tolist() == ["train", "validation", "test"] * 3


def test_headers_with_a_label_only_and_bars_in_the_name(tmp_path: Path) -> None:
    path = fasta(tmp_path / "x.fa", [f"sp|P{i}|{'10' if i % 2 else '9'}" for i in range(6)])
    records = from_headers(path)
    assert records.names[0] == "sp|P0"
    assert records.classes == ("9", "10"), "numbers are sorted as numbers"
    assert records.split is None


def test_headers_that_say_none_have_no_split(tmp_path: Path) -> None:
    assert from_headers(fasta(tmp_path / "x.fa", [f"s{i}|{i % 2}|none" for i in range(6)])).split is None
    path = fasta(tmp_path / "y.fa", [f"s{i}|{i % 2}|{'none' if i == 4 else 'train'}" for i in range(6)])
    with pytest.raises(UserError, match=r"y\.fa:9: has no split, but other records have one"):
        from_headers(path)


@pytest.mark.parametrize("header", ["s9", "s9|", "|1"])
def test_a_header_without_a_label_is_named(tmp_path: Path, header: str) -> None:
    path = fasta(tmp_path / "x.fa", [*(f"s{i}|{i % 2}" for i in range(6)), header])
    with pytest.raises(UserError, match=r"x\.fa:13: expected '>name\|label'"):
        from_headers(path)


# --- FASTA and table -------------------------------------------------------------------------------------

NAMES = [f"s{i}" for i in range(6)]


@pytest.fixture
def six(tmp_path: Path) -> str:
    return fasta(tmp_path / "x.fa", NAMES)


def table(tmp_path: Path, *lines: str) -> str:
    return write(tmp_path / "y.tsv", "\n".join(lines) + "\n")


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("header", [["name", "label"], ["ID", "Class"], []])
def test_table_matches_by_name_in_any_order(
    tmp_path: Path, six: str, separator: str, header: list[str]
) -> None:
    rows = [[name, "odd" if i % 2 else "even"] for i, name in enumerate(NAMES)][::-1]
    labels = table(tmp_path, *(separator.join(row) for row in ([header] if header else []) + rows))
    records = from_table(six, labels)
    assert records.task == "classification"
    assert records.classes == ("even", "odd")
    assert records.labels.tolist() == [0, 1] * 3
    assert records.sources[0] == f"{labels}:{7 if header else 6}"


def test_table_with_split_and_more_columns_in_any_order(tmp_path: Path, six: str) -> None:
    parts = ["train", "train", "val", "val", "test", "test"]
    rows = (f"{part}\t0.{i}\t{name}" for i, (name, part) in enumerate(zip(NAMES, parts, strict=True)))
    records = from_table(six, table(tmp_path, "split\tactivity\tname", *rows))
    assert (records.task, records.classes) == ("regression", ("activity",))
    assert records.labels.shape == (6, 1)
    assert records.labels[3, 0] == np.float32(0.3)
    assert records.split is not None
    assert records.split.tolist()[2] == "validation"


def test_a_column_called_label_wins_over_others(tmp_path: Path, six: str) -> None:
    rows = (f"{name}\tchr{i}\tsome words\t{i % 2}" for i, name in enumerate(NAMES))
    records = from_table(six, table(tmp_path, "name\tchrom\tcomment\tlabel", *rows))
    assert records.classes == ("0", "1")
    assert "not used: chrom, comment" in records.notes[0]


def test_multilabel_in_columns_or_in_one_cell(tmp_path: Path, six: str) -> None:
    rows = (f"{name}\t{i % 2}\t{int(i > 3)}" for i, name in enumerate(NAMES))
    records = from_table(six, table(tmp_path, "name\tliver\tbrain", *rows))
    assert (records.task, records.classes) == ("multilabel", ("liver", "brain"))
    assert records.labels.dtype == np.float32
    assert records.labels[:, 1].tolist() == [0, 0, 0, 0, 1, 1]
    cells = ["a;b", "a", "b", "-", "b;c", "c"]
    joined = from_table(six, table(tmp_path, "name\tlabels", *map("\t".join, zip(NAMES, cells, strict=True))))
    assert (joined.task, joined.classes) == ("multilabel", ("a", "b", "c"))
    assert joined.labels.tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_the_task_can_be_given(tmp_path: Path, six: str) -> None:
    labels = table(tmp_path, "name\ty", *(f"{name}\t{i % 2}" for i, name in enumerate(NAMES)))
    assert from_table(six, labels).task == "classification"
    assert from_table(six, labels, "regression").labels.shape == (6, 1)
    two = table(tmp_path, "name\ty\tz", *(f"{name}\t{i % 2}\t{i}" for i, name in enumerate(NAMES)))
    with pytest.raises(UserError, match="classification needs one label column, got y, z"):
        from_table(six, two, "classification")
    with pytest.raises(UserError, match=r"y\.tsv:4: column 'z': expected 0 or 1, got '2'"):
        from_table(six, two, "multilabel")


GOOD = [f"{name}\t{i % 2}" for i, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name\tlabel", *GOOD[:-2]], r"has no label for 2 of 6 sequences, for example 's4' \(line 9\)"),
        (["name\tlabel", *GOOD, "s9\t1"], r":8: 's9' is not in the FASTA file \(1 of 7 rows"),
        (["name\tlabel", *GOOD, "s2\t1"], ":8: the name 's2' was already used at line 4"),
        (["name\tlabel", *GOOD[:-1], "s5\t"], ":7: the column 'label' is empty"),
        (["name\tlabel", *GOOD[:-1], "s5\tNA"], ":7: the column 'label' is empty"),
        (["name\tlabel", *GOOD[:-1], "s5\t1\t2"], ":7: expected 2 cells, got 3"),
        (
            ["name\tlabel\tsplit", *(f"{row}\ttraining" for row in GOOD[:-1]), "s5\t1\tfoo"],
            ":7: expected train, valid",
        ),
        (["name\tlabel\tlabel", *(f"{row}\t1" for row in GOOD)], ":1: two columns are named 'label'"),
        (["name\tlabel"], "holds no row below its header"),
        (["# only a comment"], "holds no row"),
        (["just words"], ":1: expected a name and a label"),
        (["a\tb\tc\td", "e\tf\tg\th"], ":1: expected a header line"),
        (["name\tlabel", *(f"{name}\tone" for name in NAMES)], "expected at least 2 classes, got 1"),
        (["name\tlabel", *(f"{n}\t{int(n == 's0')}" for n in NAMES)], r":2: class '1' has 1 sequence,"),
        (["name\ty", *(f"{name}\t0.5" for name in NAMES)], "column 'y' has the same value in every row"),
        (["name\ta\tb", *(f"{row}\t1" for row in GOOD)], "every sequence has the label 'b'"),
        (["name\ta\tb", *(f"{row}\t0.5" for row in GOOD[:-1]), "s5\t1\tinf"], ":7: column 'b': expected"),
        ([], "is empty"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(
    tmp_path: Path, six: str, lines: list[str], message: str
) -> None:
    path = write(tmp_path / "y.tsv", "\n".join(lines) + ("\n" if lines else ""))
    with pytest.raises(UserError, match=message) as caught:
        from_table(six, path)
    assert "y.tsv" in caught.value.message


cells = st.sampled_from(
    ["name", "label", "split", "s0", "s1", "s2", "s3", "1", "0", "0.5", "", "a;b", '"', "train", "é"]
)
rows = st.lists(st.lists(cells, min_size=1, max_size=4), max_size=10)


@given(rows, st.sampled_from(["\t", ",", " "]))
@settings(max_examples=150)
def test_any_table_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: list[list[str]], separator: str
) -> None:
    folder = tmp_path_factory.mktemp("table")
    path = write(folder / "y.tsv", "\n".join(separator.join(row) for row in content))
    try:
        records = from_table(fasta(folder / "x.fa", NAMES[:4]), path)
    except UserError:
        return
    assert len(records) == 4


# --- BED and genome --------------------------------------------------------------------------------------


@pytest.fixture
def genome(tmp_path: Path) -> str:
    sequence = letters(20_000, 1)
    half = "N" * 1000 + letters(9_000, 2).replace("A", "G").replace("T", "C") + letters(10_000, 3)
    return write(tmp_path / "genome.fa", f">chr1\n{sequence}\n>chr2\n{half}\n")


def test_bed_reads_the_interval_and_its_strand(tmp_path: Path, genome: str) -> None:
    rows = [f"chr1\t{i * 100}\t{i * 100 + 30}\t{'ab'[i % 2]}\t0\t{'+-'[i % 2]}" for i in range(8)]
    records = from_bed(write(tmp_path / "x.bed", "\n".join(rows)), genome)
    assert records.classes == ("a", "b")
    assert decode(records.tokens[2]) == letters(20_000, 1)[200:230]
    complement = str.maketrans("ACGT", "TGCA")
    assert decode(records.tokens[1]) == letters(20_000, 1)[100:130].translate(complement)[::-1]
    assert records.intervals is not None
    assert records.intervals[1] == Interval("chr1", 100, 130, "-")
    assert records.sources[1].endswith("x.bed:2")


def test_chromosome_names_follow_the_genome(tmp_path: Path, genome: str) -> None:
    a = write(tmp_path / "a.bed", "1\t0\t10\n1\t20\t30\n2\t2000\t2010\n")
    b = write(tmp_path / "b.bed", "1\t50\t60\n1\t70\t80\n2\t3000\t3010\n")
    records = from_bed({"b": b, "a": a}, genome)
    assert records.classes == ("b", "a")
    assert records.intervals is not None
    assert {interval.chrom for interval in records.intervals} == {"chr1", "chr2"}


def test_background_windows_match_and_overlap_nothing(tmp_path: Path, genome: str) -> None:
    generator = np.random.default_rng(5)
    starts = np.sort(generator.choice(np.arange(1000, 19_000, 300), 40, replace=False))
    rows = [f"chr{1 + i % 2}\t{s}\t{s + 100 + i}\tpeak{i}" for i, s in enumerate(starts.tolist())]
    path = write(tmp_path / "x.bed", "\n".join(rows))
    records = from_bed(path, genome, seed=3)
    assert records.classes == ("background", "positive")
    assert records.labels.tolist() == [1] * 40 + [0] * 40
    assert records.intervals is not None
    positives, negatives = records.intervals[:40], records.intervals[40:]
    for positive, negative in zip(positives, negatives, strict=True):
        assert (positive.chrom, len(positive)) == (negative.chrom, len(negative))
    everything = [*positives, *negatives]
    for i, one in enumerate(negatives):
        assert not any(one.overlaps(other) for j, other in enumerate(everything) if j != i + 40)
    assert not any((records.tokens[i] == N).any() for i in range(40, 80))
    gc = np.array([gc_fraction(tokens) for tokens in records.tokens])
    assert np.abs(gc[:40] - gc[40:]).mean() < 0.03, (
        "half of chr2 is pure G and C: unmatched draws are far off"
    )
    assert "percentage points" in records.notes[0]
    for i in (0, 41, 79):
        place = records.intervals[i]
        assert np.array_equal(records.tokens[i], Fasta(genome).fetch(place.chrom, place.start, place.end))
    again = from_bed(path, genome, seed=3)
    assert again.intervals == records.intervals
    assert from_bed(path, genome, seed=4).intervals != records.intervals


def test_repeated_intervals_of_a_class_are_read_once(tmp_path: Path, genome: str) -> None:
    rows = [f"chr1\t{i // 2 * 100}\t{i // 2 * 100 + 50}\tpeak{i}\t0\t." for i in range(8)]
    records = from_bed(write(tmp_path / "x.bed", "\n".join(rows)), genome)
    assert len(records) == 8, "four intervals and their background"
    assert records.notes[0] == "left out 4 rows that repeat an interval of the same class"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["chr1\t0\t10", "chr1\t19990\t20001"], r"x\.bed:2: chr1:19990-20001 ends past the"),
        (["chr9\t0\t10"], r"x\.bed:1: .*no sequence named 'chr9'"),
        (["chr1\t0\t10"], r"x\.bed:1: expected at least 3 intervals, got 1"),
        ([*(f"chr1\t{i}\t{i + 9}\ta" for i in range(5)), "chr1\t50\t60"], r"x\.bed:6: column 4 "),
        ([f"chr1\t{i}\t{i + 9}\t{'aab'[i // 2]}" for i in range(5)], r"x\.bed:5: class 'b' has 1 sequence"),
        ([f"chr1\t{i}\t{i + 15_000}" for i in range(3)], "no room on chr1"),
    ],
)  # fmt: skip
def test_broken_bed_layouts_are_refused(tmp_path: Path, genome: str, rows: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_bed(write(tmp_path / "x.bed", "\n".join(rows)), genome)
