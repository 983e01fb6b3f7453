from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from release_files import gzipped, random_letters, write_gue

from genomics.alphabet import PAD, decode
from genomics.benchmarks import BenchmarkDataModule
from genomics.benchmarks.module import cut_and_padded
from genomics.datasets.records import TokenStore
from genomics.protocols import DivisionConfig
from seqmamba.errors import UserError


@pytest.fixture
def regulatory(tmp_path: Path) -> Path:
    """human_nontata_promoters, whose paper cuts at 251, with sequences of 240 to 262."""
    rng = np.random.default_rng(0)
    genome = random_letters(rng, 40_000)
    (tmp_path / "genome.fa").write_text(f">chr1\n{genome}\n")
    start = 0
    for part, count in (("train", 20), ("test", 6)):
        for label in ("negative", "positive"):
            rows = []
            for i in range(count):
                length = 240 + 2 * (i % 12)
                rows.append(f"{i},chr1,{start},{start + length},+")
                start += 300
            text = "id,region,start,end,strand\n" + "\n".join(rows) + "\n"
            gzipped(tmp_path / "human_nontata_promoters" / part / f"{label}.csv.gz", text)
    return tmp_path


def test_the_papers_batches_are_cut_padded_and_all_of_one_size(regulatory: Path) -> None:
    data = BenchmarkDataModule(
        "genomic_benchmarks/human_nontata_promoters",
        str(regulatory),
        str(regulatory / "genome.fa"),
        DivisionConfig("paper"),
        batch_size=8,
    )
    data.setup()
    assert data.max_length == 251
    batches = list(data.train_dataloader())
    assert len(data.part("train")) == 36
    assert [len(batch["tokens"]) for batch in batches] == [8] * 4  # 36 = 4 x 8 + 4, and the 4 are dropped
    for batch in batches:
        assert batch["tokens"].shape[1] == 251
        assert batch["lengths"] is None
    seen = sum(len(batch["tokens"]) for batch in data.test_dataloader())
    assert seen == len(data.part("test")) == 12
    joined = torch.cat([batch["tokens"] for batch in data.test_dataloader()])
    padded = joined == PAD
    assert padded.any()
    assert not padded[:, -1].any()  # on the left
    assert any(note.startswith("protocol paper, padding_pooled: ") for note in data.notes)


def test_sound_batches_have_true_lengths(regulatory: Path) -> None:
    data = BenchmarkDataModule(
        "genomic_benchmarks/human_nontata_promoters",
        str(regulatory),
        str(regulatory / "genome.fa"),
        batch_size=8,
    )
    data.setup()
    assert sum(len(batch["tokens"]) for batch in data.train_dataloader()) == len(data.part("train"))
    batches = list(data.predict_dataloader())
    lengths = torch.cat([(batch["tokens"] != PAD).sum(dim=1) for batch in batches])
    assert sorted(set(lengths.tolist())) == list(range(240, 264, 2))
    said = [batch for batch in batches if batch["lengths"] is not None]
    assert said
    assert all(torch.equal(batch["lengths"], (batch["tokens"] != PAD).sum(dim=1)) for batch in said)
    assert data.leaks.ok


def test_the_papers_batch_size_is_the_default(tmp_path: Path) -> None:
    write_gue(tmp_path / "mouse/4")
    assert BenchmarkDataModule("gue/mouse4", str(tmp_path)).batch_size == 32
    with pytest.raises(UserError, match="batch_size"):
        BenchmarkDataModule("gue/mouse4", str(tmp_path), batch_size=0)


def test_cut_and_padded() -> None:
    tokens = cut_and_padded(TokenStore.from_letters([b"ACGT", b"GG"]), 3)
    assert [decode(row) for row in tokens] == ["ACG", "GG"]
    assert tokens[1].tolist()[0] == PAD
    assert tokens.lengths.tolist() == [3, 3]
