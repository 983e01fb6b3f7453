"""Tracks and embeddings on a GPU: the CPU's numbers, and the same bytes again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from track_cases import BOTH_WAYS, CAUSAL, bases, causal, classifier, masked, track_values, write_genome

import genomics.tracks
from genomics.embedding_inputs import from_fasta
from genomics.embeddings import EmbeddingConfig, Embeddings
from genomics.fasta import Fasta
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.track_outputs import write_track
from genomics.track_regions import Regions
from genomics.tracks import Track, TrackConfig

pytestmark = pytest.mark.gpu


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return write_genome(tmp_path / "g.fa", {"a": bases(50_000, 1, ((7_000, 12_000),)), "b": bases(3_001, 2)})


def on_gpu(kind: str) -> tuple[nn.Module, nn.Module, dict[str, object]]:
    """A model on the CPU, the same one on the GPU with its kernels, and options of its track."""
    if kind == "causal":
        return causal(), causal(replace(CAUSAL, scan_impl="auto")).cuda(), {}
    if kind == "masked":
        fast = MaskedModel(MaskedModelConfig(replace(BOTH_WAYS, scan_impl="auto"), equivariant=False))
        fast.load_state_dict(masked().state_dict())
        return masked(), fast.eval().cuda(), {"window": 2048, "overlap": 512}
    return classifier(), classifier().cuda(), {"step": 16}


@pytest.mark.parametrize("kind", ["causal", "masked", "sequence"])
def test_tracks_have_the_numbers_of_the_cpu(genome: Path, tmp_path: Path, kind: str) -> None:
    slow, fast, options = on_gpu(kind)
    (expected,) = track_values(slow, genome, tmp_path / "s", **options)
    (found,) = track_values(fast, genome, tmp_path / "s", **options)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["causal", "masked", "sequence"])
def test_interrupted_and_resumed_to_the_same_bytes(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(genomics.tracks, "BLOCK_BASES", 4096)
    _, model, options = on_gpu(kind)
    fasta = Fasta(genome)

    def track() -> Track:
        return Track(model, fasta, Regions(fasta), TrackConfig(**options))

    write_track(track(), tmp_path / "whole.bw")
    written = genomics.tracks.TrackStore.append

    def failing(store: genomics.tracks.TrackStore, values: np.ndarray) -> None:
        written(store, values)
        if store.done in (2, 5):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(genomics.tracks.TrackStore, "append", failing)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                write_track(track(), tmp_path / "parts.bw", resume=True)
    write_track(track(), tmp_path / "parts.bw", resume=True)
    assert (tmp_path / "parts.bw").read_bytes() == (tmp_path / "whole.bw").read_bytes()


def test_memory_on_the_gpu_does_not_grow_with_the_chromosome(tmp_path: Path) -> None:
    model = causal(replace(CAUSAL, scan_impl="auto")).cuda()

    def peak(length: int) -> int:
        fasta = Fasta(write_genome(tmp_path / f"{length}.fa", {"c": bases(length)}))
        torch.cuda.reset_peak_memory_stats()
        write_track(Track(model, fasta, Regions(fasta), TrackConfig()), tmp_path / f"{length}.bw")
        return torch.cuda.max_memory_allocated()

    peak(100_000)
    assert peak(2_000_000) <= peak(200_000) + 2**20


@pytest.mark.parametrize("level", ["sequence", "base"])
def test_embeddings_have_the_numbers_of_the_cpu(genome: Path, tmp_path: Path, level: str) -> None:
    found = []
    for number, model in enumerate(on_gpu("causal")[:2]):
        output = tmp_path / f"{number}.npz"
        config = EmbeddingConfig(level=level, window=4096, step=None if level == "sequence" else 2048)
        Embeddings(model, config).write(from_fasta(genome), output)
        found.append(np.load(output)["embedding"])
    np.testing.assert_allclose(found[1], found[0], atol=2e-3, rtol=1e-3)
