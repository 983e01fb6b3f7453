"""What stands in front of a backbone and turns bases into features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from genomics.alphabet import PAD, UNK, VOCAB_SIZE, A, C, G, N, T
from genomics.vocabulary import Vocabulary
from seqmamba.errors import UserError

StemWidth = int | tuple[int, ...]


def one_hot_table() -> Float[Tensor, "vocabulary vocabulary"]:
    """Return the row of input weights of every token id.

    An unknown base (N, UNK) weighs a quarter on each of A, C, G and T, so it says nothing and is its own
    complement even in a model that never saw one. Padding is all zero.
    """
    table = torch.eye(VOCAB_SIZE)
    table[[N, UNK]] = table[[A, C, G, T]].mean(dim=0)
    table[PAD] = 0
    return table


def check_stem_width(width: int | Sequence[int]) -> StemWidth:
    """Return the width or widths of a stem, as they were given or as a tuple.

    Raises:
        UserError: If one is not a positive odd number.
    """
    widths = (width,) if isinstance(width, int) else tuple(width)
    if not widths or any(one < 1 or one % 2 == 0 for one in widths):
        raise UserError(f"stem_width: expected a positive odd number of bases, got {width}")
    return width if isinstance(width, int) else widths


class SequenceStem(nn.Module):
    """Turns bases into features: a convolution over one-hot rows, an embedding when it is one base wide.

    Args:
        d_model: Number of output features.
        width: Number of bases seen at once, odd.
    """

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(VOCAB_SIZE, d_model, width, padding=width // 2)
        # One-hot rows: the sum over width taps has unit variance when every weight has variance 1 / width.
        nn.init.normal_(self.conv.weight, std=width**-0.5)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.activation = nn.Identity() if width == 1 else nn.SiLU()

    def forward(self, one_hot: Float[Tensor, "batch length vocabulary"]) -> Float[Tensor, "batch length dim"]:
        """Map token weights to features; rows of zeros (padding) look like the end of the sequence."""
        features: Tensor = self.activation(self.conv(one_hot.transpose(1, 2)))
        return features.transpose(1, 2)


class MultiWidthStem(nn.Module):
    """Convolutions of several widths side by side: short and long motifs at once.

    Args:
        d_model: Number of output features, shared out equally; the first widths get what remains.
        widths: Numbers of bases seen at once, odd.
    """

    def __init__(self, d_model: int, widths: Sequence[int]) -> None:
        super().__init__()
        shares = [len(range(i, d_model, len(widths))) for i in range(len(widths))]
        self.stems = nn.ModuleList(SequenceStem(*pair) for pair in zip(shares, widths, strict=True))

    def forward(self, one_hot: Float[Tensor, "batch length vocabulary"]) -> Float[Tensor, "batch length dim"]:
        """Map token weights to features; see `SequenceStem`."""
        return torch.cat([stem(one_hot) for stem in self.stems], dim=-1)


class PretrainedStem(nn.Module):
    """The embedding of a language model, over token weights: a gradient reaches the bases.

    Args:
        d_model: Number of output features.
        vocabulary: The ids of the language model.
    """

    ids: Tensor

    def __init__(self, d_model: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, d_model)
        ids = vocabulary.from_alphabet(np.arange(VOCAB_SIZE, dtype=np.uint8))
        self.register_buffer("ids", torch.from_numpy(ids).long(), persistent=False)

    def forward(self, one_hot: Float[Tensor, "batch length vocabulary"]) -> Float[Tensor, "batch length dim"]:
        """Map token weights to features, in float32 under autocast too, as an embedding does."""
        with torch.autocast(one_hot.device.type, enabled=False):
            return one_hot.float() @ self.embedding.weight[self.ids]


def build_stem(
    d_model: int, width: StemWidth, embedding: Vocabulary | None
) -> SequenceStem | MultiWidthStem | PretrainedStem:
    """Build a stem.

    Args:
        d_model: Number of output features.
        width: Bases that a convolution sees at once, odd; several make several convolutions.
        embedding: The ids of a language model, whose embedding takes the place of the convolution.
    """
    if embedding is not None:
        return PretrainedStem(d_model, embedding)
    return SequenceStem(d_model, width) if isinstance(width, int) else MultiWidthStem(d_model, width)


def token_table(embedding: Vocabulary | None) -> Float[Tensor, "vocabulary vocabulary"]:
    """Return the row of input weights of every token id in front of the stem that `build_stem` builds.

    A language model has seen unknown bases and has a row of its own for them. Padding is all zero.
    """
    if embedding is None:
        return one_hot_table()
    table = torch.eye(VOCAB_SIZE)
    table[PAD] = 0
    return table
