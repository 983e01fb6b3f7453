from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from genome_files import write_genome

from genomics.alphabet import PAD, A, T, decode
from genomics.datasets import GenomeWindowDataModule
from genomics.datasets.genome_batches import GenomeBatch
from genomics.fasta import Fasta
from genomics.genome_regions import GenomeConfig
from genomics.windows import WindowConfig
from seqmamba.errors import UserError

WINDOWS = WindowConfig(length=64, tokens_per_batch=256, steps_per_epoch=6, evaluation_windows=8)
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def module(folder: Path, **options: Any) -> GenomeWindowDataModule:
    first = write_genome(folder / "first.fa")
    second = write_genome(folder / "second.fa", seed=1)
    genomes = [
        GenomeConfig(str(first), validation=("chr2",), test=("chr3",)),
        GenomeConfig(str(second), validation=("chr3",)),
    ]
    data = GenomeWindowDataModule(**{"genomes": genomes, "windows": WINDOWS, **options})
    data.setup()
    return data


def on_device(data: GenomeWindowDataModule, rank: int, world_size: int) -> GenomeWindowDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, callbacks=[])  # type: ignore[assignment]
    return data


def rows(batches: Iterator[GenomeBatch]) -> list[tuple[int, bytes]]:
    """Key and tokens of every window."""
    return [
        (key, bytes(tokens.tolist()))
        for batch in batches
        for key, tokens in zip(batch["keys"].tolist(), batch["tokens"], strict=True)
    ]


