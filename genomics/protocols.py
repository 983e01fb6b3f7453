"""Two ways to divide a published benchmark: as its papers did, and so that the test score means something.

``paper`` makes numbers that can be put beside published ones; what it does that one would not do is named, in
`QUIRKS`. ``sound`` removes from training what would give a test sequence away, sets validation sequences
aside with everything alike, and never looks at the test part before the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Int

from genomics.leaks import giveaways
from genomics.similarity import canonical_groups, similarity_clusters
from genomics.splits import SplitConfig, assign, strata_of
from seqmamba.errors import UserError
from seqmamba.stratify import deal_groups

if TYPE_CHECKING:
    from genomics.benchmarks.benchmark import Benchmark
    from genomics.datasets.records import LabelledSequences

ProtocolName = Literal["paper", "sound"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)

QUIRKS = {
    "uncleaned": "copies of test sequences, on either strand, stay in training",
    "random_validation": "the validation part is a random tenth of the training file, drawn with the run's "
    "seed, so that seeds train on different sequences and copies fall on both sides",
    "random_test": "there is no official split: 70 / 10 / 20 % are drawn at random with the run's seed",
    "random_folds": "folds are drawn at random, so that copies fall on both sides",
    "right_end_cut": "sequences longer than the longest input lose their right end",
    "padding_pooled": "shorter sequences are padded on the left, and padding counts in the mean",
    "last_batch_dropped": "the last, smaller batch of every epoch is left out of training",
    "range_reported": "the number behind ± is the largest minus the smallest value over seeds",
}
"""What the papers' protocols do: name -> what it is."""

_LEVEL = {"train": 0, "validation": 1, "test": 2}
_TENTH = 0.1
_OFFICIAL = {
    "test": "The official split.",
    "validation": "The official validation part is tested on; the test part is left out.",
}
_THREE_PARTS = {"train": 0.7, "validation": 0.1, "test": 0.2}


@dataclass(frozen=True)
class DivisionConfig:
    """How to divide a benchmark for one run.

    Args:
        protocol: ``paper`` or ``sound``.
        seed: Seed of everything drawn.
        folds: Cross-validate: number of folds of what is not the official test part, which is then left out
            altogether, so that models can be compared without it. 0 trains once and tests on the test part.
        fold: The fold to test on, from 0.
        clean: What the sound protocol removes from training: ``copies`` of held-out sequences, reverse
            complements included, or everything that overlaps or resembles one (``similar``).
        tested: The official part to test on. ``validation`` leaves the test part out altogether, tests on the
            validation part and draws another one from training: for comparing models before the test part is
            looked at once.

    Raises:
        UserError: If a value is out of range.
    """

    protocol: ProtocolName = "sound"
    seed: int = 1
    folds: int = 0
    fold: int = 0
    clean: Literal["copies", "similar"] = "copies"
    tested: Literal["test", "validation"] = "test"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UserError(
                f"division.protocol: expected one of {', '.join(PROTOCOLS)}, got {self.protocol!r}"
            )
        if self.clean not in ("copies", "similar"):
            raise UserError(f"division.clean: expected copies or similar, got {self.clean!r}")
        if self.tested not in ("test", "validation"):
            raise UserError(f"division.tested: expected test or validation, got {self.tested!r}")
        if self.tested == "validation" and self.folds:
            raise UserError("division.tested: folds leave the test part out anyway; expected test with folds")
        if self.seed < 0:
            raise UserError(f"division.seed: expected 0 or more, got {self.seed}")
        if self.folds < 0 or self.folds == 1:
            raise UserError(
                f"division.folds: expected 0 (no cross-validation) or 2 or more, got {self.folds}"
            )
        if not 0 <= self.fold < max(self.folds, 1):
            raise UserError(f"division.fold: expected 0 to {max(self.folds, 1) - 1}, got {self.fold}")


@dataclass(frozen=True)
class Division:
    """A benchmark, divided for one run.

    Attributes:
        records: The sequences that take part.
        assignment: Part of each, str (n,): train, validation or test.
        explanation: How it was done, in words.
        quirks: Names of `QUIRKS` that apply.
    """

    records: LabelledSequences
    assignment: np.ndarray
    explanation: str
    quirks: tuple[str, ...]


def divide(records: LabelledSequences, benchmark: Benchmark, config: DivisionConfig) -> Division:
    """Divide a benchmark for one run.

    Args:
        records: The benchmark as read.
        benchmark: Its settings.
        config: How to divide it.

    Returns:
        The sequences that take part; the given split of the records is the new one.

    Raises:
        UserError: If a class is missing from a part.
    """
    if config.folds:
        records = _without_test(records)
    elif config.tested == "validation":
        records = _tested_on_validation(records, benchmark)
    division = (
        _as_the_paper(records, benchmark, config) if config.protocol == "paper" else _soundly(records, config)
    )
    return replace(division, records=replace(division.records, split=division.assignment))


