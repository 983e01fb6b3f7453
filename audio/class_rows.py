"""Recordings of several classes side by side in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audio.waveform_model import WaveformModel
from seqmamba.nn.state import register_state


@dataclass(frozen=True)
class ClassRows:
    """Some recordings of one class.

    Args:
        label: The class; None for none.
        rows: Number of recordings.
        first_row: Number of the first among all of its class.
    """

    label: str | None
    rows: int
    first_row: int = 0

    @property
    def numbers(self) -> list[tuple[str | None, int]]:
        """Class and number of each recording."""
        return [(self.label, self.first_row + row) for row in range(self.rows)]


def full_batches(labels: Sequence[str | None], each: int, size: int) -> Iterator[tuple[ClassRows, ...]]:
    """Deal recordings out in batches: full ones of a class alone, what is left of several classes together.

    A batch of one class takes the fastest steps (`WaveformModel.of_class`), and a small batch takes nearly as
    long as a full one: so classes share only batches that none of them fills.

    Args:
        labels: Classes, in order; None for no class.
        each: Recordings of each.
        size: Most recordings of a batch.

    Yields:
        Batches; the numbers of each class come in order.
    """
    shared: list[ClassRows] = []
    left = each % size
    for label in labels:
        for first in range(0, each - left, size):
            yield (ClassRows(label, size, first),)
        if sum(rows.rows for rows in shared) + left > size:
            yield tuple(shared)
            shared = []
        if left:
            shared.append(ClassRows(label, left, each - left))
    if shared:
        yield tuple(shared)


@register_state
class ClassState(NamedTuple):
    """State of recordings that each have a class.

    Attributes:
        classes: Class numbers (batch,).
        network: State of the network.
    """

    classes: Int[Tensor, " batch"]
    network: Any


class ClassesSideBySide(nn.Module):
    """A `WaveformModel` as a language model whose state knows the class of each recording.

    Args:
        model: A model of classes.
    """

    def __init__(self, model: WaveformModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.network.config

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        state: ClassState,
        return_state: bool = False,
        last_only: bool = False,
    ) -> Float[Tensor, "batch _ vocabulary"] | tuple[Float[Tensor, "batch _ vocabulary"], ClassState]:
        """Score the code that follows each position; see `WaveformModel.forward`."""
        logits, network = self.model(
            tokens, condition=state.classes, state=state.network, return_state=True, last_only=last_only
        )
        return (logits, ClassState(state.classes, network)) if return_state else logits

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> ClassState:
        """Return the state before the first sample of recordings without a class."""
        network = self.model.init_state(batch_size, device)
        where = device or next(self.model.parameters()).device
        none = torch.full((batch_size,), self.model.class_number(None), device=where)
        return ClassState(none, network)
