from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from release_files import random_letters

from genomics.alphabet import N, decode
from genomics.benchmarks import SpeciesDataModule
from genomics.benchmarks.species import GREAT_APES, SpeciesForm, SpeciesGenomes
from seqmamba.errors import UserError

NAMES = ("1", "5", "2", "X")  # validation, test, train, train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two species; every base of a species and chromosome can be told by its letters alone."""
    rng = np.random.default_rng(0)
    for species in ("pig", "cow"):
        (tmp_path / species).mkdir()
        for name in NAMES:
            text = f">chr{name} of {species}\n{random_letters(rng, 400)}\n"
            (tmp_path / species / f"chr{name}.fna").write_text(text)
    return tmp_path


def letters_of(folder: Path, species: str, name: str) -> str:
    return (folder / species / f"chr{name}.fna").read_text().split("\n")[1]


def test_windows_come_from_their_part_only(folder: Path) -> None:
    for part, names in (("train", ("2", "X")), ("validation", ("1",)), ("test", ("5",))):
        genomes = SpeciesGenomes(folder, SpeciesForm(("pig", "cow")), part)
        assert genomes.species == ("cow", "pig")
        generator = np.random.default_rng(0)
        seen: Counter[tuple[str, str]] = Counter()
        for _ in range(200):
            window = genomes.draw(50, generator)
            letters = decode(genomes.fetch(window, 50))
            species = genomes.species[window.species]
            home = [name for name in NAMES if letters in letters_of(folder, species, name)]
            assert home
            seen[species, home[0]] += 1
        assert set(seen) == {(species, name) for species in ("cow", "pig") for name in names}
        assert min(seen.values()) > 200 / len(seen) / 2  # uniformly


def test_the_last_window_of_a_chromosome_is_drawn_too(folder: Path) -> None:
    genomes = SpeciesGenomes(folder, SpeciesForm(("pig", "cow")), "test")
    generator = np.random.default_rng(0)
    starts = {genomes.draw(398, generator).start for _ in range(100)}
    assert starts == {0, 1, 2}


def test_a_short_chromosome_is_padded_with_n_on_the_left(folder: Path) -> None:
    genomes = SpeciesGenomes(folder, SpeciesForm(("pig", "cow")), "test")
    window = genomes.draw(500, np.random.default_rng(0))
    tokens = genomes.fetch(window, 500)
    assert (tokens[:100] == N).all()
    assert decode(tokens[100:]) == letters_of(folder, genomes.species[window.species], "5")


def test_the_fixed_list_is_fixed_balanced_and_known(folder: Path) -> None:
    (folder / "pig" / "chr5.fna").write_text(
        ">chr5\n" + "N" * 300 + letters_of(folder, "pig", "5")[:100] + "\n"
    )
    genomes = SpeciesGenomes(folder, SpeciesForm(("pig", "cow")), "test")
    windows = genomes.fixed_list(20, 50, seed=3)
    assert windows == genomes.fixed_list(20, 50, seed=3)
    assert windows != genomes.fixed_list(20, 50, seed=4)
    assert Counter(window.species for window in windows) == {0: 10, 1: 10}
    assert all(np.mean(genomes.fetch(window, 50) == N) <= 0.5 for window in windows)
    with pytest.raises(UserError, match="pig: has no window of 400 bases that is known to at least 50%"):
        genomes.fixed_list(20, 400, seed=3)


def test_scaffolds_do_not_train_and_packed_files_are_read(folder: Path) -> None:
    (folder / "pig" / "chrUn_1.fna").write_text(">u\nACGT\n")
    (folder / "pig" / "chr2_random.fna").write_text(">r\nACGT\n")
    (folder / "pig" / "chrX.fna").unlink()
    packed = letters_of(folder, "pig", "2")
    (folder / "pig" / "chr2.fna").unlink()
    (folder / "pig" / "chr2A.fna.gz").write_bytes(gzip.compress(f">chr2A\n{packed}\n".encode()))
    genomes = SpeciesGenomes(folder, SpeciesForm(("pig", "cow")), "train")
    generator = np.random.default_rng(0)
    windows = [genomes.draw(50, generator) for _ in range(20)]
    found = [decode(genomes.fetch(window, 50)) for window in windows if window.species == 1]
    assert found
    assert all(letters in packed for letters in found)


@pytest.mark.parametrize("what", ["species", "chromosome", "records", "one"])
def test_what_is_refused(folder: Path, what: str) -> None:
    species: tuple[str, ...] = ("pig", "cow")
    if what == "species":
        species, message = GREAT_APES, "bonobo: no such folder"
    elif what == "chromosome":
        (folder / "cow" / "chr5.fna").unlink()
        message = "cow: has no chromosome for test"
    elif what == "records":
        (folder / "cow" / "chr5.fna").write_text(">a\nACGT\n>b\nACGT\n")
        message = r"chr5\.fna: expected one sequence, the chromosome, got 2"
    else:
        species, message = ("pig", "pig"), "expected at least two"
    with pytest.raises(UserError, match=message):
        SpeciesGenomes(folder, SpeciesForm(species), "test")


@pytest.fixture
def mammals(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for species in ("human", "lemur", "mouse", "pig", "hippo"):
        (tmp_path / species).mkdir()
        for name in NAMES:
            (tmp_path / species / f"chr{name}.fa").write_text(f">c\n{random_letters(rng, 300)}\n")
    return tmp_path


def test_training_windows_are_fresh_in_every_epoch_and_the_same_when_resumed(mammals: Path) -> None:
    def epoch(number: int, workers: int = 0) -> list[torch.Tensor]:
        data = SpeciesDataModule(
            str(mammals), length=40, train_windows=24, eval_windows=10, batch_size=8, num_workers=workers
        )
        data.setup()
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(number)  # type: ignore[union-attr]
        return [batch["tokens"] for batch in loader]

    first, again, second, forked = epoch(0), epoch(0), epoch(1), epoch(1, workers=2)
    assert [tokens.shape for tokens in first] == [(8, 40)] * 3
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(second), torch.cat(forked))


def test_the_windows_to_evaluate_on(mammals: Path) -> None:
    def held_out(seed: int) -> tuple[SpeciesDataModule, torch.Tensor]:
        data = SpeciesDataModule(
            str(mammals), length=40, train_windows=24, eval_windows=10, batch_size=8, seed=seed
        )
        data.setup()
        return data, torch.cat([batch["tokens"] for batch in data.test_dataloader()])

    data, tokens = held_out(1)
    assert data.classes == ("hippo", "human", "lemur", "mouse", "pig")
    assert torch.equal(tokens, held_out(2)[1])  # whatever the run's seed
    assert len(data.part("validation")) == len(data.part("test")) == 10
    labels = data.records.labels[data.part("test")]
    assert np.bincount(labels).tolist() == [2] * 5
    assert "human:c:" in next(
        n for n, label in zip(data.records.names, data.records.labels, strict=True) if label == 1
    )
    for options in (
        {"form": "apes"},
        {"length": 0},
        {"eval_windows": 4},
        {"train_windows": 2, "batch_size": 8},
    ):
        with pytest.raises(UserError, match=f"{next(iter(options))}: expected"):
            SpeciesDataModule(str(mammals), **options)  # type: ignore[arg-type]
