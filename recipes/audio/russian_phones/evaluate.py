"""Say how well a tagger names the phones of held-out sentences: frames, segments and events.

python -m recipes.audio.russian_phones.evaluate RUN --data FOLDER [--part test] [-o RESULTS.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from audio.event_files import read_events
from audio.event_metrics import Tolerance, all_labels, count_events
from audio.events import Event
from audio.inference import load_model
from audio.loading import load
from audio.models import WaveformClassifier
from audio.tagging_scores import sum_up
from recipes.audio.festvox_ru import PAUSE, part_of
from recipes.audio.russian_phones.prepare import TABLE
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.training.hardware import limit_threads

COLLAR = Tolerance(onset=0.02, offset_share=None)
"""An event is right if its phone is, and it begins at most 20 ms off."""

Counts = dict[str, tuple[float, float]]
"""Name of a score to a numerator and a denominator, which add up over sentences."""


def count_sentence(
    probabilities: Float[np.ndarray, "frames classes"],
    phones: Sequence[Event],
    classes: Sequence[str],
    frame: float,
) -> Counts:
    """Count what is right in a sentence.

    Args:
        probabilities: Of each phone in each frame.
        phones: The true phones and pauses, end to end from the start.
        classes: Names of the columns.
        frame: Seconds of a frame.

    Returns:
        ``frame_accuracy``: the likeliest class of each frame whose middle is in a phone or a pause;
        ``phone_frame_accuracy``: of those in a phone alone. ``segment_accuracy``: of each true phone, the one
        with the highest mean log probability in its frames. ``event_f1``: runs of frames of one phone as
        events, against the true phones, with `COLLAR`.
    """
    pause = classes.index(PAUSE)
    middles = (np.arange(len(probabilities)) + 0.5) * frame
    spans = np.searchsorted(middles, [0.0, *(phone.offset for phone in phones)])
    truth = np.full(len(probabilities), -1)
    for phone, (start, end) in zip(phones, pairwise(spans), strict=True):
        truth[start:end] = classes.index(phone.label)
    found = probabilities.argmax(axis=1)
    right, known = found == truth, truth >= 0
    sounding = known & (truth != pause)
    true = [phone for phone in phones if phone.label != PAUSE]
    events = all_labels(count_events({"": true}, {"": runs_of(found, classes, frame)}, COLLAR))
    return {
        "frame_accuracy": (right[known].sum(), known.sum()),
        "phone_frame_accuracy": (right[sounding].sum(), sounding.sum()),
        "segment_accuracy": (_right_segments(probabilities, phones, spans, classes), len(true)),
        "event_f1": (2 * events.matched, events.reference + events.estimated),
    }


def runs_of(found: Int[np.ndarray, " frames"], classes: Sequence[str], frame: float) -> list[Event]:
    """Return the runs of frames of one phone as events, without pauses.

    Args:
        found: Class of each frame.
        classes: Their names.
        frame: Seconds of a frame.
    """
    edges = np.flatnonzero(np.diff(found, prepend=-1, append=-1))
    events = [Event(start * frame, end * frame, classes[found[start]]) for start, end in pairwise(edges)]
    return [event for event in events if event.label != PAUSE]


def _right_segments(
    probabilities: np.ndarray, phones: Sequence[Event], spans: np.ndarray, classes: Sequence[str]
) -> int:
    logs = np.log(np.maximum(probabilities, 1e-12))
    logs[:, classes.index(PAUSE)] = -np.inf  # where a segment is given, it is no pause
    return sum(
        end > start and classes[logs[start:end].mean(axis=0).argmax()] == phone.label
        for phone, (start, end) in zip(phones, pairwise(spans), strict=True)
        if phone.label != PAUSE
    )


@torch.inference_mode()
def evaluate_tagger(model: WaveformClassifier, data: Path, part: str) -> dict[str, Estimate]:
    """Score a tagger on the sentences of a part.

    Args:
        model: The tagger.
        data: The prepared set.
        part: ``train``, ``validation`` or ``test``.

    Raises:
        UserError: If the model tags no frames, or with other classes.
    """
    spoken = {
        name: phones for name, phones in read_events(data / TABLE).items() if part_of(Path(name).stem) == part
    }
    if model.config.task != "tagging":
        raise UserError(f"the model is for {model.config.task}; expected one for tagging")
    unknown = {phone.label for phones in spoken.values() for phone in phones} - set(model.config.classes)
    if unknown:
        raise UserError(f"the model knows no phone {min(unknown)}")
    model.eval()
    device = next(model.parameters()).device
    counts = []
    for name, phones in spoken.items():
        waveform = load(data / name, model.config.rate, model.config.channels).to(device)
        probabilities = model.predict(waveform[None])[0].double().cpu().numpy()
        counts.append(
            count_sentence(probabilities, phones, model.config.classes, model.frame / model.config.rate)
        )
    names = tuple(counts[0])
    table = np.array([[row[name] for name in names] for row in counts], dtype=np.float64)
    return sum_up(table[..., 0], table[..., 1], names)


def main(words: Sequence[str] | None = None) -> None:
    """Print the scores with 95 % intervals; write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="run folder of a tagger")
    parser.add_argument("--data", type=Path, required=True, help="the prepared set")
    parser.add_argument("--part", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args(words)
    limit_threads()
    try:
        scores = evaluate_tagger(load_model(args.run, args.device), args.data, args.part)
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None
    for name, score in scores.items():
        print(f"{name:22}{score.value:.4f} ({score.low:.4f} to {score.high:.4f})")
    if args.output is not None:
        with atomic_path(args.output) as part:
            text = json.dumps({name: asdict(score) for name, score in scores.items()}, indent=1)
            part.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
