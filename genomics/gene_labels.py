"""What a base can be: the classes of gene segmentation, and how they swap between the strands.

A label belongs to a base of the strand as given. Read from the other strand, the base is the same, but what
was on ``+`` is on ``-``: `LabelScheme.complement` says which class that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from genomics.equivariance import mirror
from seqmamba.errors import UserError

LabelArray = npt.NDArray[np.int8]

UNKNOWN = -1
"""Label of a base that neither trains nor counts: pseudogenes, unknown bases, contradictory annotation."""

CODON = 3


@dataclass(frozen=True)
class LabelScheme:
    """The classes of a base; class 0 is ``background``, and ``cds±p`` is base p (0, 1, 2) of a codon.

    Attributes:
        name: What configs call it.
        classes: Class names; those on a strand have ``+`` or ``-`` in it.
    """

    name: str
    classes: tuple[str, ...]

    @property
    def complement(self) -> tuple[int, ...]:
        """For every class, the class of the same base when the other strand is read."""
        swap = str.maketrans("+-", "-+")
        return tuple(self.classes.index(name.translate(swap)) for name in self.classes)

    def of(self, name: str) -> int:
        """Return the number of a class."""
        return self.classes.index(name)


_CODING = ("background", *(f"cds{strand}{phase}" for strand in "+-" for phase in range(CODON)))
_SPLICED = tuple(f"{kind}{strand}" for kind in ("intron", "donor", "acceptor", "utr") for strand in "+-")

CODING = LabelScheme("coding", _CODING)
"""Background and coding sequence: strand and place in the codon."""

GENES = LabelScheme("genes", _CODING + _SPLICED)
"""`CODING` and introns, their first two bases (donor) and last two (acceptor), and the rest of the exons."""

SCHEMES = {scheme.name: scheme for scheme in (CODING, GENES)}
CODING_CLASSES = slice(1, len(_CODING))
"""The classes of coding bases, in either scheme."""


def find_scheme(name: str) -> LabelScheme:
    """Return a scheme by its name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in SCHEMES:
        raise UserError(f"scheme: expected one of {', '.join(SCHEMES)}, got {name!r}")
    return SCHEMES[name]


def complement_labels(labels: LabelArray, scheme: LabelScheme) -> LabelArray:
    """Return the labels of the other strand, read in its own 5' to 3' direction.

    Args:
        labels: int8 (..., length).
        scheme: What the numbers mean.
    """
    table = np.array([*scheme.complement, UNKNOWN], dtype=np.int8)  # index -1 is the last entry
    return table[labels[..., ::-1]]


def reverse_complement_labels(
    labels: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None, scheme: LabelScheme
) -> Int[Tensor, "batch length"]:
    """Turn the labels of a batch as `reverse_complement_tokens` turns its tokens; padding stays.

    Args:
        labels: Class numbers or `UNKNOWN`.
        lengths: True lengths, or None when every sequence fills the batch.
        scheme: What the numbers mean.
    """
    table = torch.tensor([UNKNOWN, *scheme.complement], device=labels.device, dtype=labels.dtype)
    return mirror(table[labels.long() + 1], lengths)
