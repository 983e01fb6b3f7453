"""Which recordings train, which choose the epoch and which test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audio.manifests import Clip
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_choice

Key = Literal["auto", "split", "fold", "group", "random", "none"]
_KEYS: tuple[Key, ...] = ("auto", "split", "fold", "group", "random", "none")
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class HoldOutConfig:
    """How recordings are divided.

    Args:
        by: ``split`` takes the parts that the data name; ``fold`` and ``group`` keep together what shares a
            fold or a group, such as a speaker; ``random`` divides single recordings, each class alike.
            ``auto`` takes the first of these that the data have. With ``none`` all are for testing.
        test: Folds or groups to test on; drawn if none are given.
        validation: Folds or groups that choose the epoch; drawn if None, nobody if empty: then the last epoch
            is the one that is kept.
        test_share: Share of the recordings to draw for testing.
        validation_share: Share to draw for validation.
        seed: Seed of what is drawn.

    Raises:
        UserError: If a value is out of range.
    """

    by: Key = "auto"
    test: tuple[str, ...] = ()
    validation: tuple[str, ...] | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        require_choice("split.by", self.by, _KEYS)
        for name in ("test", "validation"):
            values = getattr(self, name)
            if values is not None:  # YAML and JSON have lists, and numbers for folds
                object.__setattr__(self, name, tuple(map(str, values)))
        for name in ("test_share", "validation_share"):
            value = getattr(self, name)
            fits = is_number(value) and 0 <= value < 1
            require(fits, f"split.{name}", "a number in [0, 1)", value)


def hold_out(clips: Sequence[Clip], labels: np.ndarray, config: HoldOutConfig) -> tuple[np.ndarray, str]:
    """Give each recording its part.

    Args:
        clips: The recordings.
        labels: Class numbers (n,), or labels or targets (n, k).
        config: How to divide them.

    Returns:
        ``train``, ``validation`` or ``test`` for each, and how it was done, in a sentence.

    Raises:
        UserError: If the data do not say what the config asks for, or a part would be empty.
    """
    if config.by == "none":
        return np.full(len(clips), "test"), f"all for testing: {len(clips):,}"
    by = _resolve(clips, config)
    if by == "split":
        parts = np.array([clip.split or "train" for clip in clips])
        explanation = "as the data say"
    elif by == "random":
        keys = [str(number) for number in range(len(clips))]
        strata = labels if labels.ndim == 1 and labels.dtype.kind == "i" else np.zeros(len(clips), np.int64)
        parts = _draw(keys, strata, config)
        explanation = "recordings at random"
    else:
        values = [getattr(clip, by) or f"?{number}" for number, clip in enumerate(clips)]
        parts, explanation = _hold_out_values(values, config, by)
    counts = {part: int((parts == part).sum()) for part in PARTS}
    for part in ("train", "test"):
        if not counts[part]:
            raise UserError(f"split: the {part} part is empty ({by})", hint="give other --test or shares")
    return parts, f"{explanation}: " + ", ".join(f"{counts[part]:,} {part}" for part in PARTS)


def _resolve(clips: Sequence[Clip], config: HoldOutConfig) -> str:
    """Return what the parts go by."""
    if config.by != "auto":
        if config.by != "random" and not any(getattr(clip, config.by) for clip in clips):
            raise UserError(f"split.by: the data name no {config.by}")
        return config.by
    named = config.test or config.validation
    for key in ("split", "fold", "group"):
        if any(getattr(clip, key) for clip in clips) and not (named and key == "split"):
            return key
    if named:
        raise UserError("split: --test and --validation name folds or groups, and the data have neither")
    return "random"


def _hold_out_values(values: list[str], config: HoldOutConfig, by: str) -> tuple[np.ndarray, str]:
    known = set(values)
    for name, given in (("test", config.test), ("validation", config.validation or ())):
        unknown = sorted(set(given) - known)
        if unknown:
            some = ", ".join(sorted(known)[:10])
            raise UserError(f"split.{name}: no recording has the {by} {unknown[0]}; there are {some}")
    both = sorted(set(config.test) & set(config.validation or ()))
    if both:
        raise UserError(f"split: {by} {both[0]} is to test and to validate")
    drawn = _draw(values, np.zeros(len(values), np.int64), config)
    parts = np.full(len(values), "train", dtype=object)
    column = np.array(values)
    if config.test:
        parts[np.isin(column, config.test)] = "test"
    else:
        parts[(drawn == "test") & ~np.isin(column, config.validation or ())] = "test"
    if config.validation is not None:
        parts[np.isin(column, config.validation)] = "validation"
    else:
        parts[(drawn == "validation") & (parts == "train")] = "validation"
    names = {part: sorted(set(column[parts == part].tolist())) for part in ("test", "validation")}
    described = "; ".join(f"{part} on {by} {', '.join(found[:6])}" for part, found in names.items() if found)
    return parts.astype(str), described


def _draw(keys: list[str], strata: np.ndarray, config: HoldOutConfig) -> np.ndarray:
    """Draw the parts of keys, in each stratum alike; what has one key stays together."""
    generator = np.random.default_rng(config.seed)
    column, parts = np.array(keys), np.full(len(keys), "train", dtype=object)
    for stratum in np.unique(strata):
        unique, counts = np.unique(column[strata == stratum], return_counts=True)
        order = generator.permutation(len(unique))
        share = (np.cumsum(counts[order]) - counts[order] / 2) / counts.sum()
        test, validation = config.test_share, config.validation_share
        if config.validation is not None:
            validation = 0.0
        for part, chosen in (
            ("test", share < test),
            ("validation", (share >= test) & (share < test + validation)),
        ):
            parts[np.isin(column, unique[order][chosen]) & (strata == stratum)] = part
    return parts
