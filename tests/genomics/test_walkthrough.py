"""The walk-through of genomics/README.md, command after command, on small stand-ins of what it fetches."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotated_genomes import open_frame
from sequence_files import COMPLEMENT, random_sequence, with_motif, write_fasta
from walkthrough import Walkthrough

from genomics.fasta import read_fasta

pytestmark = pytest.mark.timeout(600)
GENES = "gbrowse/var/lib/gbrowse/databases"


def peaks(cache: Path) -> None:
    """Classes of sequences with coordinates, on nine chromosomes."""
    rng = np.random.default_rng(0)
    folder = cache / "oct4_mafk"
    folder.mkdir(parents=True)
    unseen = []
    for name in ("oct4", "mafk"):
        entries = []
        for number in range(108):
            letters = random_sequence(rng, 200)
            letters = with_motif(rng, letters) if name == "oct4" else letters
            start = 5_000 * (number + 1) + (1_000 if name == "oct4" else 0)
            entries.append(f">chr{number % 9 + 1}:{start}-{start + 200}\n{letters}\n")
        (folder / f"{name}.fa").write_text("".join(entries))
        unseen += [entry for entry in entries if entry.startswith((">chr8", ">chr9"))]
    (folder / "unseen.fa").write_text("".join(unseen))


def promoters(cache: Path) -> None:
    rng = np.random.default_rng(1)
    folder = cache / "cnnprom"
    folder.mkdir(parents=True)
    plain = [random_sequence(rng, 81) for _ in range(120)]
    write_fasta(folder / "Bacillus_non_prom.fa", plain[:60], "no")
    write_fasta(folder / "Bacillus_prom.fa", [with_motif(rng, letters) for letters in plain[60:]], "yes")


def chromosomes(folder: Path) -> None:
    """Two chromosomes with genes on both strands, and the beginning of SEO1 where it is in yeast."""
    fasta, annotation = folder / GENES / "yeast_scaffolds", folder / GENES / "yeast_chr1+2"
    for path in (fasta, annotation):
        path.mkdir(parents=True)
    rows = ["##gff-version 3"]
    for number, (name, length) in enumerate((("chrI", 12_000), ("chrII", 100_000)), start=1):
        letters, genes = chromosome(random.Random(number), length)
        if name == "chrI":
            letters = letters[:8_993] + "AATCTCTTTAACAATTGAATACAT" + letters[9_017:]
        lines = "\n".join(letters[start : start + 60] for start in range(0, len(letters), 60))
        (fasta / f"chr{number}.fa").write_text(f">{name}\n{lines}\n")
        for start, end, strand in genes:
            gene = f"{name}_{start}"
            rows.append(f"{name}\tSGD\tgene\t{start + 1}\t{end}\t.\t{strand}\t.\tID={gene}")
            rows.append(f"{name}\tSGD\tCDS\t{start + 1}\t{end}\t.\t{strand}\t0\tParent={gene}")
    (annotation / "yeast_chr1+2.gff3").write_text("\n".join(rows) + "\n")


def chromosome(generator: random.Random, length: int) -> tuple[str, list[tuple[int, int, str]]]:
    parts, genes, at = [], [], 0
    while at < length - 2_000:
        gap = "".join(generator.choices("ACGT", (3, 2, 2, 3), k=generator.randint(300, 600)))
        frame = open_frame(generator, generator.randint(100, 300))
        strand = generator.choice("+-")
        genes.append((at + len(gap), at + len(gap) + len(frame), strand))
        parts += [gap, frame if strand == "+" else frame[::-1].translate(COMPLEMENT)]
        at = genes[-1][1]
    return "".join([*parts, "".join(generator.choices("ACGT", k=length - at))]), genes


def download(words: list[str]) -> None:
    assert words == ["download", "gbrowse-data"]


def unpack(words: list[str]) -> None:
    assert words == ["-x", "gbrowse-data_*.deb", "gbrowse"]
    chromosomes(Path.cwd())


WALK = Walkthrough(
    "genomics",
    recipes={"genomics/oct4_mafk": peaks, "genomics/cnnprom": promoters},
    fetching={"apt-get": download, "dpkg-deb": unpack},
)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder after the last command."""
    with WALK.walked(tmp_path_factory) as folder:
        yield folder


def test_every_verb_is_walked_to() -> None:
    assert WALK.verbs == {
        *("audit", "fit", "predict", "embed", "attribute", "score-variants", "track", "bench")
    }
    assert set(WALK.quick) == {"seqmamba fit", "seqmamba genomics fit"}
    assert any("--init-from" in line for line in WALK.commands)


def test_models_have_reports_and_predictions(walked: Path) -> None:
    assert (walked / "runs/peaks/report.html").stat().st_size > 10_000
    rows = (walked / "predictions.tsv").read_text().splitlines()
    assert rows[0].split("\t")[-2:] == ["mafk", "oct4"]
    assert len(rows) == 1 + sum(1 for _ in read_fasta(walked / "unseen.fa"))
    assert pq.read_table(walked / "embeddings.parquet").num_rows == len(rows) - 1
    with np.load(walked / "scores.npz") as found:
        assert found["scores"].size == 200 * (len(rows) - 1)
    assert len(list((walked / "logos").glob("*.svg"))) == 4


def test_variants_have_scores_and_reference_letters(walked: Path) -> None:
    rows = [line.split("\t") for line in (walked / "scored.vcf").read_text().splitlines() if line[0] != "#"]
    assert [int(row[1]) for row in rows] == [9_008, 9_012, 9_012, 9_016]
    for row in rows:
        assert "REF_MISMATCH" not in row[7]
        assert re.search(r"SM_P?LLR=-?\d", row[7])


@pytest.mark.parametrize("name", ["likelihood.bw", "starts.bw", "background.bw"])
def test_tracks_hold_values_of_the_genome(walked: Path, name: str) -> None:
    pybigtools = pytest.importorskip("pybigtools")
    file = pybigtools.open(str(walked / name))
    assert file.chroms()["chrI"] == 12_000
    values = file.values("chrI", 0, 12_000, fillna=np.nan)
    assert np.isfinite(values).mean() > (0.1 if name == "starts.bw" else 0.99)
    file.close()


def test_the_pretrained_backbone_is_used(walked: Path) -> None:
    pretrained = json.loads((walked / "runs/yeast/pretrained/config.json").read_text())
    for name in ("starts", "genes"):
        tuned = json.loads((walked / f"runs/{name}/pretrained/config.json").read_text())
        assert tuned["backbone"] == pretrained["backbone"]
        assert tuned["embedding"] == pretrained["vocabulary"]


def test_genes_and_tables_are_written(walked: Path) -> None:
    assert (walked / "runs/genes/predictions.gff3").read_text().startswith("##gff-version 3\n")
    table = (walked / "runs/bench/table.md").read_text()
    assert "| kmer |  | paper | 5 folds x 1 |" in table
    assert "| kmer |  | sound | 5 folds x 1 |" in table