def epoch_of(data: GenomeWindowDataModule, epoch: int = 0) -> list[tuple[int, bytes]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return rows(iter(loader))


def test_batches_hold_what_the_genome_holds(tmp_path: Path) -> None:
    data = module(tmp_path)
    genome = {
        (number, name): Fasta(tmp_path / file).letters(name, 0, 2000).decode()
        for number, file in enumerate(("first.fa", "second.fa"))
        for name in ("chr1", "chr2", "chr3")
    }
    allowed = {(0, "chr1"), (1, "chr1"), (1, "chr2")}
    seen: set[tuple[int, str]] = set()
    for batch in data.train_dataloader():
        assert batch["tokens"].shape == batch["lower"].shape == (4, 64)
        assert batch["lengths"] is None
        for tokens, lower, number in zip(
            batch["tokens"], batch["lower"].tolist(), batch["genome"].tolist(), strict=True
        ):
            letters = "".join(
                letter.lower() if small else letter
                for letter, small in zip(decode(tokens.numpy()), lower, strict=True)
            )
            homes = {key for key in allowed if key[0] == number and letters in genome[key]}
            assert homes, letters
            seen |= homes
    assert seen == allowed


def test_windows_without_a_known_base_are_skipped(tmp_path: Path) -> None:
    data = module(tmp_path, windows=WindowConfig(length=8, tokens_per_batch=2048, steps_per_epoch=6))
    batches = [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]
    assert all(((b["tokens"] >= A) & (b["tokens"] <= T)).any(dim=1).all() for b in batches)


def test_a_genome_of_n_is_refused_and_not_searched_for_ever(tmp_path: Path) -> None:
    (tmp_path / "n.fa").write_text(">chr1\n" + "N" * 500 + "\n>chr2\n" + "ACGT" * 50 + "\n")
    genome = GenomeConfig(str(tmp_path / "n.fa"), validation=("chr2",))
    data = GenomeWindowDataModule([genome], WINDOWS)
    data.setup()
    with pytest.raises(UserError, match="1000 windows of 64 bases in a row held no known base"):
        next(iter(data.train_dataloader()))


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone = epoch_of(module(tmp_path), 3)
    assert epoch_of(module(tmp_path, num_workers=2), 3) == alone
    assert epoch_of(module(tmp_path), 4) != alone
    assert epoch_of(module(tmp_path, seed=1), 3) != alone


def test_devices_share_out_the_windows_of_a_step(tmp_path: Path) -> None:
    shares = [epoch_of(on_device(module(tmp_path), rank, 2)) for rank in range(2)]
    both = WindowConfig(length=64, tokens_per_batch=512, steps_per_epoch=6)
    whole = epoch_of(module(tmp_path, windows=both))
    step = [whole[start : start + 8] for start in range(0, len(whole), 8)]
    assert [w for s in step for w in s[:4]] == shares[0]
    assert [w for s in step for w in s[4:]] == shares[1]
    parts = [
        row for rank in range(3) for row in rows(iter(on_device(module(tmp_path), rank, 3).val_dataloader()))
    ]
    assert sorted(parts) == sorted(rows(iter(module(tmp_path).val_dataloader())))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_goes_on_where_it_stopped(tmp_path: Path, workers: int) -> None:
    whole = epoch_of(module(tmp_path), 2)
    loader = module(tmp_path, num_workers=workers).train_dataloader()
    loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
    before = rows(islice(iter(loader), 4))
    state = loader.state_dict()
    resumed = module(tmp_path, num_workers=workers).train_dataloader()
    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(2)  # type: ignore[attr-defined]
    assert before + rows(iter(resumed)) == whole
    resumed.sampler.set_epoch(3)  # type: ignore[attr-defined]
    assert rows(iter(resumed)) == epoch_of(module(tmp_path), 3)


def test_the_length_warms_up(tmp_path: Path) -> None:
    config = WindowConfig(length=64, tokens_per_batch=256, steps_per_epoch=2, first_length=16)
    data = module(tmp_path, windows=config)
    loader = data.train_dataloader()
    shapes = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        shapes += [tuple(batch["tokens"].shape) for batch in loader]
    assert shapes == [(16, 16)] * 2 + [(8, 32)] * 2 + [(4, 64)] * 4
    assert {batch["tokens"].shape[1] for batch in data.val_dataloader()} == {64}


def test_short_stretches_are_padded(tmp_path: Path) -> None:
    fasta = write_genome(tmp_path / "g.fa", gap=False)
    (tmp_path / "s.bed").write_text("chr1\t0\t10\ttrain\nchr1\t20\t1000\ttrain\nchr2\t0\t90\tvalid\n")
    data = GenomeWindowDataModule([GenomeConfig(str(fasta), split=str(tmp_path / "s.bed"))], WINDOWS, seed=5)
    data.setup()
    seen = set()
    for _ in range(20):
        for batch in data.train_dataloader():
            if batch["lengths"] is None:
                continue
            for tokens, lower, length in zip(batch["tokens"], batch["lower"], batch["lengths"], strict=True):
                seen.add(int(length))
                assert (tokens[length:] == PAD).all()
                assert (tokens[:length] != PAD).all()
                assert not lower[length:].any()
        data.seed += 1
        data.regions = []
        data.setup()
    assert seen == {10, 64}


def test_fixed_lists_do_not_change_and_are_shared_out(tmp_path: Path) -> None:
    data = module(tmp_path)
    assert data.lists == module(tmp_path).lists
    assert [window.genome for window in data.lists["validation"]] == [0] * 4 + [1] * 4
    assert [window.genome for window in data.lists["test"]] == [0] * 8
    assert data.lists["validation"] != module(tmp_path, seed=1).lists["validation"]
    sizes = torch.tensor([w.end - w.start for part in data.lists.values() for w in part])
    assert (sizes == 64).all()


def test_refuses_what_cannot_be_trained_on(tmp_path: Path) -> None:
    fasta = str(write_genome(tmp_path / "g.fa"))
    with pytest.raises(UserError, match="no genome has a part for validation"):
        GenomeWindowDataModule([GenomeConfig(fasta)], WINDOWS).setup()
    with pytest.raises(UserError, match="two are called 'g'"):
        GenomeWindowDataModule([GenomeConfig(fasta), GenomeConfig(fasta)])
    with pytest.raises(UserError, match="genomes: expected at least one"):
        GenomeWindowDataModule([])
    data = GenomeWindowDataModule([GenomeConfig(fasta, validation=("chr1",))], WINDOWS)
    data.setup()
    with pytest.raises(UserError, match="no genome has a part for the test"):
        data.test_dataloader()
