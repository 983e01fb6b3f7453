"""Every YAML file of every recipe parses and trains for two steps on data laid out as its own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from recipe_builders import genbank, random_letters

from recipes.audio.spoken_words import LISTS, part_of
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
    if "source" in data:
        if data["split"]["by"] == "split" and "task" not in data:
            lay_out_words(data, folder)
            return
        by_part = {"unlabelled": lay_out_music, "tagging": lay_out_phones, "classification": lay_out_phones}
        by_part.get(data.get("task", ""), lay_out_recordings)(data, folder)
        return
    if "form" in data:
        lay_out_species(data, folder)
        return
    if "tracks" in data or "variants" in data:
        (lay_out_tracks if "tracks" in data else lay_out_variants)(data, folder)
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


def lay_out_recordings(data: dict[str, Any], folder: Path) -> None:
    """Write short recordings of four classes, a fold or a speaker for each two, as a source is laid out."""
    place = Path(data["source"].replace("${SEQMAMBA_DATA}", str(folder)))
    root = place if not place.suffix else place.parent / "audio"
    root.mkdir(parents=True)
    rows = [f"path,label,{data['split']['by']}"]
    for number in range(16):
        label, part = number % 4, number // 8
        group = (data["split"]["test"][0], "other")[part]
        name = f"{label}_{group}_{number}.wav"
        wave = 0.1 * np.random.default_rng(number).standard_normal(800)
        soundfile.write(root / name, wave, data["loading"]["rate"])
        rows.append(f"audio/{name},{label},{group}")
    if place.suffix:
        place.write_text("\n".join(rows) + "\n")


def lay_out_words(data: dict[str, Any], folder: Path) -> None:
    """Write recordings of two words by speakers of every part, as Speech Commands has them."""
    place = Path(data["source"].replace("${SEQMAMBA_DATA}", str(folder)))
    held_out: dict[str, list[str]] = {part: [] for part in LISTS}
    for number in range(24):
        word, name = ("one", "two")[number % 2], f"{number:08x}_nohash_0.wav"
        (place / word).mkdir(parents=True, exist_ok=True)
        wave = 0.1 * np.random.default_rng(number).standard_normal(800)
        soundfile.write(place / word / name, wave, data["loading"]["rate"])
        held_out.get(part_of(name), []).append(f"{word}/{name}")
    for part, names in held_out.items():
        assert names
        (place / LISTS[part]).write_text("".join(f"{name}\n" for name in names))


def lay_out_music(data: dict[str, Any], folder: Path) -> None:
    """Write short recordings without labels, and the table of them that a source names."""
    place = Path(data["source"].replace("${SEQMAMBA_DATA}", str(folder)))
    (place.parent / "tracks").mkdir(parents=True)
    rows = ["path,group,split"]
    for number, part in enumerate(("train", "train", "validation", "test")):
        wave = 0.1 * np.random.default_rng(number).standard_normal(800)
        soundfile.write(place.parent / "tracks" / f"{number}.flac", wave, data["loading"]["rate"])
        rows.append(f"tracks/{number}.flac,{number},{part}")
    place.write_text("\n".join(rows) + "\n")


def lay_out_phones(data: dict[str, Any], folder: Path) -> None:
    """Write recordings of two phones each, and the table of these that a source names."""
    table = Path(data["source"].replace("${SEQMAMBA_DATA}", str(folder)))
    table.parent.mkdir(parents=True)
    rows = ["filename\tonset\toffset\tevent_label\tsplit"]
    for number, part in enumerate(("train", "train", "validation", "test")):
        wave = 0.1 * np.random.default_rng(number).standard_normal(1600)
        soundfile.write(table.parent / f"{number}.wav", wave, data["loading"]["rate"])
        rows += [f"{number}.wav\t0\t0.04\ta\t{part}", f"{number}.wav\t0.04\t0.09\tb\t{part}"]
    table.write_text("\n".join(rows) + "\n")


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


def lay_out_tracks(data: dict[str, Any], folder: Path) -> None:
    """Write a tiny chromosome, its split and intervals in the places that a data section of tracks names."""
    files = [data["genome"]["fasta"], data["genome"]["split"], *(track["file"] for track in data["tracks"])]
    fasta, split, *tracks = (Path(name.replace("${SEQMAMBA_DATA}", str(folder))) for name in files)
    fasta.parent.mkdir(parents=True)
    fasta.write_text(f">chrX\n{random_letters(1200, 0)}\n")
    split.write_text("chrX\t0\t600\ttrain\nchrX\t600\t900\tvalid\nchrX\t900\t1200\ttest\n")
    for path in tracks:
        path.write_text("chrX\t100\t300\nchrX\t700\t800\n")


def lay_out_variants(data: dict[str, Any], folder: Path) -> None:
    """Write a tiny genome and its variants in the places that a data section of alleles names."""
    names = (data["genome"], data["variants"])
    fasta, vcf = (Path(name.replace("${SEQMAMBA_DATA}", str(folder))) for name in names)
    fasta.parent.mkdir(parents=True)
    letters = random_letters(600, 0)
    fasta.write_text(f">c\n{letters}\n")
    rows = "##fileformat=VCFv4.2\n"
    (target,), part, positive = (data["labels"][key] for key in ("targets", "part", "positive"))
    rows += "".join(f'##INFO=<ID={key},Number=1,Type=String,Description="x">\n' for key in (target, part))
    rows += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    for at in range(20, 580, 10):
        alt = "ACGT"["ACGT".index(letters[at]) - 1]
        facts = f"{target}={positive if at % 20 else 'other'};{part}={('train', 'valid')[at % 30 == 0]}"
        rows += f"c\t{at + 1}\t.\t{letters[at]}\t{alt}\t.\t.\t{facts}\n"
    vcf.write_text(rows)


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
    if "loading" in data:
        words = ["--data.init_args.loading.batch_size", "1"]
        return words + (["--data.init_args.labels.per_class", "1"] if "labels" in data else [])
    if "source" in data:
        return ["--data.init_args.batch_size", "4", "--data.init_args.passes", "1"]
    if "form" in data:
        sizes = {"length": 64, "train_windows": 8, "eval_windows": 4, "batch_size": 4, "num_workers": 0}
        return [word for name, n in sizes.items() for word in (f"--data.init_args.{name}", str(n))]
    if "tracks" in data:
        sizes = {"context": 64, "bin_size": 16, "bases_per_batch": 128, "bases_per_epoch": 512}
        return [word for name, n in sizes.items() for word in (f"--data.init_args.windows.{name}", str(n))]
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
    content = yaml.safe_load((recipe.folder / config).read_text())
    data = content["data"]["init_args"]
    lay_out(data, tmp_path / "data")
    words = ["fit", "--config", f"{recipe.name}/{config}", "--config", "_trainer/cpu", "--run", "run"]
    words += [*small(data), "--trainer.max_steps", "2", "--traceback"]
    if "segments" in content["model"]["init_args"]:
        words += ["--model.init_args.segments.samples", "64"]
    assert main(words) == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["trainer"]["accelerator"] == "cpu"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
