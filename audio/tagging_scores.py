"""How well frames are tagged, as counts that add up over recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from audio.event_metrics import Tolerance, all_labels, count_events
from audio.events import Event, EventConfig, EventDetector
from seqmamba.metrics import Estimate, draw_resamples, percentile_interval

SCORES = ("frame_f1", "event_f1")
"""What `count_tags` counts, all classes together: F1 of frames, and of the events that frames make."""

_TRUTH = EventConfig(enter=0.5, leave=0.5)


def count_tags(
    probabilities: Float[np.ndarray, "frames classes"],
    target: Float[np.ndarray, "frames classes"],
    classes: Sequence[str],
    frame: float,
    events: EventConfig,
    tolerance: Tolerance,
) -> Float[np.ndarray, "2 scores"]:
    """Count what is found and right in a recording.

    Args:
        probabilities: Of each class in each true frame.
        target: 0 or 1; true events are its runs, so they last whole frames.
        classes: Names of the columns.
        frame: Seconds of a frame.
        events: How probabilities become events; a frame is tagged from ``enter`` on.
        tolerance: How far events may be off.

    Returns:
        Numerators and denominators of `SCORES`: twice what matches, and what is found plus what is true.
    """
    found, true = probabilities >= events.enter, target > 0.5
    pairs = count_events(
        {"": _events(target, classes, frame, _TRUTH)},
        {"": _events(probabilities, classes, frame, events)},
        tolerance,
    )
    total = all_labels(pairs)
    return np.array(
        [
            (2 * (found & true).sum(), 2 * total.matched),
            (found.sum() + true.sum(), total.reference + total.estimated),
        ],
        dtype=np.float64,
    )


def sum_up(
    parts: Float[np.ndarray, "n scores"],
    wholes: Float[np.ndarray, "n scores"],
    names: Sequence[str],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return scores over all recordings, with the 95 % intervals that resampling these gives.

    Args:
        parts: Numerators of each recording.
        wholes: Denominators.
        names: Of the scores.
        n_bootstrap: Resamples; 0 gives NaN intervals.
        seed: Of the resampling.
    """
    weights = draw_resamples(np.random.default_rng(seed), n_bootstrap, len(parts))
    with np.errstate(invalid="ignore"):  # nothing is there and nothing found: no score
        values = parts.sum(axis=0) / wholes.sum(axis=0)
        drawn = (weights @ parts) / (weights @ wholes)
    return {
        name: Estimate(float(values[column]), *percentile_interval([drawn[:, column]]))
        for column, name in enumerate(names)
    }


def _events(
    values: Float[np.ndarray, "frames classes"], classes: Sequence[str], frame: float, config: EventConfig
) -> list[Event]:
    detector = EventDetector(classes, frame, config)
    return [*detector.push(values), *detector.finish()]
