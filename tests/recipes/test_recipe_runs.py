"""Every YAML file of every recipe parses and trains for two steps on data laid out as its own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_builders import genbank, random_letters

from recipes.catalogue import RECIPES, Recipe
from seqmamba.cli.main import main

CASES = [(recipe, config) for recipe in RECIPES for config in recipe.configs]
CHROMOSOMES = ("chr1", "chr7", "chr8", "chr9")
PER_PLACE = 4
LENGTH = 40


def lay_out(data: dict[str, Any], folder: Path) -> None:
    """Write tiny files in the places and formats that a recipe's data section names."""
    if "benchmark" in data:
        lay_out_benchmark(data["benchmark"], folder)
        return
    if "form" in data:
        lay_out_species(data, folder)
        return
    if "genomes" in data:
        unlabelled = isinstance(data["genomes"], list)
        (lay_out_unlabelled if unlabelled else lay_out_genomes)(data, folder)
        return
    seed = 0
    by_chromosome = data["split"]["by"] == "chromosome"

    def place(name: str) -> Path:
        path = Path(name.replace("${SEQMAMBA_DATA}", str(folder)))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def records(offset: int) -> list[tuple[str, str]]:
        nonlocal seed
        found = []
        for block, chromosome in enumerate(CHROMOSOMES):
            for i in range(PER_PLACE):
                seed += 1
                start = offset + i * LENGTH + (0 if by_chromosome else block * 100_000)
                name = f"{chromosome if by_chromosome else 'genome'}:{start}-{start + LENGTH}"
                found.append((name, random_letters(LENGTH, seed)))
        return found

    if isinstance(data["fasta"], dict):
        for number, file in enumerate(data["fasta"].values()):
            place(file).write_text("".join(f">{n}\n{s}\n" for n, s in records(number * 10_000)))
        return
    sequences, rows = "", "name\tlabel\tsplit\n"
    for number, label in enumerate(("cds", "intergenic")):
        for (name, letters), part in zip(
            records(number * 10_000), ["train", "train", "validation", "test"] * PER_PLACE, strict=True
        ):
            sequences += f">{name}\n{letters}\n"
            rows += f"{name}\t{label}\t{part}\n"
    place(data["fasta"]).write_text(sequences)
    place(data["labels"]).write_text(rows)


def lay_out_benchmark(name: str, folder: Path) -> None:
    """Write a benchmark as one tiny FASTA file with labels and parts in its headers."""
    family, _, task = name.partition("/")
    (folder / family).mkdir(parents=True)
    parts = ("train", "train", "dev", "test")
    rows = [f">s{i}|{i % 2}|{parts[i // 2 % 4]}\n{random_letters(LENGTH, i)}\n" for i in range(32)]
    (folder / family / f"{task}.fa").write_text("".join(rows))


def lay_out_genomes(data: dict[str, Any], folder: Path) -> None:
    """Write tiny GenBank files in the places that a data section of annotated genomes names."""
    for seed, name in enumerate((*data["genomes"].values(), *data["unseen"].values())):
        path = Path(name.replace("${SEQMAMBA_DATA}", str(folder)))
        path.parent.mkdir(parents=True, exist_ok=True)
        genes = [(start, start + 60) for start in range(10, 900, 90)]
        content = genbank(f"TOY{seed}", random_letters(960, seed), genes).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def lay_out_species(data: dict[str, Any], folder: Path) -> None:
    """Write tiny chromosomes for every species of a data section, one that trains among them."""
    form = data["form"]
    for seed, species in enumerate(form["species"]):
        place = Path(data["folder"].replace("${SEQMAMBA_DATA}", str(folder))) / species
        place.mkdir(parents=True)
        for name in ("other", *form["validation"], *form["test"]):
            (place / f"chr{name}.fna").write_text(f">{name}\n{random_letters(300, seed)}\n")


def lay_out_unlabelled(data: dict[str, Any], folder: Path) -> None:
    """Write tiny FASTA and BED files in the places that a data section of pretraining names."""
    for seed, genome in enumerate(data["genomes"]):
        path = Path(genome["fasta"].replace("${SEQMAMBA_DATA}", str(folder)))
        path.parent.mkdir(parents=True, exist_ok=True)
        names = ["chrI", *genome.get("validation", []), *genome.get("test", [])]
        path.write_text("".join(f">{name}\n{random_letters(300, seed)}\n" for name in names))
        if "split" in genome:
            rows = "chrI\t0\t100\ttrain\nchrI\t100\t200\tvalid\nchrI\t200\t300\ttest\n"
            Path(genome["split"].replace("${SEQMAMBA_DATA}", str(folder))).write_text(rows)


def small(data: dict[str, Any]) -> list[str]:
    """Options that make the batches of a data section fit tiny files."""
    if "form" in data:
        sizes = {"length": 64, "train_windows": 8, "eval_windows": 4, "batch_size": 4, "num_workers": 0}
        return [word for name, n in sizes.items() for word in (f"--data.init_args.{name}", str(n))]
    if "genomes" not in data:
        return ["--data.init_args.batch_size", "4"]
    if isinstance(data["genomes"], list):
        options = {"windows.length": 64, "windows.tokens_per_batch": 128, "windows.steps_per_epoch": 2}
        options |= {"windows.first_length": 32, "windows.evaluation_windows": 4, "num_workers": 0}
    else:
        options = {"windows.context": 64, "windows.bases_per_batch": 128, "windows.bases_per_epoch": 512}
        options |= {"split.test_bases": 200, "split.validation_bases": 100}
    return [word for name, n in options.items() for word in (f"--data.init_args.{name}", str(n))]


# Lightning's own use of jsonargparse and of torch is not this project's to fix.
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.parametrize(("recipe", "config"), CASES, ids=[f"{r.name}/{config}" for r, config in CASES])
def test_two_steps(recipe: Recipe, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    data = yaml.safe_load((recipe.folder / config).read_text())["data"]["init_args"]
    lay_out(data, tmp_path / "data")
    words = ["fit", "--config", f"{recipe.name}/{config}", "--config", "_trainer/cpu", "--run", "run"]
    words += [*small(data), "--trainer.max_steps", "2", "--traceback"]
    assert main(words) == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["trainer"]["accelerator"] == "cpu"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
