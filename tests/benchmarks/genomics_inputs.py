"""What the genomics verbs are measured on: genomes, files made of them, models with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from genomics.fasta import read_fasta
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.segmentation import SegmentationModel, SegmentationModelConfig
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig

CHROMOSOME = "chromosome"
LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


@dataclass(frozen=True)
class Scale:
    """How large the inputs are.

    Attributes:
        chromosome: Bases of the chromosome at most.
        bases: Bases of a long sequence or window.
        sequences: Long sequences of a file; the chromosome must hold them.
        long_variants: Variants scored in windows of `bases`.
        variants: Variants scored in windows of 1,024 bases.
        window: Bases of the windows of a track.
        mutated: Bases that mutagenesis replaces.
    """

    chromosome: int = 17_718_849  # C. elegans chromosome X
    bases: int = 1_048_576
    sequences: int = 4
    long_variants: int = 4
    variants: int = 2_000
    window: int = 131_072
    mutated: int = 4

    def small(self) -> Scale:
        """What loads the kernels that the larger one runs."""
        bases = max(1, self.bases // 16)
        return Scale(2 * bases, bases, 1, 1, 8, max(64, self.window // 16), 1)


class Inputs:
    """Files of one scale, in a folder.

    Args:
        folder: Where to write them.
        letters: The chromosome.
        scale: How large they are.
    """

    def __init__(self, folder: Path, letters: bytes, scale: Scale) -> None:
        self.scale = scale
        folder.mkdir()
        self.genome = str(_write_fasta(folder / "genome.fa", {CHROMOSOME: letters}))
        parts = {f"part{i}": letters[i * scale.bases : (i + 1) * scale.bases] for i in range(scale.sequences)}
        self.sequences = str(_write_fasta(folder / "sequences.fa", parts))
        self.one = str(_write_fasta(folder / "one.fa", {"part0": parts["part0"]}))
        self.region = str(folder / "region.bed")
        Path(self.region).write_text(f"{CHROMOSOME}\t0\t{scale.bases}\n")
        self.long_variants = str(_write_variants(folder / "long.tsv", letters, scale.long_variants))
        self.variants = str(_write_variants(folder / "variants.tsv", letters, scale.variants))
        self._folder = folder

    def output(self, name: str) -> Path:
        """Return a path to write to; what an earlier run left there is gone."""
        path = self._folder / name
        path.unlink(missing_ok=True)
        return path


def _write_fasta(path: Path, sequences: dict[str, bytes]) -> Path:
    with path.open("wb") as out:
        for name, letters in sequences.items():
            out.write(f">{name}\n".encode())
            out.writelines(letters[start : start + 60] + b"\n" for start in range(0, len(letters), 60))
    return path


def _write_variants(path: Path, letters: bytes, count: int) -> Path:
    """Substitutions of known bases, evenly along the chromosome."""
    known = np.flatnonzero(np.isin(np.frombuffer(letters.upper(), dtype=np.uint8), LETTERS))
    places = known[np.linspace(0, len(known) - 1, count + 2).astype(np.int64)[1:-1]]
    other = dict(zip("ACGT", "CGTA", strict=True))
    lines = ["chrom\tpos\tref\talt"]
    for place in places.tolist():
        base = chr(letters[place]).upper()
        lines.append(f"{CHROMOSOME}\t{place + 1}\t{base}\t{other[base]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_models(folder: Path, d_model: int, layers: int, recipe: tuple[int, int]) -> dict[str, str]:
    """Write the models with random weights, and return what they are."""
    torch.manual_seed(0)
    both = BackboneConfig(d_model, layers, direction="bidirectional")
    genes = BackboneConfig(*recipe, direction="bidirectional", checkpoint_activations=True)
    models: dict[str, nn.Module] = {
        "classifier": SequenceModel(SequenceModelConfig(backbone=both, classes=("no", "yes"))),
        "masked": MaskedModel(MaskedModelConfig(both)),
        "causal": LanguageModel(LanguageModelConfig(BackboneConfig(d_model, layers), vocab_size=16)),
        "segmentation": SegmentationModel(SegmentationModelConfig(genes)),
    }
    words = {
        "classifier": f"{layers} x {d_model}, bidirectional, averages both strands",
        "masked": f"{layers} x {d_model}, bidirectional, equivariant (Caduceus-PS)",
        "causal": f"{layers} x {d_model}, causal",
        "segmentation": f"{recipe[1]} x {recipe[0]}, as genomics/gene_segmentation, averages both strands",
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)  # type: ignore[operator]
        count = sum(parameter.numel() for parameter in model.parameters())
        words[name] += f", {count / 1e6:.2f}M parameters"
    return words


def random_chromosome(length: int) -> bytes:
    """Random bases with a run of N in the middle, a two-hundredth of them."""
    letters = LETTERS[np.random.default_rng(0).integers(4, size=length)]
    letters[length // 2 : length // 2 + length // 200] = ord("N")
    return letters.tobytes()


def first_letters(genome: str, length: int) -> bytes:
    return next(read_fasta(genome)).sequence[:length]


def longest_sequence(fasta: str) -> bytes:
    return max((record.sequence for record in read_fasta(fasta)), key=len)
