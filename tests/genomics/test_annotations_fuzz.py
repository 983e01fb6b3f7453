"""Damaged and random annotation is refused in a sentence, or read; it never ends in a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from annotated_genomes import planted, write_fasta, write_genbank, write_gff3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genomics.annotations import read_labelled
from genomics.gene_labels import CODING, GENES, UNKNOWN
from seqmamba.errors import UserError

SCHEMES = (CODING, GENES)
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(paths: list[Path], scheme: object = GENES) -> bool:
    """Read; the result makes sense, or there is one clear sentence. Says whether it was read."""
    refusal = ""
    try:
        chromosomes = read_labelled([*map(str, paths)], scheme)  # type: ignore[arg-type]
    except UserError as error:
        refusal = error.message
    if refusal:
        assert refusal.isprintable(), refusal
        return False
    for chromosome in chromosomes:
        assert chromosome.labels.shape == chromosome.tokens.shape
        assert chromosome.labels.min(initial=0) >= UNKNOWN
        assert chromosome.labels.max(initial=0) < len(GENES.classes)
    return True


def mutated(content: bytes, generator: random.Random) -> bytes:
    """Change some bytes, lose or repeat a stretch, or swap two lines."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        kind, at = generator.randrange(5), generator.randrange(len(data))
        if kind == 0:
            data[at] = generator.randrange(256)
        elif kind == 1:
            del data[at : at + generator.randint(1, 60)]
        elif kind == 2:
            data[at:at] = data[at : at + generator.randint(1, 60)]
        elif kind == 3:
            data[at:at] = generator.choice(
                (b"\t", b"\n", b"-1", b"..", b"<", b"join(", b"99999999999999999999", b"\x00", b"complement(")
            )
        else:
            lines = bytes(data).split(b"\n")
            i, j = generator.randrange(len(lines)), generator.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i]
            data = bytearray(b"\n".join(lines))
        if not data:
            return b""
    return bytes(data)


@pytest.fixture
def genome(tmp_path: Path) -> tuple[Path, Path, Path]:
    letters, features = planted(1, genes=4)
    return (
        write_genbank(tmp_path / "x.gb", letters, features),
        write_fasta(tmp_path / "x.fa", letters),
        write_gff3(tmp_path / "x.gff3", features),
    )


# Biopython warns of what it repairs; that is not this reader's to silence everywhere.
@pytest.mark.filterwarnings("ignore::Bio.BiopythonWarning")
@pytest.mark.parametrize("which", ["genbank", "fasta", "gff3"])
def test_mutated_files(genome: tuple[Path, Path, Path], which: str) -> None:
    genbank, fasta, gff3 = genome
    target = {"genbank": genbank, "fasta": fasta, "gff3": gff3}[which]
    given_paths = [genbank] if which == "genbank" else [fasta, gff3]
    content = target.read_bytes()
    generator = random.Random(which)
    read = 0
    for number in range(700):
        target.write_bytes(mutated(content, generator))
        read += read_or_refuse(given_paths, SCHEMES[number % 2])
    assert 0 < read < 700  # the mutations are neither harmless nor all fatal


columns = st.one_of(
    st.sampled_from(
        ["TOY.1", "CDS", "exon", "mRNA", "gene", "1", "9", "60", "+", "-", ".", "0", "2", "ID=a"]
    ),
    st.sampled_from(
        ["ID=a", "Parent=a", "ID=a;Parent=b", "pseudo=true", "Is_circular=true", "partial=true", ""]
    ),
    st.integers(-5, 10**12).map(str),
    st.text(max_size=6),
)


@quick
@given(lines=st.lists(st.lists(columns, min_size=7, max_size=10), min_size=1, max_size=6))
def test_random_columns(tmp_path: Path, lines: list[list[str]]) -> None:
    fasta = write_fasta(tmp_path / "x.fa", "ACGTACGTNN" * 6)
    gff3 = tmp_path / "x.gff3"
    gff3.write_text("\n".join("\t".join(line) for line in lines), encoding="utf-8", errors="surrogatepass")
    read_or_refuse([fasta, gff3])


@quick
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["CDS", "CDS", "exon", "mRNA", "gene", "pseudogene", "region"]),
            st.integers(1, 70),
            st.integers(0, 40),
            st.sampled_from("+-.?"),
            st.sampled_from(".012"),
            st.sampled_from(["ID=a", "ID=b;Parent=t", "Parent=t", "Parent=t,u", "pseudo=true", "."]),
        ),
        min_size=1,
        max_size=8,
    ),
    circular=st.booleans(),
)
def test_random_features(tmp_path: Path, rows: list[tuple], circular: bool) -> None:
    fasta = write_fasta(tmp_path / "x.fa", "ACGTACGTNN" * 6)
    text = "TOY.1\tx\tregion\t1\t60\t.\t+\t.\tIs_circular=true\n" if circular else ""
    for kind, start, extra, strand, phase, marks in rows:
        text += f"TOY.1\tx\t{kind}\t{start}\t{start + extra}\t.\t{strand}\t{phase}\t{marks}\n"
    gff3 = tmp_path / "x.gff3"
    gff3.write_text(text)
    inside = all(start + extra <= 60 or (circular and start <= 60) for _, start, extra, *_ in rows)
    assert read_or_refuse([fasta, gff3]) == inside
    if inside:
        (chromosome,) = read_labelled([fasta, gff3], CODING)
        touched = np.zeros(60, dtype=bool)
        for kind, start, extra, *_ in rows:
            if kind in ("CDS", "gene", "pseudogene"):
                touched[np.arange(start - 1, start + extra) % 60] = True
        assert not (chromosome.labels[~touched] > 0).any()


@pytest.mark.filterwarnings("ignore::Bio.BiopythonWarning")
@quick
@given(location=st.text(alphabet="0123456789.,()<>^:joincmpletrdTOY ", min_size=1, max_size=40))
def test_random_locations(tmp_path: Path, location: str) -> None:
    letters = "acgtacgtac" * 6
    rows = "\n".join(
        f"{start + 1:>9} " + " ".join(letters[start : start + 60][i : i + 10] for i in range(0, 60, 10))
        for start in range(0, 60, 60)
    )
    path = tmp_path / "x.gb"
    path.write_text(
        "LOCUS       TOY                       60 bp    DNA     circular BCT 01-JAN-2000\n"
        "DEFINITION  toy.\nACCESSION   TOY\nVERSION     TOY.1\n"
        "FEATURES             Location/Qualifiers\n"
        f'     CDS             {location}\n                     /gene="x"\n'
        f"ORIGIN\n{rows}\n//\n"
    )
    read_or_refuse([path])
