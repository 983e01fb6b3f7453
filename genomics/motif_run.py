"""What each motif of a file does to a model, over many sequences: put in, or shuffled away.

The sequences are read as they are given, cut to one length around their centres.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from Bio.motifs.matrix import PositionSpecificScoringMatrix
from Bio.Seq import Seq
from jaxtyping import Int
from torch import Tensor

from genomics.alphabet import A, T, decode
from genomics.embedding_inputs import Item
from genomics.models import SequenceModel
from genomics.motif_files import NamedMotif
from genomics.motifs import ablate_stretch, effect_of, marginalize_motifs, shuffled
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.progress import Progress
from seqmamba.report.palette import SERIES

Experiment = Literal["insert", "ablate"]
SHOWN = 24
"""Rows of the figure: those with the largest changes."""

_EVEN = 0.25
_PSEUDOCOUNT = 0.01  # of the probabilities: no letter is impossible
_PRECISION = 1_000  # steps of a motif's scores, in the distribution that gives the threshold


@dataclass(frozen=True)
class MotifConfig:
    """What is done to which sequences.

    Args:
        experiment: ``insert`` puts each motif, and its reverse complement, into the middle of every sequence;
            ``ablate`` shuffles its best occurrence in every sequence that has one, and beside it another
            stretch of the same width.
        shuffle: For ``insert``: whether the sequences are shuffled first, pairs of neighbours kept.
        p_value: For ``ablate``: how likely a place of random even bases scores like an occurrence.
        shuffles: For ``ablate``: times that a stretch is shuffled.
        sequences: The first so many sequences are used.
        seed: Of everything drawn.
        batch_size: Sequences at once.

    Raises:
        UserError: If a value is out of range.
    """

    experiment: Experiment = "insert"
    shuffle: bool = True
    p_value: float = 1e-4
    shuffles: int = 20
    sequences: int = 200
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        require_choice("--experiment", self.experiment, ("insert", "ablate"))
        if not 0 < self.p_value < 1:
            raise UserError(f"--p-value: expected a number between 0 and 1, got {self.p_value}")
        for name in ("shuffles", "sequences", "batch_size"):
            require_whole(f"--{name.replace('_', '-')}", getattr(self, name))
        require_whole("--seed", self.seed, 0)


class MotifRow(NamedTuple):
    """What one experiment with one motif found.

    Attributes:
        motif: Name of the motif.
        letters: What stands for it.
        experiment: ``inserted``, ``inserted_rc``, ``ablated`` or ``control``.
        sequences: Sequences that took part.
        change: Mean change of the explained output, with its 95 % interval; NaN where none took part.
    """

    motif: str
    letters: str
    experiment: str
    sequences: int
    change: Estimate


class Chosen(NamedTuple):
    """Sequences of one length.

    Attributes:
        tokens: Token ids, int64 (n, length).
        short: Sequences that were left out because they are shorter.
        unknown: Sequences that were left out because they hold an unknown base.
    """

    tokens: Int[Tensor, "n length"]
    short: int
    unknown: int


def choose_sequences(
    items: Iterable[Item], length: int | None, count: int, *, limit: int | None = None
) -> Chosen:
    """Take the first sequences of a stream that are long enough and without unknown bases.

    Args:
        items: The sequences.
        length: Bases around the centre of each; None takes the length of the first one.
        count: How many.
        limit: Longest sequence of the model's training, or None.

    Raises:
        UserError: If the length is more than the limit, or no sequence is left.
    """
    if length and limit and length > limit:
        raise UserError(
            f"--length: expected at most {limit:,} bases, the longest of the training, got {length:,}"
        )
    rows: list[np.ndarray] = []
    short = unknown = 0
    for item in items:
        length = length or min(len(item.interval), limit or len(item.interval))
        start = (len(item.interval) - length) // 2
        if start < 0:
            short += 1
            continue
        tokens = item.fetch(start, start + length)
        if tokens.min() < A or tokens.max() > T:
            unknown += 1
            continue
        rows.append(tokens.astype(np.int64))
        if len(rows) == count:
            break
    if not rows:
        raise UserError(
            f"no sequence is left: {short:,} are shorter than {length or 0:,} bases, {unknown:,} hold "
            "unknown ones"
        )
    return Chosen(torch.from_numpy(np.stack(rows)), short, unknown)


def run_motifs(
    model: SequenceModel,
    tokens: Int[Tensor, "n length"],
    motifs: Sequence[NamedMotif],
    target: int,
    config: MotifConfig,
) -> list[MotifRow]:
    """Do one experiment with every motif.

    Args:
        model: A trained model.
        tokens: Token ids of sequences without unknown bases.
        motifs: The motifs.
        target: Class or target index to explain.
        config: What to do.

    Raises:
        UserError: If tangermeme is missing, or a motif is longer than the sequences.
    """
    for motif in motifs:
        if len(motif) > tokens.shape[1]:
            raise UserError(f"motif {motif.name}: {len(motif)} bases do not fit into {tokens.shape[1]}")
    inserts = config.experiment == "insert"
    if inserts and config.shuffle:
        tokens = shuffled(tokens, config.seed)
    progress = Progress(len(motifs), unit="motifs")
    rows: list[MotifRow] = []
    for motif in motifs:
        rows += (_insert if inserts else _ablate)(model, tokens, motif, target, config)
        progress.advance(1)
    progress.finish()
    return rows


def _insert(
    model: SequenceModel, tokens: Tensor, motif: NamedMotif, target: int, config: MotifConfig
) -> Iterator[MotifRow]:
    turned = motif.reverse_complement()
    letters = {"inserted": motif.letters, "inserted_rc": turned.letters}
    effects = marginalize_motifs(model, tokens, letters, target, batch_size=config.batch_size)
    for experiment, effect in effects.items():
        yield MotifRow(motif.name, letters[experiment], experiment, len(effect.changes), effect.mean)


def _ablate(
    model: SequenceModel, tokens: Tensor, motif: NamedMotif, target: int, config: MotifConfig
) -> Iterator[MotifRow]:
    places = best_places(tokens, motif, config.p_value)
    found = np.flatnonzero(places >= 0)
    generator = np.random.default_rng(config.seed)
    width, length = len(motif), tokens.shape[1]
    beside = np.array(
        [_beside(at, width, length, generator) for at in places[found].tolist()], dtype=np.int64
    )
    apart = beside >= 0
    for experiment, rows, starts in (
        ("ablated", found, places[found]),
        ("control", found[apart], beside[apart]),
    ):
        change = _shuffle_away(model, tokens, rows, starts, width, target, config)
        yield MotifRow(motif.name, motif.letters, experiment, len(rows), change)


def _shuffle_away(
    model: SequenceModel,
    tokens: Tensor,
    rows: np.ndarray,
    starts: np.ndarray,
    width: int,
    target: int,
    config: MotifConfig,
) -> Estimate:
    if not len(rows):
        return Estimate(np.nan, np.nan, np.nan)
    changes = np.empty(len(rows))
    for start in np.unique(starts).tolist():  # tangermeme shuffles the same stretch of all it is given
        here = np.flatnonzero(starts == start)
        effect = ablate_stretch(
            model,
            tokens[rows[here]],
            start,
            start + width,
            target,
            shuffles=config.shuffles,
            seed=config.seed,
            batch_size=config.batch_size,
        )
        changes[here] = effect.changes
    return effect_of(torch.from_numpy(changes)).mean


def best_places(tokens: Int[Tensor, "n length"], motif: NamedMotif, p_value: float) -> Int[np.ndarray, " n"]:
    """Find where each sequence looks most like a motif, on either strand.

    The score of a place is the sum of the log-odds of its letters against even bases; the threshold is the
    one that random even bases reach with probability `p_value` (Staden 1989), but never below 0.

    Args:
        tokens: Token ids.
        motif: The motif.
        p_value: Of an occurrence.

    Returns:
        First base of the best place, or -1 where no place reaches the threshold.
    """
    smooth = (motif.probabilities + _PSEUDOCOUNT) / (1 + 4 * _PSEUDOCOUNT)
    odds = dict(zip("ACGT", np.log2(smooth / _EVEN).tolist(), strict=True))
    matrix = PositionSpecificScoringMatrix("ACGT", odds)
    background = dict.fromkeys("ACGT", _EVEN)
    distribution = matrix.distribution(background=background, precision=_PRECISION)
    threshold = max(distribution.threshold_fpr(p_value), 0.0)
    other = matrix.reverse_complement()
    places = np.full(len(tokens), -1)
    for row, one in enumerate(tokens.cpu().numpy()):
        letters = Seq(decode(one.astype(np.uint8)))
        scores = np.maximum(*(np.atleast_1d(each.calculate(letters)) for each in (matrix, other)))
        best = int(scores.argmax())
        if scores[best] > threshold:
            places[row] = best
    return places


def _beside(place: int, width: int, length: int, generator: np.random.Generator) -> int:
    """Draw the start of another stretch that shares no base with the one at `place`; -1 if there is none."""
    starts = [*range(place - width + 1), *range(place + width, length - width + 1)]
    return int(generator.choice(starts)) if starts else -1


def write_rows(rows: Sequence[MotifRow], path: Path) -> None:
    """Write a table: motif, letters, experiment, sequences, mean, low, high; whole or not at all."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write("motif\tletters\texperiment\tsequences\tmean\tlow\thigh\n")
        for row in rows:
            numbers = (row.change.value, row.change.low, row.change.high)
            cells = ("" if np.isnan(number) else f"{number:.6g}" for number in numbers)
            out.write("\t".join((*row[:3], str(row.sequences), *cells)) + "\n")


def draw_rows(rows: Sequence[MotifRow], path: Path, what: str = "output") -> None:
    """Draw the motifs that change the output most, each experiment in its colour; the ending says the format.

    Args:
        rows: What was found.
        path: The file.
        what: What changes, in words.
    """
    from seqmamba.report.figure_files import save_figure
    from seqmamba.report.plots import comparison

    known = [row for row in rows if np.isfinite(row.change.value)]
    if not known:
        raise UserError(f"{path}: there is nothing to draw: no motif occurs in the sequences")
    names = dict.fromkeys(row.motif for row in sorted(known, key=lambda row: -abs(row.change.value)))
    shown = list(names)[:SHOWN]
    kinds = list(dict.fromkeys(row.experiment for row in rows))
    chosen = sorted((row for row in known if row.motif in shown), key=lambda row: shown.index(row.motif))
    estimates = {f"{row.motif}, {row.experiment}": row.change for row in chosen}
    colours = {f"{row.motif}, {row.experiment}": SERIES[kinds.index(row.experiment)] for row in chosen}
    figure = comparison(estimates, colours)
    figure.axes[0].set_xlabel(f"change of the {what}")
    save_figure(figure, path)
