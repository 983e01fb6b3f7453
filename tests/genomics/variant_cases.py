"""Genomes, files of variants and models for the tests of variant scoring, and windows made the simple way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from sequence_files import random_sequence

from genomics.allele_models import PairedAlleleModel, PairedAlleleModelConfig
from genomics.alphabet import encode
from genomics.fasta import Fasta
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.variants import Variant
from genomics.vocabulary import PLANT_CADUCEUS, Vocabulary
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig

HEADER = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=400>
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
Model = TypeVar("Model", bound=torch.nn.Module)
CAUSAL = BackboneConfig(d_model=12, n_layers=2, d_state=4, scan_impl="chunked")
BIDIRECTIONAL = BackboneConfig(
    d_model=12, n_layers=2, d_state=4, direction="bidirectional", scan_impl="chunked"
)


def variant(chrom: str, position: int, ref: str, *alts: str, line: int = 9) -> Variant:
    letters = tuple(alt.encode() for alt in alts)
    fields = (chrom.encode(), str(position).encode(), b".", ref.encode(), b",".join(letters) or b".")
    return Variant(line, chrom, position, ref.encode(), letters, (*fields, b".", b".", b"."), b"\n")


def write_genome(path: Path, **sequences: str) -> Fasta:
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in sequences.items()))
    return Fasta(path)


def genome_letters(length: int = 400, seed: int = 0) -> str:
    """Random bases with a repeat and a stretch of N."""
    letters = random_sequence(np.random.default_rng(seed), length)
    return letters[:150] + "CACACACACA" + letters[160:300] + "NNNN" + letters[304:]


def other_base(base: str, shift: int = 1) -> str:
    return "ACGT"[("ACGT".find(base.upper()) + shift) % 4]


@dataclass(frozen=True)
class Expected:
    """What `Haplotypes` should be, in letters."""

    ref: str
    alt: str
    ref_span: tuple[int, int]
    alt_span: tuple[int, int]


def expected_windows(contig: str, position: int, ref: str, alt: str, window: int) -> Expected:
    """Edit the whole sequence, then cut both windows; find an indel's places by trying all of them."""
    contig, alt = contig.upper(), alt.upper()
    edited = contig[: position - 1] + alt + contig[position - 1 + len(ref) :]
    width = min(window, len(contig), len(edited))
    ref_start, alt_start = (
        min(max(position - 1 - width // 2, 0), len(whole) - width) for whole in (contig, edited)
    )
    spans = []
    for (start, end), first in zip(
        _changed(contig, edited, position, ref, alt), (ref_start, alt_start), strict=True
    ):
        spans.append((max(start - first, 0), min(end - first, width)))
    return Expected(
        contig[ref_start : ref_start + width], edited[alt_start : alt_start + width], spans[0], spans[1]
    )


def _changed(
    contig: str, edited: str, position: int, ref: str, alt: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    first = position - 1
    ref = ref.upper()
    while ref and alt and ref[0] == alt[0]:
        ref, alt, first = ref[1:], alt[1:], first + 1
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    if ref and alt:
        return (first, first + len(ref)), (first, first + len(alt))
    shorter, longer = sorted((contig, edited), key=len)
    size = len(longer) - len(shorter)
    places = [i for i in range(len(shorter) + 1) if longer[:i] + longer[i + size :] == shorter]
    in_longer, in_shorter = (places[0], places[-1] + size), (places[0], places[-1])
    return (in_longer, in_shorter) if ref else (in_shorter, in_longer)


def masked_model(equivariant: bool = True, vocabulary: Vocabulary | None = None) -> MaskedModel:
    torch.manual_seed(0)
    config = MaskedModelConfig(
        BIDIRECTIONAL, vocabulary or MaskedModelConfig(BIDIRECTIONAL).vocabulary, equivariant
    )
    return _trained(MaskedModel(config))


def plant_model() -> MaskedModel:
    return masked_model(equivariant=False, vocabulary=PLANT_CADUCEUS)


def language_model(backbone: BackboneConfig = CAUSAL, *, head: bool = True) -> LanguageModel:
    torch.manual_seed(1)
    return _trained(LanguageModel(LanguageModelConfig(backbone, vocab_size=16, head=head)))


def sequence_model(
    task: str = "classification", strand: str = "conjoin", classes: tuple[str, ...] = ("a", "b c", "d")
) -> SequenceModel:
    torch.manual_seed(2)
    config = SequenceModelConfig(BIDIRECTIONAL, task=task, classes=classes, strand=strand)  # type: ignore[arg-type]
    return _trained(SequenceModel(config))


def allele_model(strand: str = "conjoin") -> PairedAlleleModel:
    torch.manual_seed(3)
    options = PairedAlleleModelConfig(BIDIRECTIONAL, strand=strand, targets=("liver", "brain"))  # type: ignore[arg-type]
    return _trained(PairedAlleleModel(options))


def _trained(model: Model) -> Model:
    """Spread the weights as after training, so that every base matters."""
    for name, parameter in model.named_parameters():
        if "embedding" in name or name.startswith("head"):
            torch.nn.init.normal_(parameter)
    return model.eval()


def tokens(letters: str) -> torch.Tensor:
    return torch.from_numpy(encode(letters)).long()[None]
