"""What is no file, or none that can be read, is refused by every reader in one sentence; nothing waits."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hostile_checks import attempt, within
from hostile_originals import ALLELES, BED, FASTA, GENBANK, GFF3, LABELS, PLACES, VCF

from genomics.annotations import read_labelled
from genomics.datasets.headers import from_headers
from genomics.datasets.table import read_label_table
from genomics.fasta import Fasta, read_fasta
from genomics.features import read_genbank, read_gff3, read_gff3_sequences
from genomics.gene_labels import CODING
from genomics.interval_sets import read_intervals
from genomics.intervals import read_bed
from genomics.motif_files import read_motifs
from genomics.variant_tables import VariantTable
from genomics.vcf import Vcf

STREAMS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "read_fasta": (lambda path: list(read_fasta(path)), FASTA[0]),
    "from_headers": (from_headers, b"".join(b">%d|%d\nACGT\n" % (i, i % 2) for i in range(8))),
    "read_bed": (lambda path: list(read_bed(path)), BED[1]),
    "read_intervals": (lambda path: list(read_intervals(path)), BED[1]),
    "read_gff3": (lambda path: list(read_gff3(path)), GFF3[1]),
    "read_gff3_sequences": (lambda path: list(read_gff3_sequences(path)), GFF3[2]),
    "read_genbank": (lambda path: list(read_genbank(path)), GENBANK[0]),
    "read_labelled": (lambda path: read_labelled(path, CODING), GENBANK[0]),
    "read_label_table": (read_label_table, LABELS[0]),
    "read_motifs": (read_motifs, b">MA1 one\nA [ 1 2 ]\nC [ 3 0 ]\nG [ 0 5 ]\nT [ 2 0 ]\n"),
}
"""Readers that go through a file once, and a file for each."""

SEEKERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "Fasta": (Fasta, FASTA[0]),
    "Vcf": (lambda path: list(Vcf(path).variants()), VCF[1]),
    "VariantTable": (lambda path: list(VariantTable(path).variants()), ALLELES[0]),
    "interval table": (lambda path: list(read_intervals(path)), PLACES[0]),
}
"""Readers that return to a file."""

READERS = {**STREAMS, **SEEKERS}
every_reader = pytest.mark.parametrize("name", READERS)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def place(tmp_path: Path, name: str) -> Path:
    """A path whose ending says table to the reader of tables of intervals."""
    return tmp_path / ("x.csv" if name == "interval table" else "x")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def _written(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


ODD: dict[str, Callable[[Path], Path]] = {
    "nothing": lambda path: path,
    "a folder": _folder,
    "a link to itself": _loop,
    "a name that no system takes": lambda path: path.with_name("x" * 300 + path.name),
    "a name with NUL": lambda path: Path(f"{path}\0"),
    "/dev/null": lambda path: Path("/dev/null"),
    "an empty file": _written(b""),
    "blank lines": _written(b"\n \n\t\n" * 9),
    "an empty gzip file": _written(gzip.compress(b"")),
    "half a gzip header": _written(b"\x1f\x8b\x08"),
    "a byte order mark alone": _written(b"\xef\xbb\xbf"),
    "a long line of nothing": _written(b"\xff" * 4_000_000),
    "a long line of zeros": _written(b"\0" * 4_000_000),
}


@every_reader
@pytest.mark.parametrize("kind", ODD)
def test_no_file_that_can_be_read(place: Path, name: str, kind: str) -> None:
    path = ODD[kind](place)
    with within():
        assert attempt(lambda: READERS[name][0](path), Path(str(path).removesuffix("\0"))) is None


@every_reader
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(place: Path, name: str) -> None:
    place.write_bytes(READERS[name][1])
    place.chmod(0)
    with within():
        assert attempt(lambda: READERS[name][0](place), place) is None


@every_reader
def test_a_good_file(place: Path, name: str) -> None:
    read, content = READERS[name]
    place.write_bytes(content)
    assert attempt(lambda: read(place), place) is not None


@pytest.fixture
def pipe(tmp_path: Path, name: str) -> Iterator[Path]:
    """A named pipe that somebody writes a good file to."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def feed() -> None:
        with suppress(BrokenPipeError):
            path.write_bytes(READERS[name][1])

    writer = threading.Thread(target=feed, daemon=True)
    writer.start()
    yield path
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # lets a writer go that nobody read from
    writer.join(5)
    os.close(reader)
    assert not writer.is_alive()


@pytest.mark.parametrize("name", STREAMS)
def test_a_pipe_is_read_once(pipe: Path, name: str) -> None:
    with within():
        assert attempt(lambda: STREAMS[name][0](pipe), pipe) is not None


@pytest.mark.parametrize("name", ["Fasta", "Vcf", "VariantTable"])
def test_a_pipe_cannot_be_read_again(pipe: Path, name: str) -> None:
    with within():
        assert attempt(lambda: SEEKERS[name][0](pipe), pipe) is None
