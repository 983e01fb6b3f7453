from __future__ import annotations

import gzip
import multiprocessing
import os
import pickle
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf
from hypothesis import given, settings
from hypothesis import strategies as st

from genomics.alphabet import decode
from genomics.fasta import Fasta, read_fasta
from genomics.fasta_index import _load, _scan
from seqmamba.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SEQMAMBA_DATA", str(folder))
    return folder


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sequences(path: Path) -> dict[str, str]:
    return {record.name: record.sequence.decode() for record in read_fasta(path)}


TIDY = b">one first\nACGT\nACGT\nAC\n>two\nGGGG\n"
SAME_DATA = {
    "tidy": TIDY,
    "windows line endings": TIDY.replace(b"\n", b"\r\n"),
    "no last newline": TIDY.rstrip(b"\n"),
    "blank lines": b"\n\n" + TIDY.replace(b">two", b"\n\n>two") + b"\n\n",
    "blank line in a record": TIDY.replace(b"ACGT\nAC\n", b"ACGT\n\nAC\n"),
    "mixed widths": b">one first\nACG\nTACGT\nAC\n>two\nGGGG\n",
    "longer last line": b">one first\nACGT\nACGTAC\n>two\nGGGG\n",
    "byte order mark": b"\xef\xbb\xbf" + TIDY,
    "trailing spaces": TIDY.replace(b"ACGT\n", b"ACGT  \n"),
    "one line a record": b">one first\nACGTACGTAC\n>two\nGGGG\n",
    "mixed line endings": TIDY.replace(b"ACGT\n", b"ACGT\r\n", 1),
    "last line ends unlike the others": TIDY.replace(b"AC\n>", b"AC\r\n>"),
    "gzip": gzip.compress(TIDY),
    "two gzip members": gzip.compress(TIDY[:20]) + gzip.compress(TIDY[20:]),
}


@pytest.mark.parametrize("content", SAME_DATA.values(), ids=SAME_DATA)
def test_every_layout_reads_as_the_same_sequences(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "x.fa", content)
    assert sequences(path) == {"one": "ACGTACGTAC", "two": "GGGG"}
    fasta = Fasta(path)
    assert fasta.names == ("one", "two")
    assert [fasta.length(name) for name in fasta.names] == [10, 4]
    for start in range(10):
        for end in range(start + 1, 11):
            assert decode(fasta.fetch("one", start, end)) == "ACGTACGTAC"[start:end]
    assert decode(fasta.fetch("two", 0, 4)) == "GGGG"


