"""Small genomes and models for the tests of tracks and embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genomics.alphabet import VOCAB_SIZE, A, T, encode
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.fasta import Fasta
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.track_outputs import intervals
from genomics.track_regions import Regions
from genomics.track_store import TrackStore
from genomics.tracks import Track, TrackConfig
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig

BOTH_WAYS = BackboneConfig(d_model=8, n_layers=2, d_state=2, direction="bidirectional", scan_impl="chunked")
CAUSAL = BackboneConfig(d_model=8, n_layers=2, d_state=2, scan_impl="chunked")


def bases(length: int, seed: int = 0, unknown: tuple[tuple[int, int], ...] = ()) -> str:
    letters = np.random.default_rng(seed).choice(list("ACGT"), length)
    for start, end in unknown:
        letters[start:end] = "N"
    return "".join(letters)


def write_genome(path: Path, sequences: dict[str, str], width: int = 61) -> Path:
    with path.open("w") as file:
        for name, letters in sequences.items():
            file.write(f">{name}\n")
            file.writelines(letters[i : i + width] + "\n" for i in range(0, len(letters), width))
    return path


def classifier(strand: str = "conjoin", classes: tuple[str, ...] = ("no", "yes")) -> SequenceModel:
    torch.manual_seed(1)
    config = SequenceModelConfig(BOTH_WAYS, classes=classes, strand=strand, stem_width=3, max_length=64)
    return SequenceModel(config).eval()


def masked(equivariant: bool = False) -> MaskedModel:
    torch.manual_seed(2)
    model = MaskedModel(MaskedModelConfig(BOTH_WAYS, equivariant=equivariant))
    return sharpened(model).eval()


def causal(config: BackboneConfig = CAUSAL) -> LanguageModel:
    torch.manual_seed(3)
    return sharpened(LanguageModel(LanguageModelConfig(config, vocab_size=12))).eval()


def sharpened(model: nn.Module) -> nn.Module:
    """Give an untrained language model opinions: its logits are close to zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                parameter.mul_(50)
    return model


class LocalModel(nn.Module):
    """A `TrackModel` that sees `reach` bases to either side, and averages its values over bins."""

    def __init__(self, reach: int = 3, track_bin: int = 1, targets: tuple[str, ...] = ("a", "b")) -> None:
        super().__init__()
        self.track_targets = targets
        self.track_bin = track_bin
        weight = torch.randn(
            len(targets), VOCAB_SIZE, 2 * reach + 1, generator=torch.Generator().manual_seed(0)
        )
        self.weight = nn.Parameter(weight)

    def predict_track(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        real = (torch.arange(tokens.shape[1]) < lengths[:, None])[:, None]
        one_hot = F.one_hot(tokens.long(), VOCAB_SIZE).float().transpose(1, 2) * real
        values = F.conv1d(one_hot, self.weight, padding="same")
        return F.avg_pool1d(values, self.track_bin).transpose(1, 2)


def tokens_of(letters: str) -> Tensor:
    return torch.from_numpy(encode(letters).astype(np.int64))[None]


def scores_of(logits: Tensor, letters: str) -> np.ndarray:
    """Written out: ln p of every base among A, C, G and T; NaN where it is not known."""
    tokens = tokens_of(letters)[0].numpy()
    p = np.exp(logits[:, A : T + 1].double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    known = (tokens >= A) & (tokens <= T)
    scores = np.full(len(tokens), np.nan)
    scores[known] = np.log(p[known, tokens[known] - A])
    return scores


def other_strand(values: Tensor) -> Tensor:
    return mirror(values)


def turned(tokens: Tensor) -> Tensor:
    return reverse_complement_tokens(tokens)


def track_values(
    model: nn.Module,
    genome: Path,
    folder: Path,
    *,
    chroms: list[str] | None = None,
    bed: Path | None = None,
    bin_size: int | None = None,
    targets: list[str] | None = None,
    **config: object,
) -> list[dict[str, np.ndarray]]:
    """Run a track; return a dictionary of dense per-base values for each target."""
    fasta = Fasta(genome)
    track = Track(
        model, fasta, Regions(fasta, chroms, bed), TrackConfig(**config), bin_size=bin_size, targets=targets
    )
    found = []
    with TrackStore(folder, track.plan(), track.blocks, track.tiling, len(track.targets)) as store:
        track.run(store)
        for number in range(len(track.targets)):
            dense = {name: np.full(fasta.length(name), np.nan) for name in fasta.names}
            for part in intervals(track, store, number):
                for start, end, value in zip(part.starts, part.ends, part.values, strict=True):
                    assert np.isnan(dense[part.chrom][start:end]).all()
                    dense[part.chrom][start:end] = value
            found.append(dense)
        store.remove()
    return found
