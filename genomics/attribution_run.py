"""Attribution of many sequences: what to explain, in which batches, and whether both strands agree.

Sequences are read and explained as a stream, in their order. One that is longer than those of training is
explained in its middle, as `genomics.inference.predict_tokens` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from genomics.alphabet import PAD, TokenArray
from genomics.attribution import gradient_x_input, integrated_gradients, outputs_of_strands
from genomics.embedding_inputs import Item
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.intervals import Interval
from genomics.models import SequenceModel
from genomics.mutagenesis import base_importance, in_silico_mutagenesis
from seqmamba.errors import UserError

Method = Literal["gradient_x_input", "integrated_gradients", "ism"]
METHODS: tuple[str, ...] = get_args(Method)
_COMPLEMENT = [3, 2, 1, 0]  # columns A, C, G, T on the other strand


@dataclass(frozen=True)
class AttributionConfig:
    """How to explain sequences.

    Args:
        method: ``gradient_x_input`` (one backward pass), ``integrated_gradients`` (``steps`` of them; the
            scores of a sequence add up) or ``ism`` (three forward passes a base; exact for single bases).
        target: Class or target, by name or number; None takes the second of two classes, or the only target.
        both_strands: Whether to average with the scores of the reverse complement, turned back.
        central: Explain only so many bases in the middle of each sequence; None explains all.
        steps: Points of integrated gradients.
        batch_bases: Bases in a batch, padding included; a longer sequence is a batch of its own.

    Raises:
        UserError: If a value is out of range.
    """

    method: Method = "gradient_x_input"
    target: str | None = None
    both_strands: bool = False
    central: int | None = None
    steps: int = 32
    batch_bases: int = 65_536

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        for name, value in (
            ("central", 1 if self.central is None else self.central),
            ("steps", self.steps),
            ("batch_bases", self.batch_bases),
        ):
            if value < 1:
                raise UserError(f"{name}: expected a positive number, got {value}")


class Explained(NamedTuple):
    """The scores of one sequence.

    Attributes:
        name: Its name.
        interval: Where the scored bases lie; read on its strand.
        tokens: The scored bases, in reading direction.
        scores: One a base, in reading direction.
        effects: Of ``ism``: change with A, C, G and T at each base; else None.
        output: The explained output.
        output_rc: The explained output of the reverse complement.
        gap: Of ``integrated_gradients``: by how much the scores of the whole sequence miss completeness; else
            0.
    """

    name: str
    interval: Interval
    tokens: UInt8[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    effects: Float32[np.ndarray, "n 4"] | None
    output: float
    output_rc: float
    gap: float


def resolve_target(model: SequenceModel, target: str | None) -> int:
    """Find the class or target to explain.

    Args:
        model: The model.
        target: Its name or number; None takes the second of two classes, or the only target.

    Raises:
        UserError: If it is none of the model's, or has to be chosen.
    """
    classes = model.config.classes
    known = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
    if target is None:
        if len(classes) == 1 or (len(classes) == 2 and model.config.task == "classification"):
            return len(classes) - 1
        raise UserError(f"--target: has to be chosen, the model has {known}")
    if target in classes:
        return classes.index(target)
    if target.isdecimal() and int(target) < len(classes):
        return int(target)
    raise UserError(f"--target: expected one of {known}, got {target!r}")


def describe_target(model: SequenceModel, target: int) -> str:
    """Name the number that is explained.

    Args:
        model: The model.
        target: See `resolve_target`.
    """
    name = model.config.classes[target]
    return f"value of {name}" if model.config.task == "regression" else f"log-odds of {name}"


def explained_part(length: int, limit: int | None, central: int | None) -> tuple[int, int, int, int]:
    """Return which bases of a sequence are read, and which of those are scored.

    Args:
        length: Bases of the sequence.
        limit: Longest sequence of training, or None.
        central: Bases to score, or None for all.

    Returns:
        Start and end of what is read, in the sequence; start and end of what is scored, in what is read.
    """
    read = min(length, limit or length)
    start = (length - read) // 2
    scored = min(read, central or read)
    first = (read - scored) // 2
    return start, start + read, first, first + scored


def explain(model: SequenceModel, items: Iterable[Item], config: AttributionConfig) -> Iterator[Explained]:
    """Explain sequences one after the other; memory depends on the longest.

    Args:
        model: A trained model.
        items: The sequences.
        config: How.

    Yields:
        The scores of every sequence, in order.

    Raises:
        UserError: If the target is none of the model's, or a sequence is empty.
    """
    target = resolve_target(model, config.target)
    for batch in _batches(items, model.config.max_length, config):
        yield from _explain_batch(model, batch, target, config)


class _Part(NamedTuple):
    """A sequence to explain: what is read of it, and which of that is scored."""

    item: Item
    tokens: TokenArray
    read_from: int
    first: int
    last: int


def _batches(items: Iterable[Item], limit: int | None, config: AttributionConfig) -> Iterator[list[_Part]]:
    batch: list[_Part] = []
    longest = 0
    for item in items:
        start, end, first, last = explained_part(len(item.interval), limit, config.central)
        part = _Part(item, item.fetch(start, end), start, first, last)
        if batch and max(longest, end - start) * (len(batch) + 1) > config.batch_bases:
            yield batch
            batch, longest = [], 0
        batch.append(part)
        longest = max(longest, end - start)
    if batch:
        yield batch


def _explain_batch(
    model: SequenceModel, batch: list[_Part], target: int, config: AttributionConfig
) -> Iterator[Explained]:
    tokens, lengths = _padded(batch, model.token_weights.device)
    given, turned = outputs_of_strands(model, tokens, lengths, target)
    if config.method == "ism":
        effects = _mutate(model, tokens, batch, target, config)
        scores, gaps = base_importance(effects), torch.zeros(len(batch))
    else:
        effects = None
        scores, gaps = _differentiate(model, tokens, lengths, target, config)
    for row, part in enumerate(batch):
        stretch = slice(part.first, part.last)
        yield Explained(
            name=part.item.name,
            interval=_place(part),
            tokens=part.tokens[stretch],
            scores=scores[row, stretch].float().cpu().numpy(),
            effects=None if effects is None else effects[row, stretch].float().cpu().numpy(),
            output=float(given[row]),
            output_rc=float(turned[row]),
            gap=float(gaps[row]),
        )


def _padded(batch: list[_Part], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return token ids, padded on the right, and true lengths: None where nothing is padded.

    Models spare themselves masks, which are copies of all features, where they know that.
    """
    lengths = torch.tensor([len(part.tokens) for part in batch])
    longest = int(lengths.max())
    tokens = torch.full((len(batch), longest), PAD, dtype=torch.int64)
    for row, part in enumerate(batch):
        tokens[row, : len(part.tokens)] = torch.from_numpy(part.tokens.astype(np.int64))
    return tokens.to(device), None if int(lengths.min()) == longest else lengths.to(device)