BROKEN = {
    "empty": (b"", "is empty"),
    "only blank lines": (b"\n\n", "no FASTA record"),
    "empty gzip": (gzip.compress(b""), "empty once decompressed"),
    "no header first": (b"ACGT\n", r":1: a FASTA file starts with '>'"),
    "header without a name": (b">a\nAC\n>\nAC\n", ":3: the header has no name"),
    "empty record": (b">a\nAC\n>b\n>c\nAC\n", ":3: record 'b' has no sequence"),
    "truncated after a header": (b">a\nAC\n>b\n", ":3: record 'b' has no sequence"),
    "repeated name": (b">a\nAC\n>b\nAC\n>a x\nAC\n", ":5: the name 'a' was already used at line 1"),
    "protein": (b">a\nAC\nAC\nMKLV\n", ":4: column 3: 'L'"),
    "gap": (b">a\nAC-A\n", ":2: column 3: '-'"),
    "letter outside ASCII": (">a\nACé\n".encode(), ":2: column 3: 'é'"),
    "space inside": (b">a\nAC GT\n", ":2: column 3: ' '"),
    "old Mac line endings": (b">a\rACGT\r>b\rAC\r", ":1: has a carriage return"),
    "NUL bytes": (b">a\nAC\0GT\n", ":2: is not text"),
    "truncated gzip": (gzip.compress(b">a\n" + b"ACGT" * 1000)[:-9], "gzip data break off"),
    "damaged gzip": (gzip.compress(b">a\nACGT\n")[:12] + b"\xff" * 12, "gzip data break off"),
    "bzip2": (b"BZh91AY&SY", "is a bzip2 file"),
    "zip": (b"PK\x03\x04xxxx", "is a zip archive"),
    "UTF-16": (">a\nACGT\n".encode("utf-16"), "is UTF-16 text"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "x.fa", content)
    for reader in (sequences, Fasta):
        with pytest.raises(UserError, match=message) as caught:
            reader(path)
        assert str(path) in caught.value.message
        assert "\n" not in caught.value.message
    assert sorted(os.listdir(tmp_path)) == ["x.fa"], "nothing half-written stays behind"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Fasta(tmp_path / "none.fa")
    with pytest.raises(UserError, match="is a folder"):
        sequences(tmp_path)


def test_truncated_bgzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.gz"
    with bgzf.BgzfWriter(str(path)) as handle:
        handle.write(b">a\n" + b"ACGTACGT\n" * 40_000)
    assert decode(Fasta(path).fetch("a", 319_990, 320_000)) == "GTACGTACGT"
    complete = path.read_bytes()
    write(path, complete[: len(complete) - 28])  # the end-of-file block alone is missing
    with pytest.raises(UserError, match="truncated"):
        Fasta(path)
    write(path, complete[: len(complete) // 2])
    with pytest.raises(UserError, match=r"truncated|break off"):
        sequences(path)


names = st.lists(
    st.text(alphabet="abcXYZé019._:|-", min_size=1, max_size=8), min_size=1, max_size=5, unique=True
)
bases = st.text(alphabet="ACGTNacgtnRYuU", min_size=1, max_size=60)


@st.composite
def fasta_files(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Sequences, and a file that holds them in some layout a human or a tool has produced."""
    wanted = {name: draw(bases) for name in draw(names)}
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    ragged = draw(st.booleans())
    lines = []
    for name, sequence in wanted.items():
        lines.append(f">{name}" + draw(st.sampled_from(["", " some words", "\ttabbed"])))
        width = draw(st.integers(1, 20))
        position = 0
        while position < len(sequence):
            step = draw(st.integers(1, 20)) if ragged else width
            lines.append(
                sequence[position : position + step] + ("  " if ragged and draw(st.booleans()) else "")
            )
            position += step
        if draw(st.integers(0, 5)) == 0:
            lines.append("")
    text = newline.join(lines) + draw(st.sampled_from(["", newline, 2 * newline]))
    return wanted, draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


def normal(letters: str) -> str:
    return "".join({"U": "T", "R": "N", "Y": "N"}.get(letter, letter) for letter in letters.upper())


@given(fasta_files(), st.booleans(), st.data())
@settings(max_examples=100)
def test_no_coordinate_is_ever_wrong(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[dict[str, str], bytes],
    packed: bool,
    data: st.DataObject,
) -> None:
    wanted, content = case
    path = tmp_path_factory.mktemp("fasta") / "x.fa"
    write(path, gzip.compress(content) if packed else content)
    assert sequences(path) == wanted
    for fasta in (Fasta(path), Fasta(path)):  # the second uses the index that the first wrote
        assert fasta.names == tuple(wanted)
        for name, sequence in wanted.items():
            start = data.draw(st.integers(0, len(sequence) - 1))
            end = data.draw(st.integers(start + 1, len(sequence)))
            assert decode(fasta.fetch(name, start, end)) == normal(sequence)[start:end]
            assert decode(fasta.fetch(name, 0, len(sequence))) == normal(sequence)


PIECES = [b">a", b">b x", b">", b"ACGT", b"NNNN", b"E", b" ", b"\n", b"\r\n", b"\r", b"\0", b"\x1c"]
MARKS = [b"\xef\xbb\xbf", b"\x1f\x8b\x08"]
pieces = st.lists(st.sampled_from(PIECES + MARKS), max_size=30).map(b"".join)


@given(st.one_of(st.binary(max_size=300), pieces))
@settings(max_examples=300)
def test_garbage_gives_a_user_error_or_consistent_sequences(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = write(tmp_path_factory.mktemp("garbage") / "x.fa", content)
    try:
        expected: dict[str, str] | None = sequences(path)
    except UserError:
        expected = None
    try:
        fasta = Fasta(path)
    except UserError:
        assert expected is None
    else:
        assert expected is not None
        for name, sequence in expected.items():
            assert decode(fasta.fetch(name, 0, fasta.length(name))) == normal(sequence)


@given(st.binary(max_size=200), st.integers(0, 200))
@settings(max_examples=100)
def test_damaged_gzip_never_passes_for_data(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, position: int
) -> None:
    whole = gzip.compress(b">a\n" + b"ACGTTGCA" * 50 + b"\n")
    path = write(tmp_path_factory.mktemp("gz") / "x.fa", whole[:position] + noise)
    try:
        result = sequences(path)
    except UserError:
        return
    assert whole[:position] + noise == whole or result == {"a": "ACGTTGCA" * 50} or position < 2


def test_plain_text_named_gz_is_read(tmp_path: Path) -> None:
    assert decode(Fasta(write(tmp_path / "x.fa.gz", TIDY)).fetch("one", 2, 10)) == "GTACGTAC"


def test_reverse_strand_and_names_without_chr(tmp_path: Path) -> None:
    fasta = Fasta(write(tmp_path / "x.fa", b">chr1\nAACGT\n>chrM\nAC\n"))
    assert decode(fasta.fetch("1", 0, 3, "-")) == "GTT"
    assert decode(fasta.fetch("MT", 0, 2)) == "AC"
    assert fasta.resolve("1") == "chr1"


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 6), (3, 3), (4, 2), (5, 6)])
def test_coordinates_outside_the_sequence_are_refused(tmp_path: Path, start: int, end: int) -> None:
    fasta = Fasta(write(tmp_path / "x.fa", b">chr1\nAACGT\n"))
    with pytest.raises(UserError, match=rf"chr1:{start}-{end}.*5 bases"):
        fasta.fetch("chr1", start, end)


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    fasta = Fasta(write(tmp_path / "x.fa", b">chr1\nAACGT\n"))
    with pytest.raises(UserError, match="no sequence named 'chr2'") as caught:
        fasta.fetch("chr2", 0, 1)
    assert "chr1" in (caught.value.hint or "")


def test_a_stale_index_is_rebuilt_even_if_it_looks_newer(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", b">a\nACGTACGT\n>b\nGG\n")
    Fasta(path)
    index = tmp_path / "x.fa.fai"
    assert index.read_text() == "a\t8\t3\t8\t9\nb\t2\t15\t2\t3\n"
    write(path, b">a\nACGTAAAACGT\n>b\nTT\n")
    os.utime(index, (path.stat().st_mtime + 100,) * 2)
    fasta = Fasta(path)
    assert fasta.length("a") == 11
    assert decode(fasta.fetch("b", 0, 2)) == "TT"


def test_an_index_with_shifted_lines_is_not_trusted(tmp_path: Path) -> None:
    """What pyfaidx writes for a record whose last line is the longest leads to wrong bases."""
    path = write(tmp_path / "x.fa", b">a\nACGT\nACGTACTTGGGG\n>b\nGG\n")
    index = tmp_path / "x.fa.fai"
    index.write_text("a\t16\t3\t4\t5\nb\t2\t24\t2\t3\n")
    os.utime(index, (path.stat().st_mtime + 100,) * 2)
    assert _load(index, path) is None
    assert decode(Fasta(path).fetch("a", 8, 16)) == "ACTTGGGG"


@pytest.mark.parametrize(
    "text",
    [
        "a\t10\t3\t6\t7\nb\t4\t20\t4\t5\n",  # as many lines, so it leads to the next header
        "a\t10\t3\t4\t5\nb\t5\t20\t5\t6\n",  # counts the last line end as a base
        f"a\t10\t3\t4\t5\nb\t{10**30}\t20\t4\t5\n",
    ],
)
def test_an_index_that_fits_by_its_ends_only_is_not_trusted(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "x.fa", b">a\nACGT\nACGT\nAC\n>b\nGGTC\n")
    index = tmp_path / "x.fa.fai"
    index.write_text(text)
    os.utime(index, (path.stat().st_mtime + 100,) * 2)
    assert _load(index, path) is None
    fasta = Fasta(path)
    assert [decode(fasta.fetch("a", 3, 10)), decode(fasta.fetch("b", 0, 4))] == ["TACGTAC", "GGTC"]


@pytest.mark.parametrize(
    "text", ["", "garbage", "a\t4\n", "a\tx\t3\t4\t5\n", "a\t4\t3\t0\t1\n", "a\t-4\t3\t4\t5\n", "\0"]
)
def test_a_malformed_index_is_replaced(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "x.fa", b">a\nACGT\n")
    index = tmp_path / "x.fa.fai"
    index.write_text(text)
    os.utime(index, (path.stat().st_mtime + 100,) * 2)
    assert decode(Fasta(path).fetch("a", 0, 4)) == "ACGT"
    assert index.read_text() == "a\t4\t3\t4\t5\n"


def test_index_goes_to_the_cache_where_the_folder_cannot_be_written(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.fa", TIDY)
    real = os.access  # root may write anywhere, so the answer is faked
    monkeypatch.setattr(os, "access", lambda p, mode: mode != os.W_OK and real(p, mode))
    assert decode(Fasta(path).fetch("one", 2, 6)) == "GTAC"
    assert os.listdir(tmp_path) == ["x.fa"]
    assert len(list(cache.rglob("*.fai"))) == 1


def test_our_index_equals_pyfaidx_on_regular_files(tmp_path: Path) -> None:
    import pyfaidx

    path = write(tmp_path / "x.fa", TIDY)
    pyfaidx.Faidx(str(path), indexname=str(tmp_path / "theirs")).close()
    assert _scan(path) == _load(tmp_path / "theirs", path)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", b">a\n" + b"ACGT" * 50 + b"\n")
    fasta = Fasta(path)
    write(path, b">a\nACGT\n")
    with pytest.raises(UserError, match="changed"):
        fasta.fetch("a", 20, 200)


def _reads(fasta: Fasta, truth: dict[str, bytes], seed: int, count: int) -> int:
    """Read random windows and count the wrong ones."""
    generator = np.random.default_rng(seed)
    wrong = 0
    for _ in range(count):
        name = fasta.names[int(generator.integers(len(fasta.names)))]
        start = int(generator.integers(0, len(truth[name]) - 300))
        end = start + int(generator.integers(1, 300))
        try:
            wrong += decode(fasta.fetch(name, start, end)).encode() != truth[name][start:end]
        except UserError:
            wrong += 1
    return wrong


def test_eight_forked_workers_read_the_right_bases(tmp_path: Path) -> None:
    """A plain pyfaidx handle opened before the fork fails this: its file position is shared."""
    generator = np.random.default_rng(0)
    truth = {
        f"chr{i}": generator.choice(list(b"ACGT"), 200_000).astype(np.uint8).tobytes() for i in range(1, 4)
    }
    lines = [
        line
        for name, letters in truth.items()
        for line in (b">" + name.encode(), *(letters[i : i + 60] for i in range(0, len(letters), 60)))
    ]
    fasta = Fasta(write(tmp_path / "genome.fa", b"\n".join(lines) + b"\n"))
    assert _reads(fasta, truth, 99, 10) == 0  # the parent's handle is open when the workers start
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=lambda seed=seed: queue.put(_reads(fasta, truth, seed, 3_000)))
        for seed in range(8)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside torch's threads
        for worker in workers:
            worker.start()
    wrong_in_parent = _reads(fasta, truth, 100, 3_000)
    wrong = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert wrong == [0] * 8
    assert wrong_in_parent == 0


def test_pickling_leaves_the_handle_behind(tmp_path: Path) -> None:
    fasta = Fasta(write(tmp_path / "x.fa", TIDY))
    fasta.fetch("one", 0, 1)
    copy = pickle.loads(pickle.dumps(fasta))
    assert copy._reader is None
    assert decode(copy.fetch("one", 0, 4)) == "ACGT"


def test_reading_is_fast(tmp_path: Path) -> None:
    """100,000 sequences of 200 bases take about half a second; the bound leaves room for a busy machine."""
    records = b"".join(b">s%d some words\n" % i + b"ACGTA" * 40 + b"\n" for i in range(20_000))
    path = write(tmp_path / "x.fa", records)
    start = time.process_time()
    assert sum(len(record.sequence) for record in read_fasta(path)) == 4_000_000
    assert Fasta(path).length("s19999") == 200
    assert time.process_time() - start < 2


def test_reading_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    for content in (TIDY, gzip.compress(TIDY)):
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda content=content: pipe.write_bytes(content))
        writer.start()
        assert sequences(pipe) == {"one": "ACGTACGTAC", "two": "GGGG"}
        writer.join()
        with pytest.raises(UserError, match="is a pipe"):
            Fasta(pipe)
        pipe.unlink()


def test_one_very_long_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", b">a\n" + b"ACGT" * 500_000)
    fasta = Fasta(path)
    assert fasta.length("a") == 2_000_000
    assert decode(fasta.fetch("a", 1_999_997, 2_000_000)) == "CGT"
