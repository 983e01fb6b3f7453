"""Split a data set into train, validation and test without letting near-copies cross the lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from genomics.interval_sets import LabelledIntervals
from genomics.intervals import chrom_key
from genomics.leaks import giveaways
from genomics.similarity import similarity_clusters
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS, deal_groups

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

    Records = LabelledSequences | LabelledIntervals

SplitMethod = Literal["auto", "column", "chromosome", "block", "similarity", "random"]

_MIN_CHROMOSOMES = 5
_REGRESSION_BINS = 4


@dataclass(frozen=True)
class SplitConfig:
    """How to split a data set.

    Args:
        by: ``column`` (given with the data), ``chromosome``, ``block`` (stretches of ``block_size`` bases),
            ``similarity`` (clusters of alike sequences stay together, reverse complements included),
            ``random``, or ``auto``: the column if there is one, chromosomes if the sequences lie on at least
            five (or some are named here), blocks if they have coordinates, else similarity.
        test: Chromosomes to test on; with none named they are chosen to hold about ``test_fraction``.
        validation: Chromosomes to validate on; likewise.
        test_fraction: Share of the sequences to test on.
        validation_fraction: Share of the sequences to validate on.
        block_size: Length of a block in bases.
        similarity: Share of the shorter sequence's 12-mers that two sequences have in common from which
            they count as alike; 0.5 is about 94 % identity over the whole length, or an overlap of half.
        seed: Decides between equally good splits.
        leave_out: Whether splits by chromosome, block and similarity leave out the training (and validation)
            sequences that overlap, copy or resemble a held-out one.
    """

    by: SplitMethod = "auto"
    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test_fraction: float = 0.15
    validation_fraction: float = 0.1
    block_size: int = 100_000
    similarity: float = 0.5
    seed: int = 0
    leave_out: bool = True

    def __post_init__(self) -> None:
        if self.by not in get_args(SplitMethod):
            raise UserError(
                f"split.by: expected one of {', '.join(get_args(SplitMethod))}, got {self.by!r}",
                hint="leave it at auto when unsure",
            )
        # YAML and the command line deliver lists.
        object.__setattr__(self, "test", tuple(self.test))
        object.__setattr__(self, "validation", tuple(self.validation))
        for name in ("test_fraction", "validation_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"split.{name}: expected a number between 0 and 1, got {getattr(self, name)}")
        if self.test_fraction + self.validation_fraction >= 1:
            raise UserError(
                "split.test_fraction and split.validation_fraction: expected a sum below 1, got "
                f"{self.test_fraction + self.validation_fraction:g}",
                hint="something has to be left to train on",
            )
        if not 0 < self.similarity <= 1:
            raise UserError(f"split.similarity: expected a number above 0, at most 1, got {self.similarity}")
        if self.block_size < 1:
            raise UserError(f"split.block_size: expected a positive number of bases, got {self.block_size}")
        if self.by not in ("auto", "chromosome") and (self.test or self.validation):
            raise UserError(
                f"split.test and split.validation name chromosomes, but split.by is {self.by!r}",
                hint="set split.by to chromosome, or name none",
            )
        tested = {chrom_key(name) for name in self.test}
        if both := sorted(name for name in self.validation if chrom_key(name) in tested):
            raise UserError(f"split: {', '.join(both)} is named both in test and in validation")


def assign(records: Records, config: SplitConfig) -> tuple[np.ndarray, str]:
    """Put every sequence into a part; the same records and config always give the same parts.

    Args:
        records: The data set.
        config: How to split it.

    Returns:
        The part of each sequence, str (n,): ``train``, ``validation``, ``test``, or the empty string for
        those left out; and a sentence or two that explain it.

    Raises:
        UserError: If the data lack what the method needs, or a class would be missing from a part.
    """
    by = split_method(records, config)
    if by == "column":
        parts, explanation = _by_column(records, config)
    elif by == "chromosome":
        parts, explanation = _by_chromosome(records, config)
    elif by == "block":
        parts, explanation = _by_block(records, config)
    else:
        parts, explanation = _by_group(records, config, by)
    if config.leave_out and by in ("chromosome", "block", "similarity"):
        given_away = giveaways(records, parts, similarity=config.similarity)
        parts[given_away] = ""
        if given_away.any():
            explanation += (
                f" Left out because they overlap, copy or resemble a held-out sequence: {given_away.sum():,}."
            )
    _require_every_class(records, parts, by)
    return parts, explanation


def split_method(records: Records, config: SplitConfig) -> str:
    """Return the method that `assign` uses: ``config.by``, or what ``auto`` means for these data.

    Args:
        records: The data set.
        config: How to split it.

    Raises:
        UserError: If the data lack what the method needs.
    """
    chromosomes = {interval.chrom for interval in records.intervals or []}
    if config.by == "auto":
        if config.test or config.validation:
            by = "chromosome"
        elif records.split is not None:
            by = "column"
        elif len(chromosomes) >= _MIN_CHROMOSOMES:
            by = "chromosome"
        else:
            by = "block" if records.intervals else "similarity"
    else:
        by = config.by
    if by in ("chromosome", "block") and not records.intervals:
        raise UserError(
            f"split.by is {by!r}, but the sequences have no genome coordinates",
            hint="write them in the FASTA headers as chr1:100-300, or split by similarity",
        )
    if by == "column" and records.split is None:
        raise UserError(
            "split.by is 'column', but the data have no split column",
            hint="add a column named split with train, validation or test, or split by similarity",
        )
    return by


def _by_column(records: Records, config: SplitConfig) -> tuple[np.ndarray, str]:
    assert records.split is not None
    parts = np.asarray(records.split).astype("<U10")
    strange = np.flatnonzero(~np.isin(parts, PARTS))
    if len(strange):
        raise UserError(
            f"split column: expected train, validation or test, got {str(records.split[strange[0]])!r} "
            f"for {records.names[strange[0]]}"
        )
    for part in ("train", "test"):
        if not (parts == part).any():
            raise UserError(
                f"split column: no sequence is marked {part}", hint="or set split.by to similarity"
            )
    if (parts == "validation").any():
        return parts, "The split column given with the data."
    _carve_validation(records, parts, _clusters(records, config), config)
    return parts, (
        "The split column given with the data; it has no validation part, so "
        f"{np.sum(parts == 'validation'):,} training sequences were set aside, alike sequences together."
    )


def _by_chromosome(records: Records, config: SplitConfig) -> tuple[np.ndarray, str]:
    assert records.intervals is not None
    keys, first, groups = np.unique(
        [chrom_key(interval.chrom) for interval in records.intervals], return_index=True, return_inverse=True
    )
    names = np.array([records.intervals[i].chrom for i in first])
    parts = np.full(len(groups), "train", dtype="<U10")
    for part, wanted in (("validation", config.validation), ("test", config.test)):
        for chromosome in wanted:
            if chrom_key(chromosome) not in keys:
                raise UserError(
                    f"split.{part}: no sequence lies on {chromosome!r}",
                    hint=f"the data have {', '.join(names[:30])}{', ...' if len(names) > 30 else ''}",
                )
            parts[groups == np.flatnonzero(keys == chrom_key(chromosome))[0]] = part
    if not config.test and not config.validation:
        parts = deal_groups(groups, strata_of(records), _fractions(config), seed=config.seed)
    elif not config.test:
        _carve(records, parts, groups, "test", config.test_fraction, config)
    elif not config.validation:
        _carve_validation(records, parts, groups, config)
    listed = {part: ", ".join(names[np.unique(groups[parts == part])]) for part in PARTS}
    return parts, (
        f"By chromosome: tested on {listed['test'] or 'none'}, "
        f"validated on {listed['validation'] or 'none'}, trained on the others."
    )


def _by_block(records: Records, config: SplitConfig) -> tuple[np.ndarray, str]:
    assert records.intervals is not None
    blocks = [
        f"{chrom_key(interval.chrom)}:{(interval.start + interval.end) // 2 // config.block_size}"
        for interval in records.intervals
    ]
    names, groups = np.unique(blocks, return_inverse=True)
    parts = deal_groups(groups, strata_of(records), _fractions(config), seed=config.seed).astype("<U10")
    return parts, (f"By block: {len(names):,} blocks of {config.block_size:,} bases, each whole in one part.")


def _by_group(records: Records, config: SplitConfig, by: str) -> tuple[np.ndarray, str]:
    groups = np.arange(len(records.names)) if by == "random" else _clusters(records, config)
    parts = deal_groups(groups, strata_of(records), _fractions(config), seed=config.seed)
    if by == "random":
        return parts, "At random, sequence by sequence: copies of a sequence may fall into different parts."
    sizes = np.bincount(groups)
    return parts, (
        f"By similarity: sequences that share at least {config.similarity:.0%} of their 12-mers, "
        "on either strand, stay together "
        f"({len(sizes):,} clusters, the largest of {sizes.max():,} sequences)."
    )


def _clusters(records: Records, config: SplitConfig) -> np.ndarray:
    if isinstance(records, LabelledIntervals):
        raise UserError(
            "split by similarity: needs the sequences, but only coordinates are known",
            hint="give the genome, or split by chromosome",
        )
    return similarity_clusters(records.tokens, config.similarity)


def _carve_validation(records: Records, parts: np.ndarray, groups: np.ndarray, config: SplitConfig) -> None:
    """Set whole groups of the training part aside for validation, in place."""
    _carve(records, parts, groups, "validation", config.validation_fraction, config)


def _carve(
    records: Records,
    parts: np.ndarray,
    groups: np.ndarray,
    part: str,
    fraction: float,
    config: SplitConfig,
) -> None:
    inside = np.flatnonzero(parts == "train")
    if len(inside) == 0:
        raise UserError(
            f"split: nothing is left for training and {part}", hint="name fewer chromosomes in split"
        )
    renumbered = np.unique(groups[inside], return_inverse=True)[1]
    strata = np.unique(strata_of(records)[inside], return_inverse=True)[1]
    parts[inside] = deal_groups(renumbered, strata, {"train": 1 - fraction, part: fraction}, seed=config.seed)


def strata_of(records: Records) -> np.ndarray:
    """Return what to balance: the class, the rarest label present, or a quarter of the target."""
    labels = np.asarray(records.labels)
    if records.task == "classification":
        return np.unique(labels, return_inverse=True)[1]
    if records.task == "multilabel":
        positive = labels > 0.5
        rarity = np.where(positive, 1 / np.maximum(positive.sum(0), 1), 0.0)
        return np.where(positive.any(1), rarity.argmax(1), labels.shape[1])
    first = labels.reshape(len(labels), -1)[:, 0]
    edges = np.quantile(first, np.linspace(0, 1, _REGRESSION_BINS + 1)[1:-1])
    return np.unique(np.searchsorted(edges, first), return_inverse=True)[1]


def _require_every_class(records: Records, parts: np.ndarray, by: str) -> None:
    for part in PARTS:
        inside = parts == part
        if not inside.any():
            raise UserError(
                f"split by {by}: no sequence is left for {part}",
                hint="too few groups are independent; use smaller blocks, another split.by, or more data",
            )
        if records.task == "regression":
            continue
        labels = np.asarray(records.labels)[inside]
        for number, name in enumerate(records.classes):
            present = (labels == number).any() if labels.ndim == 1 else (labels[:, number] > 0.5).any()
            if not present:
                raise UserError(
                    f"split by {by}: class {name!r} has no sequence in the {part} part",
                    hint=f"every class needs sequences in every part; {_class_sizes(records)}",
                )


def _class_sizes(records: Records) -> str:
    labels = np.asarray(records.labels)
    if labels.ndim == 1:
        sizes = Counter(labels.tolist())
        return "the data have " + ", ".join(f"{sizes[i]:,} {name}" for i, name in enumerate(records.classes))
    return "the data have " + ", ".join(
        f"{int((labels[:, i] > 0.5).sum()):,} {name}" for i, name in enumerate(records.classes)
    )


def _fractions(config: SplitConfig) -> dict[str, float]:
    held_out = {"validation": config.validation_fraction, "test": config.test_fraction}
    return {"train": 1 - sum(held_out.values()), **held_out}
