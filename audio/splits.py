"""Divide recordings into train, validation and test so that what belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, Shaped

from audio.manifests import Clip
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_choice
from seqmamba.stratify import PARTS, deal_groups

SplitMethod = Literal["auto", "split", "fold", "group", "random", "none"]
_METHODS: tuple[SplitMethod, ...] = ("auto", "split", "fold", "group", "random", "none")
_LISTED = 6


@dataclass(frozen=True)
class SplitConfig:
    """How recordings are divided.

    Args:
        by: ``split`` takes the parts that the data name; ``fold`` and ``group`` keep together what shares a
            fold or a group, such as a speaker; ``random`` divides single recordings. ``auto`` takes the first
            of these that the data have. Copies stay together with all but ``split``; each class is divided
            alike as far as that allows. With ``none`` all are for testing.
        test: Folds or groups to test on; drawn if none are given.
        validation: Folds or groups that choose the epoch; drawn if None, nobody if empty: then the last epoch
            is the one that is kept.
        test_share: Share of the recordings to draw for testing.
        validation_share: Share to draw for validation.
        seed: Seed of what is drawn.

    Raises:
        UserError: If a value is out of range.
    """

    by: SplitMethod = "auto"
    test: tuple[str, ...] = ()
    validation: tuple[str, ...] | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        require_choice("split.by", self.by, _METHODS)
        for name in ("test", "validation"):
            values = getattr(self, name)
            if values is not None:  # YAML and JSON have lists, and numbers for folds
                object.__setattr__(self, name, tuple(map(str, values)))
        for name in ("test_share", "validation_share"):
            value = getattr(self, name)
            fits = is_number(value) and 0 <= value < 1
            require(fits, f"split.{name}", "a number in [0, 1)", value)
        total = self.test_share + self.validation_share
        require(total < 1, "split.test_share + split.validation_share", "less than 1", total)
        both = sorted(set(self.test) & set(self.validation or ()))
        if both:
            raise UserError(f"split: {both[0]} is named both in test and in validation")


def assign(
    clips: Sequence[Clip],
    labels: Shaped[np.ndarray, "n *k"],  # noqa: UP037  dimensions, no type
    config: SplitConfig,
    copies: Int[np.ndarray, " n"] | None = None,
) -> tuple[np.ndarray, str]:
    """Put every recording into a part; the same recordings and config always give the same parts.

    Args:
        clips: The recordings.
        labels: Class numbers (n,), or labels or targets (n, k).
        config: How to divide them.
        copies: A number for each, the same for copies; see `audio.copies.copy_groups`.

    Returns:
        The part of each, str (n,): ``train``, ``validation`` or ``test``; and how it was done, in a sentence.

    Raises:
        UserError: If the data do not say what the config asks for, or a part would be empty.
    """
    by = split_method(clips, config)
    if by == "none":
        return np.full(len(clips), "test", dtype="<U10"), f"all for testing: {len(clips):,}"
    strata = _strata(labels)
    if by == "split":
        parts, explanation = _by_split(clips, strata, config, copies)
    elif by == "random":
        groups = np.arange(len(clips)) if copies is None else copies
        parts = _deal(groups, strata, config)
        explanation = "recordings at random, each class alike"
    else:
        parts, explanation = _by_value(clips, strata, config, by, copies)
    counts = {part: int((parts == part).sum()) for part in PARTS}
    wanted = config.validation != () and config.validation_share > 0 and by != "split"
    for part in ("train", *(("validation",) if wanted else ()), "test"):
        if not counts[part]:
            raise UserError(
                f"split by {by}: no recording is left for {part}",
                hint="too few are independent; hold out others, or give more data",
            )
    if copies is not None:
        explanation += _leaks(parts, copies)
    return parts, f"{explanation}: " + ", ".join(f"{counts[part]:,} {part}" for part in PARTS)


def split_method(clips: Sequence[Clip], config: SplitConfig) -> str:
    """Return the method that `assign` uses: ``config.by``, or what ``auto`` means for these recordings.

    Args:
        clips: The recordings.
        config: How to divide them.

    Raises:
        UserError: If the data lack what the method needs.
    """
    if config.by != "auto":
        if config.by not in ("random", "none") and not any(getattr(clip, config.by) for clip in clips):
            raise UserError(
                f"split.by is {config.by!r}, but the data name no {config.by}",
                hint="name it in a column of a table, or in the files' names with a pattern",
            )
        return config.by
    named = bool(config.test or config.validation)
    for key in ("split", "fold", "group"):
        if any(getattr(clip, key) for clip in clips) and not (named and key == "split"):
            return key
    if named:
        raise UserError("split.test, split.validation: name folds or groups, and the data have neither")
    return "random"


def _by_split(
    clips: Sequence[Clip], strata: np.ndarray, config: SplitConfig, copies: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """Take the parts that the data name; draw a validation part where they name none."""
    parts = np.array([clip.split or "train" for clip in clips], dtype="<U10")
    if (parts == "validation").any() or config.validation == () or not config.validation_share:
        return parts, "as the data say"
    inside = np.flatnonzero(parts == "train")
    groups = _groups(clips, np.arange(len(clips)) if copies is None else copies)
    if len(inside):
        fractions = {"train": 1 - config.validation_share, "validation": config.validation_share}
        parts[inside] = _deal_some(groups[inside], strata[inside], fractions, config.seed)
    return parts, "as the data say, with a validation part drawn from the training part"


def _by_value(
    clips: Sequence[Clip], strata: np.ndarray, config: SplitConfig, by: str, copies: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """Hold out whole folds or groups: those that are named, else drawn ones."""
    values = np.array([getattr(clip, by) or f"?{number}" for number, clip in enumerate(clips)])
    known = set(values.tolist())
    for name, given in (("test", config.test), ("validation", config.validation or ())):
        if unknown := sorted(set(given) - known):
            some = ", ".join(sorted(known)[:10])
            raise UserError(f"split.{name}: no recording has the {by} {unknown[0]!r}; there are {some}")
    parts = np.full(len(values), "train", dtype="<U10")
    parts[np.isin(values, config.validation or ())] = "validation"
    parts[np.isin(values, config.test)] = "test"
    numbers = np.unique(values, return_inverse=True)[1]
    fractions = {
        "validation": 0.0 if config.validation is not None else config.validation_share,
        "test": 0.0 if config.test else config.test_share,
    }
    inside = np.flatnonzero(parts == "train")
    if any(fractions.values()) and len(inside):
        fractions = {"train": 1 - sum(fractions.values()), **{k: v for k, v in fractions.items() if v}}
        groups = numbers if copies is None or config.test else _joined(numbers, copies)
        parts[inside] = _deal_some(groups[inside], strata[inside], fractions, config.seed)
    held = {part: sorted(set(values[parts == part].tolist())) for part in ("test", "validation")}
    said = [f"{part} on {by} {_list(names)}" for part, names in held.items() if names]
    return parts, "; ".join(said)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _leaks(parts: np.ndarray, copies: np.ndarray) -> str:
    """Return a clause on copies of held-out recordings in the training part; empty where there are none."""
    held = np.unique(copies[parts != "train"])
    given_away = int(np.isin(copies[parts == "train"], held).sum())
    return f" (copies of {given_away:,} training recordings are held out)" if given_away else ""


def _groups(clips: Sequence[Clip], copies: np.ndarray) -> np.ndarray:
    """Number what must stay together: a group's recordings, and copies."""
    names = [clip.group or f"?{number}" for number, clip in enumerate(clips)]
    return _joined(np.unique(names, return_inverse=True)[1], copies)


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number recordings so that those that share a number of either kind share one."""
    numbers = first.copy()
    while True:
        before = numbers.copy()
        for kind in (first, second):
            smallest = np.full(int(kind.max()) + 1, len(numbers) + 1, dtype=np.int64)
            np.minimum.at(smallest, kind, numbers)
            numbers = smallest[kind]
        if np.array_equal(numbers, before):
            return np.unique(numbers, return_inverse=True)[1]


def _deal(groups: np.ndarray, strata: np.ndarray, config: SplitConfig) -> np.ndarray:
    held = {"test": config.test_share}
    if config.validation != ():
        held = {"validation": config.validation_share, **held}
    held = {part: share for part, share in held.items() if share}
    return _deal_some(groups, strata, {"train": 1 - sum(held.values()), **held}, config.seed)


def _deal_some(groups: np.ndarray, strata: np.ndarray, fractions: dict[str, float], seed: int) -> np.ndarray:
    groups, strata = (np.unique(column, return_inverse=True)[1] for column in (groups, strata))
    return deal_groups(groups, strata, fractions, seed=seed).astype("<U10")


def _strata(labels: np.ndarray) -> np.ndarray:
    """Return what to balance: the class, or the rarest label that is there; nothing for numbers."""
    if labels.ndim == 1:
        return labels if labels.dtype.kind == "i" else np.zeros(len(labels), np.int64)
    if not np.isin(labels, (0, 1)).all() or labels.shape[1] == 0:
        return np.zeros(len(labels), np.int64)
    rarity = np.where(labels > 0, 1 / np.maximum(labels.sum(0), 1), 0.0)
    return np.where(labels.any(1), rarity.argmax(1), labels.shape[1])
