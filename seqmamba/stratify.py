"""Deal groups of examples out to train, validation and test so that every part looks alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
_NOTHING: Any = object()

PARTS = ("train", "validation", "test")
"""The parts of a split, in the order to show them."""


def deal_groups(
    groups: np.ndarray, strata: np.ndarray, fractions: Mapping[str, float], *, seed: int
) -> np.ndarray:
    """Assign whole groups to parts, aiming at the same share of every stratum in each part.

    Groups of several examples are dealt greedily, largest first, to the part that still lacks most of what
    the group holds; single examples then fill the gaps, stratum by stratum. A last pass gives a part that
    ended without some stratum the smallest group that can be spared.

    Args:
        groups: Group of each example, int64 (n,), numbered from 0 without gaps.
        strata: Stratum (class, or bin of a target) of each example, int64 (n,), numbered from 0.
        fractions: Share of each part; they sum to one. On a tie the first part named wins.
        seed: Decides between equally good groups; the same seed gives the same parts.

    Returns:
        Part of each example, str (n,).
    """
    names = list(fractions)
    n_groups, n_strata = int(groups.max()) + 1, int(strata.max()) + 1
    contents = np.zeros((n_groups, n_strata), dtype=np.int64)
    np.add.at(contents, (groups, strata), 1)
    target = np.array([fractions[name] for name in names])[:, None] * contents.sum(0)
    part_of_group = np.full(n_groups, -1, dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(n_groups)
    sizes = contents.sum(1)

    need = target.copy()
    several = shuffled[sizes[shuffled] > 1]
    for group in several[np.argsort(-sizes[several], kind="stable")]:
        part = _best_part(contents[group], need, target)
        part_of_group[group] = part
        need[part] -= contents[group]

    singles = shuffled[sizes[shuffled] == 1]
    stratum_of_single = contents[singles].argmax(1)
    for stratum in range(n_strata):
        waiting = singles[stratum_of_single == stratum]
        part_of_group[waiting] = _fill(need[:, stratum], len(waiting))
    _repair(part_of_group, contents, len(names))
    return np.array(names)[part_of_group[groups]]


def _best_part(content: np.ndarray, need: np.ndarray, target: np.ndarray) -> int:
    """Return the part that lacks the largest share of a group's content; on a tie, the emptiest part."""
    usable = np.minimum(content, np.maximum(need, 0)).sum(1) / content.sum()
    emptiness = need.sum(1) / np.maximum(target.sum(1), 1e-9)
    tied = usable >= usable.max() - 1e-9
    return int(np.where(tied, emptiness, -np.inf).argmax())


def _fill(need: np.ndarray, waiting: int) -> np.ndarray:
    """Return a part for each single example: what the later parts lack, the rest to the first part."""
    parts = np.zeros(waiting, dtype=np.int64)
    taken = 0
    for part in range(len(need) - 1, 0, -1):
        wanted = min(max(round(float(need[part])), 0), waiting - taken)
        parts[taken : taken + wanted] = part
        taken += wanted
    return parts


def _repair(part_of_group: np.ndarray, contents: np.ndarray, n_parts: int) -> None:
    """Move the smallest spare group to each part that has none of some stratum, in place."""
    holds = contents > 0
    for stratum in np.argsort(holds.sum(0), kind="stable"):
        for part in range(n_parts):
            if (holds[:, stratum] & (part_of_group == part)).any():
                continue
            # A group can be spared when its part keeps another group of every stratum that it holds.
            per_part = np.stack([holds[part_of_group == p].sum(0) for p in range(n_parts)])
            spare = [
                group
                for group in np.flatnonzero(holds[:, stratum])
                if (per_part[part_of_group[group]][holds[group]] > 1).all()
            ]
            if spare:
                smallest = min(spare, key=lambda group: contents[group].sum())
                part_of_group[smallest] = part


def in_turn(groups: Iterable[Sequence[Item]], most: int) -> list[Item]:
    """Return the first of every group, then the second of every group, and so on.

    Args:
        groups: Of any lengths.
        most: How many to return at most.
    """
    rounds = zip_longest(*groups, fillvalue=_NOTHING)
    return [item for turn in rounds for item in turn if item is not _NOTHING][:most]