def _differentiate(
    model: SequenceModel, tokens: Tensor, lengths: Tensor | None, target: int, config: AttributionConfig
) -> tuple[Tensor, Tensor]:
    """Return scores (batch, length) and completeness gaps (batch,), averaged over strands if wanted."""

    def scores_of(strand: Tensor) -> tuple[Tensor, Tensor]:
        if config.method == "integrated_gradients":
            return integrated_gradients(model, strand, lengths, target, steps=config.steps)
        return gradient_x_input(model, strand, lengths, target), torch.zeros(
            len(strand), device=strand.device
        )

    scores, gaps = scores_of(tokens)
    if not config.both_strands:
        return scores, gaps
    other, other_gaps = scores_of(reverse_complement_tokens(tokens, lengths))
    return (scores + mirror(other, lengths)) / 2, (gaps + other_gaps) / 2


def _mutate(
    model: SequenceModel,
    tokens: Tensor,
    batch: list[_Part],
    target: int,
    config: AttributionConfig,
) -> Tensor:
    """Return mutation effects (batch, length, 4), 0 outside what is scored."""
    effects = torch.zeros(*tokens.shape, 4, device=tokens.device)
    for row, part in enumerate(batch):
        length = len(part.tokens)
        one = tokens[row : row + 1, :length]
        at_once = max(1, config.batch_bases // length)

        def effects_of(strand: Tensor, start: int, end: int, at_once: int = at_once) -> Tensor:
            return in_silico_mutagenesis(
                model, strand, None, target, start=start, end=end, batch_size=at_once
            )

        found = effects_of(one, part.first, part.last)
        if config.both_strands:
            turned = effects_of(reverse_complement_tokens(one), length - part.last, length - part.first)
            found = (found + turned.flip(1)[..., _COMPLEMENT]) / 2
        effects[row, part.first : part.last] = found[0]
    return effects


def _place(part: _Part) -> Interval:
    """Return where the scored bases of a sequence lie."""
    whole = part.item.interval
    first, last = part.read_from + part.first, part.read_from + part.last
    if whole.strand == "-":
        first, last = len(whole) - last, len(whole) - first
    return Interval(whole.chrom, whole.start + first, whole.start + last, whole.strand)