def draw_tenth(n: int, how: str, seed: int) -> Bool[np.ndarray, " n"]:
    """Draw a tenth of n training sequences for validation, the way that common libraries draw it.

    Args:
        n: Number of training sequences.
        how: ``tenth``: the first part of ``torch.utils.data.random_split(data, [0.1, 0.9])`` with a generator
            of that seed. ``sklearn_tenth``: the test part of scikit-learn's ``train_test_split(data,
            test_size=0.1, random_state=seed)``.
        seed: The seed.
    """
    if how == "sklearn_tenth":
        order = np.random.RandomState(seed).permutation(n)
        chosen = order[: int(np.ceil(_TENTH * n))]
    else:
        shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
        size = int(np.floor(_TENTH * n))
        # random_split hands the sequences that rounding left over to the parts in turn, the first one first.
        size += size + int(np.floor((1 - _TENTH) * n)) < n
        chosen = shuffled[:size]
    mask = np.zeros(n, dtype=bool)
    mask[chosen] = True
    return mask


def copies_of_held_out(records: LabelledSequences, parts: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Find sequences that a later part has, too, on either strand; test comes after validation after train.

    Args:
        records: The data set.
        parts: Part of each sequence, str (n,).
    """
    level = np.array([_LEVEL[str(part)] for part in parts])
    groups = canonical_groups(records.tokens)
    latest = np.zeros(int(groups.max()) + 1, dtype=np.int64)
    np.maximum.at(latest, groups, level)
    found: np.ndarray = level < latest[groups]
    return found


def _without_test(records: LabelledSequences) -> LabelledSequences:
    """Leave the official test part out, and forget the rest of the official split."""
    if records.split is not None:
        records = records.select(records.split != "test")
    return replace(records, split=None)


def _tested_on_validation(records: LabelledSequences, benchmark: Benchmark) -> LabelledSequences:
    """Let the validation part stand in for the test part."""
    if records.split is None or not (records.split == "validation").any():
        raise UserError(
            f"division.tested: {benchmark.name} has no official validation part",
            hint="cross-validate with folds, which leave the test part out as well",
        )
    records = records.select(records.split != "test")
    assert records.split is not None
    return replace(records, split=np.where(records.split == "validation", "test", "train").astype("<U10"))


def _as_the_paper(records: LabelledSequences, benchmark: Benchmark, config: DivisionConfig) -> Division:
    quirks, seed, folds = ["uncleaned"], config.seed, config.folds
    if folds:
        parts = np.full(len(records), "train", dtype="<U10")
        alone = np.arange(len(records))
        parts[_dealt(alone, records, folds, seed) == config.fold] = "test"
        quirks.append("random_folds")
        said = f"Fold {config.fold + 1} of {folds}, drawn at random within classes."
    elif records.split is None:
        alone = np.arange(len(records))
        parts = deal_groups(alone, strata_of(records), _THREE_PARTS, seed=seed).astype("<U10")
        quirks.append("random_test")
        said = "70 / 10 / 20 % drawn at random within classes."
    else:
        parts = records.split.astype("<U10")
        said = _OFFICIAL[config.tested]
    if not (parts == "validation").any():
        train = np.flatnonzero(parts == "train")
        parts[train[draw_tenth(len(train), benchmark.paper.validation, seed)]] = "validation"
        quirks.append("random_validation")
        said += " A random tenth of the training part validates."
    if benchmark.paper.max_length is not None:
        lengths = records.tokens.lengths
        quirks += ["right_end_cut"] * bool((lengths > benchmark.paper.max_length).any())
        quirks += ["padding_pooled"] * bool((lengths < benchmark.paper.max_length).any())
    quirks += ["last_batch_dropped", "range_reported"]
    return Division(records, parts, said, tuple(quirks))


def _soundly(records: LabelledSequences, config: DivisionConfig) -> Division:
    seed, folds = config.seed, config.folds
    if folds:
        clusters = similarity_clusters(records.tokens)
        dealt = _dealt(clusters, records, folds, seed)
        records = replace(records, split=np.where(dealt == config.fold, "test", "train").astype("<U10"))
        said = f"Fold {config.fold + 1} of {folds}; sequences alike share a fold."
    elif records.split is None:
        parts, said = assign(
            records, SplitConfig(by="similarity", test_fraction=0.2, validation_fraction=_TENTH, seed=seed)
        )
        kept = parts != ""
        return Division(records.select(kept), parts[kept], said, ())
    else:
        said = _OFFICIAL[config.tested]
    assert records.split is not None
    if config.clean == "similar":
        given_away, what = giveaways(records, records.split), "overlap, copy or resemble a held-out one"
    else:
        given_away, what = copies_of_held_out(records, records.split), "copy a held-out one, on either strand"
    records = records.select(~given_away)
    assert records.split is not None
    has_validation = bool((records.split == "validation").any())
    parts, _ = assign(records, SplitConfig(by="column", seed=seed))
    said += f" Left out because they {what}: {int(given_away.sum()):,} sequences."
    if not has_validation:
        said += f" {int((parts == 'validation').sum()):,} training sequences validate, alike ones together."
    return Division(records, parts, said, ())


def _dealt(groups: np.ndarray, records: LabelledSequences, folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Deal whole groups to equal folds that look alike; return the fold of each sequence."""
    shares = {str(i): 1 / folds for i in range(folds)}
    return deal_groups(groups, strata_of(records), shares, seed=seed).astype(np.int64)
