"""Ten thousand files that were damaged, each refused in a sentence or read right; some of them on every run.

A case is decided by its format and number alone: `check("bed", 1234)` repeats one.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hostile_checks import (
    check_alleles,
    check_bed,
    check_fasta,
    check_genbank,
    check_gff3,
    check_index,
    check_labels,
    check_places,
    check_vcf,
    within,
    write_genome,
)
from hostile_mutations import mutated
from hostile_originals import FASTA, ORIGINALS

from genomics.fasta import Fasta
from genomics.variants import VariantWindows

SUFFIXES = {
    "fasta": "fa",
    "index": "fa",
    "bed": "bed",
    "vcf": "vcf",
    "gff3": "gff3",
    "genbank": "gb",
    "labels": "tsv",
    "places": "csv",
    "alleles": "tsv",
}
FORMATS = tuple(SUFFIXES)
QUICK, ALL = 50, 1_667  # of each format: 450, and 15,003 (10,002 of them no tables)


class Bench(NamedTuple):
    """Where the files go, and the genome that they are about."""

    folder: Path
    genome: Fasta
    windows: VariantWindows


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "cache"))
    genome = write_genome(tmp_path / "genome.fa")
    return Bench(tmp_path, genome, VariantWindows(genome, 64))


def check(bench: Bench, kind: str, number: int) -> bool:
    """Make one file and read it; say whether it was accepted."""
    generator = random.Random(f"{kind} {number}")
    path = bench.folder / f"{number}.{SUFFIXES[kind]}"
    checks: dict[str, Callable[[bytes], bool]] = {
        "fasta": lambda content: check_fasta(path, content),
        "bed": lambda content: check_bed(path, content, bench.genome),
        "vcf": lambda content: check_vcf(path, content, bench.windows),
        "gff3": lambda content: check_gff3(path, content, bench.genome.path),
        "genbank": lambda content: check_genbank(path, content),
        "labels": lambda content: check_labels(path, content, bench.genome.path),
        "places": lambda content: check_places(path, content),
        "alleles": lambda content: check_alleles(path, content, bench.windows),
    }
    with within():
        if kind == "index":
            content = generator.choice(FASTA)
            path.write_bytes(content)
            Fasta(path)
            index = path.with_name(path.name + ".fai")
            good = index.read_bytes() if index.exists() else b"b\t19\t17\t19\t20\n"
            accepted = check_index(path, content, mutated(good, generator))
            index.unlink(missing_ok=True)
        else:
            accepted = checks[kind](mutated(generator.choice(ORIGINALS[kind]), generator))
    path.unlink()
    path.with_name(path.name + ".fai").unlink(missing_ok=True)
    return accepted


def check_all(bench: Bench, kind: str, numbers: range) -> None:
    failures = []
    accepted = 0
    for number in numbers:
        try:
            accepted += check(bench, kind, number)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{kind} {number}: {error!r:.300} in {where.name}, line {where.lineno}")
    print(f"{kind}: {accepted:,} of {len(numbers):,} files accepted, the others refused")
    assert not failures, f"{len(failures)} of {len(numbers)}\n" + "\n".join(failures[:20])
    assert 0.1 < accepted / len(numbers) < 0.9, accepted  # neither harmless nor all fatal


@pytest.mark.parametrize("kind", FORMATS)
def test_some_damaged_files(bench: Bench, kind: str) -> None:
    check_all(bench, kind, range(QUICK))


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("kind", FORMATS)
def test_ten_thousand_damaged_files(bench: Bench, kind: str) -> None:
    check_all(bench, kind, range(ALL))


def test_a_case_is_decided_by_its_number(bench: Bench) -> None:
    contents = [mutated(FASTA[0], random.Random("fasta 3")) for _ in range(2)]
    assert contents[0] == contents[1]
    assert check(bench, "fasta", 3) == check(bench, "fasta", 3)


def test_an_endless_reader_is_noticed() -> None:
    def endless() -> None:
        with within(0.05):
            while True:
                pass

    with pytest.raises(TimeoutError, match=r"more than 0\.05 seconds"):
        endless()
