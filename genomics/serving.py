"""What a server with a classifier of sequences takes and answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import nn

from genomics.alphabet import TokenArray, encode
from genomics.fasta import read_fasta
from genomics.inference import Predictor, predict_tokens
from seqmamba.errors import UserError
from seqmamba.serving.limits import Limits

_GZIP = b"\x1f\x8b"


class SequenceAnswerer:
    """Answers FASTA with the classes, or values, of its sequences.

    Args:
        model: A trained model.
        limits: Of the server.
    """

    takes = "FASTA"

    def __init__(self, model: Predictor, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self.task, self.classes = model.config.task, model.config.classes

    def read(self, body: Path) -> list[tuple[str, TokenArray]]:
        """Return the sequences of a FASTA.

        Args:
            body: The file.

        Raises:
            UserError: If it is none, is packed, or is beyond the limits.
        """
        with body.open("rb") as file:
            if file.read(2) == _GZIP:
                raise UserError("body: expected plain FASTA, got gzip")
        found: list[tuple[str, TokenArray]] = []
        for record in read_fasta(body):
            if len(found) == self._limits.items:
                raise UserError(f"body: expected at most {self._limits.items:,} sequences, got more")
            if len(record.sequence) > self._limits.bases:
                raise UserError(
                    f"body: expected sequences of at most {self._limits.bases:,} bases, got "
                    f"{len(record.sequence):,} in {record.name!r}"
                )
            found.append((record.name, encode(record.sequence)))
        return found

    def predict(self, items: Sequence[TokenArray]) -> list[Float[np.ndarray, " classes"] | str]:
        """Return probabilities, or values, of each sequence."""
        return list(predict_tokens(self._model, items))


def answerer(model: nn.Module, limits: Limits) -> SequenceAnswerer | None:
    """Return what answers with a model, if it classifies sequences; see `seqmamba.serving.answering`."""
    return SequenceAnswerer(model, limits) if isinstance(model, Predictor) else None
