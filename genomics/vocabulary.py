"""Token ids of DNA models: which stand for bases, which for complements, and how ours become theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genomics import alphabet
from genomics.alphabet import TokenArray
from seqmamba.errors import UserError
from seqmamba.nn.options import is_whole, require, require_whole


@dataclass(frozen=True)
class Vocabulary:
    """The token ids that a model was trained with.

    Args:
        complement: Id of the complement of every id; its length is the size of the vocabulary, rows that only
            pad the embedding included.
        bases: Ids of A, C, G, T and of any other base. None if the checkpoint does not tell: such a model
            takes ids, not letters.
        mask: Id that hides a base, None if not known.
        pad: Id that fills up a batch, None if not known.

    Raises:
        UserError: If the complement of a complement is another id, or an id is out of range.
    """

    complement: tuple[int, ...]
    bases: tuple[int, ...] | None = None
    mask: int | None = None
    pad: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "complement", tuple(self.complement))  # JSON has lists
        require_whole("complement: number of ids", self.size, 2)
        own_inverse = all(
            is_whole(other, 0) and other < self.size and self.complement[other] == token
            for token, other in enumerate(self.complement)
        )
        require(own_inverse, "complement", "pairs of ids below its length", self.complement)
        if self.bases is not None:
            object.__setattr__(self, "bases", tuple(self.bases))
            named = len(self.bases) == len(alphabet.BASES) and all(map(self._has, self.bases))
            require(named, "bases", f"five ids below {self.size}", self.bases)
        for name in ("mask", "pad"):
            value = getattr(self, name)
            require(value is None or self._has(value), name, f"an id below {self.size} or null", value)

    def _has(self, token: object) -> bool:
        return is_whole(token, 0) and token < self.size  # type: ignore[operator]

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.complement)

    def encode(self, sequence: bytes | str) -> TokenArray:
        """Turn letters into this vocabulary's ids; which letters are legal is up to `genomics.alphabet`.

        Args:
            sequence: Letters only, no white space.

        Returns:
            uint8 ids, shape (length,).

        Raises:
            UserError: If a letter is not a base, or it is not known which ids stand for bases.
        """
        return self.from_alphabet(alphabet.encode(sequence))

    def from_alphabet(self, tokens: TokenArray) -> TokenArray:
        """Renumber ids of `genomics.alphabet`: bases, masks and padding; the others become unknown bases.

        Args:
            tokens: uint8 ids, any shape.

        Returns:
            uint8 ids of this vocabulary, same shape.

        Raises:
            UserError: If it is not known which ids stand for bases.
        """
        if self.bases is None:
            raise UserError(
                "vocabulary: the checkpoint does not say which token ids stand for A, C, G and T",
                hint="give the model token ids, numbered as it was trained",
            )
        table = np.full(alphabet.VOCAB_SIZE, self.bases[-1], dtype=np.uint8)
        table[alphabet.A : alphabet.N + 1] = self.bases
        for token, own in ((alphabet.MASK, self.mask), (alphabet.PAD, self.pad)):
            if own is not None:
                table[token] = own
        return table[tokens]


CADUCEUS = Vocabulary(
    complement=tuple(map(int, alphabet.COMPLEMENT)),
    bases=(alphabet.A, alphabet.C, alphabet.G, alphabet.T, alphabet.N),
    mask=alphabet.MASK,
    pad=alphabet.PAD,
)
"""Caduceus and HyenaDNA: the numbering of `genomics.alphabet`."""

PLANT_CADUCEUS = Vocabulary(complement=(0, 1, 2, 6, 5, 4, 3, 7), bases=(3, 4, 5, 6, 2), mask=1, pad=0)
"""PlantCaduceus, and GPN before it: [PAD] [MASK] [UNK] a c g t, and one row that pads the embedding."""

KNOWN = (CADUCEUS, PLANT_CADUCEUS)


def recognise(complement: tuple[int, ...]) -> Vocabulary:
    """Return the known vocabulary with these complements, else one whose ids have no letters.

    Args:
        complement: Id of the complement of every id.
    """
    return next((known for known in KNOWN if known.complement == complement), Vocabulary(complement))
