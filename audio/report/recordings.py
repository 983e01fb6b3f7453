"""The best and the worst of the tested recordings, to look at and to listen to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from audio.report.sounds import Shown, Sounds, short_titles
from seqmamba.predictions import THRESHOLD, Predictions
from seqmamba.report.markup import Html, badge, bdi, join, tag
from seqmamba.report.words import count, number
from seqmamba.stratify import in_turn

_TINY = 1e-7


def sections(test: Predictions, sounds: Sounds) -> list[Html | None]:
    """Write what the model was most wrong and most right about.

    Args:
        test: Predictions of the test part.
        sounds: Makes the players.
    """
    loss, known = losses(test)
    right = _is_right(test)
    order = known[np.argsort(-loss[known], kind="stable")]
    if right is None:  # a regression is never just right
        half = min(sounds.config.clips, len(order) // 2)
        worst = order[:half].tolist()
        best = order[::-1][: min(sounds.config.clips, len(order) - half)].tolist()
    else:
        worst = order[~right[order]][: sounds.config.clips].tolist()
        best = _best(test, order[right[order]][::-1], sounds.config.clips)
    n_wrong = 0 if right is None else int((~right[known]).sum())
    intro = f"{n_wrong:,} of {count(len(known), 'test recording')} were called wrongly. "
    if right is None:
        intro = "The largest errors. "
    titles = short_titles(test.names)
    return [
        sounds.section(
            "Worst recordings",
            f"{intro}Listen here first for wrong labels, and for what the model cannot hear.",
            [Shown(test.names[i], titles[i], (_answer(test, i, right),)) for i in worst],
        ),
        sounds.section(
            "Best recordings",
            "The smallest errors." if right is None else "Right, and most certain; of every class in turn.",
            [Shown(test.names[i], titles[i], (_answer(test, i, right),)) for i in best],
        ),
    ]


def losses(test: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return how wrong each prediction is, and the places of those whose truth is known.

    That is minus the logarithm of the probability of what is true, its mean over labels, or the mean over
    targets of the absolute error in units of the target's spread.

    Args:
        test: Predictions.
    """
    if test.task == "classification":
        known = np.flatnonzero(test.labels >= 0)
        truth = test.outputs[np.arange(len(test)), np.maximum(test.labels, 0)]
        return -np.log(np.maximum(truth, _TINY)), known
    known = np.flatnonzero(~np.isnan(test.labels).any(axis=1))
    if test.task == "multilabel":
        truth = np.where(test.labels > THRESHOLD, test.outputs, 1 - test.outputs)
        return -np.log(np.maximum(truth, _TINY)).mean(axis=1), known
    spread = test.labels[known].std(axis=0) if len(known) else np.ones(len(test.classes))
    return (np.abs(test.outputs - test.labels) / np.maximum(spread, _TINY)).mean(axis=1), known


def _is_right(test: Predictions) -> np.ndarray | None:
    """Return which predictions are right; None where they are numbers."""
    if test.task == "regression":
        return None
    if test.task == "classification":
        right: np.ndarray = test.outputs.argmax(axis=1) == test.labels
        return right
    return ((test.outputs > THRESHOLD) == (test.labels > THRESHOLD)).all(axis=1)


def _best(test: Predictions, order: Int[np.ndarray, " n"], most: int) -> list[int]:
    """Return the first places of an order; of every class in turn where each recording has one."""
    if test.task != "classification":
        return [int(place) for place in order[:most]]
    groups = [order[test.labels[order] == label].tolist() for label in range(len(test.classes))]
    return in_turn(groups, most)


def _answer(test: Predictions, place: int, right: np.ndarray | None) -> Html:
    """Say what is true and what was predicted."""
    outputs, label = test.outputs[place], test.labels[place]
    if right is None:
        pairs = [
            join([bdi(name), f": true {number(float(true))}, predicted {number(float(said))}"])
            for name, true, said in zip(test.classes, label, outputs, strict=True)
        ]
        return tag("p", *_listed(pairs, "; "), class_="note")
    if test.task == "classification":
        said = int(outputs.argmax())
        words: list[object] = [bdi(test.classes[label]), ", predicted ", bdi(test.classes[said])]
        chance = f" with probability {number(float(outputs[said]))}"
        if said != label:
            chance += f", the truth with {number(float(outputs[label]))}"
    else:
        words = [*_names(test, label > THRESHOLD), ", predicted ", *_names(test, outputs > THRESHOLD)]
        chance = ""
    return tag("p", "True ", *words, chance, " ", badge(bool(right[place])), class_="note")


def _names(test: Predictions, chosen: np.ndarray) -> list[object]:
    names = [bdi(name) for name, one in zip(test.classes, chosen, strict=True) if one]
    return _listed(names) or ["nothing"]


def _listed(parts: Sequence[Html], between: str = ", ") -> list[object]:
    """Put commas, or something else, between parts."""
    return [piece for i, part in enumerate(parts) for piece in ((part,) if i == 0 else (between, part))]
