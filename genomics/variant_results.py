"""What scoring adds to a row of variants, whatever file it is written to."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from genomics.variants import Reason
from seqmamba.errors import UserError

_LEGAL_ID = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")


@dataclass(frozen=True, slots=True)
class AddedField:
    """An INFO field of a VCF file, or a column of a table.

    Args:
        id: Letters, digits, ``_`` and ``.``, no digit first.
        type: ``Float`` is one value an ALT allele, ``String`` one word each, ``Flag`` belongs to the row.
        description: One sentence.

    Raises:
        UserError: If VCF does not allow the id.
    """

    id: str
    type: Literal["Float", "String", "Flag"]
    description: str

    def __post_init__(self) -> None:
        if not _LEGAL_ID.fullmatch(self.id):
            raise UserError(
                f"INFO field: expected letters, digits, '_' and '.', no digit first, got {self.id!r}",
                hint="choose another --prefix",
            )


@dataclass(frozen=True, slots=True)
class Score:
    """A number that a scorer gives to an allele.

    Args:
        name: In capitals, without the prefix of the field.
        description: One sentence.
    """

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Results:
    """The scores of one row.

    Attributes:
        reasons: Why an allele has none, one entry an ALT allele; one entry for a row without any.
        values: One row an entry of `reasons`; NaN where a score does not apply.
        mismatch: Whether REF is not what the genome has.
    """

    reasons: tuple[Reason | None, ...]
    values: Float[np.ndarray, "alleles scores"]
    mismatch: bool


class AddedFields:
    """Names the scores, and turns them into text.

    Args:
        prefix: First part of every name.
        scores: What the scorer gives, in its order.

    Raises:
        UserError: If a name is no legal INFO id.
    """

    def __init__(self, prefix: str, scores: Sequence[Score]) -> None:
        ids: list[str] = []
        for score in scores:
            name = f"{prefix}_{re.sub(r'[^0-9A-Za-z_.]', '_', score.name)}"
            while name in ids:  # "a b" and "a-b"
                name += "_"
            ids.append(name)
        self.scores = [
            AddedField(name, "Float", score.description) for name, score in zip(ids, scores, strict=True)
        ]
        reasons = ", ".join(Reason)
        self.skipped = AddedField(
            f"{prefix}_SKIPPED", "String", f"Why an ALT allele has no scores, . where it has: {reasons}"
        )
        self.mismatch = AddedField(
            f"{prefix}_REF_MISMATCH", "Flag", "REF differs from the genome that was scored; no scores"
        )
        self.all = (*self.scores, self.skipped, self.mismatch)

    def cells(self, results: Results) -> list[list[str]]:
        """Return the text of every score, a list an entry of ``results.reasons``; empty where missing."""
        return [[_number(value) for value in row] for row in results.values.tolist()]


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
