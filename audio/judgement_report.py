"""From folders of recordings to ``judgement.json``, ``judgement.md`` and ``recordings.tsv``."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from audio.judgement import SILENT, Judgement, asked_classes, assess
from audio.judging import JudgeConfig, JudgedClips, judge_clips
from audio.manifests import Clip, SourceConfig, find_clips
from audio.models import WaveformClassifier
from audio.neighbours import Neighbours, find_neighbours
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.plain_json import to_json

FORMAT_VERSION = 1
RESULTS = "judgement.json"
_CACHE = "answers"
_COLUMNS = (
    *("set", "file", "asked", "class", "confidence", "silent"),
    *("nearest", "distance", "correlation", "copy"),
)


@dataclass(frozen=True)
class JudgeSources:
    """Which recordings are judged, and against which.

    Args:
        generated: Folders, tables or files; each is a set of its own.
        reference: Real recordings that the generator was trained on.
        held_out: Real recordings that it was not trained on; they are judged alike, for comparison.
        pattern: Finds the labels of real recordings in the names of files; see `SourceConfig`.
        unlabelled: Whether folders of generated recordings are no classes.
    """

    generated: tuple[str, ...]
    _: KW_ONLY
    reference: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    pattern: str | None = None
    unlabelled: bool = False


def judge_folders(
    model: WaveformClassifier, sources: JudgeSources, output: Path, config: JudgeConfig
) -> list[Judgement]:
    """Judge sets of recordings and write what is found.

    What the classifier says of each recording is kept in ``output/answers``: an interrupted run goes on, and
    a second one with more sets judges only those.

    Args:
        model: A classifier of real recordings.
        sources: The recordings.
        output: Folder for the results.
        config: How.

    Returns:
        The judgements: of each generated set, of the held-out recordings, and of the reference.

    Raises:
        UserError: If a source holds no recordings, or labels are no classes of the classifier.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file, expected a folder")
    made = [(name, find_clips(name)) for name in dict.fromkeys(sources.generated)]
    reference_clips, held_out_clips = _real_clips(sources)
    named = [*made, *([("held-out recordings", held_out_clips)] if held_out_clips else [])]
    model.eval()
    cache = output / _CACHE
    reference = judge_clips(model, "reference recordings", reference_clips, cache, config)
    classes = model.config.classes
    judgements, rows = [], []
    for name, clips in named:
        found = judge_clips(model, name, clips, cache, config)
        generated = clips is not held_out_clips
        asked = None
        if not (generated and sources.unlabelled):
            asked = asked_classes(found, classes, strict=generated)
        print(f"comparing {name} with the reference recordings", file=sys.stderr)
        neighbours = find_neighbours(
            found.clips,
            found.judged.features,
            reference.clips,
            reference.judged.features,
            model.config.rate,
        )
        judgements.append(assess(found, reference, neighbours, classes, config, asked))
        rows += _rows(found, reference, neighbours, classes)
    asked = asked_classes(reference, classes, strict=False)
    judgements.append(assess(reference, reference, None, classes, config, asked))
    _write(output, model, sources, config, judgements, rows)
    return judgements


def _real_clips(sources: JudgeSources) -> tuple[list[Clip], list[Clip]]:
    """Find the real recordings; where the data say so, those for training are the reference."""
    files = SourceConfig(pattern=sources.pattern)
    reference = _find_all(sources.reference, files)
    held_out = _find_all(sources.held_out, files)
    if not held_out and any(clip.split == "train" for clip in reference):
        held_out = [clip for clip in reference if clip.split == "test"]
        reference = [clip for clip in reference if clip.split == "train"]
    both = {clip.path for clip in reference} & {clip.path for clip in held_out}
    if both:
        raise UserError(f"--held-out: {min(both)} is a reference recording, too")
    return reference, held_out


def _find_all(sources: Sequence[str], files: SourceConfig) -> list[Clip]:
    return list(dict.fromkeys(clip for source in sources for clip in find_clips(source, files)))


def _rows(
    found: JudgedClips, reference: JudgedClips, neighbours: Neighbours, classes: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return a line for each recording."""
    rows: list[tuple[str, ...]] = []
    for place, clip in enumerate(found.clips):
        p = found.judged.probabilities[place]
        rows.append(
            (
                found.name,
                str(clip.path),
                " ".join(clip.labels),
                classes[int(p.argmax())],
                f"{p.max():.6f}",
                str(int(found.level[place] < SILENT)),
                str(reference.clips[neighbours.index[place]].path),
                f"{neighbours.distance[place]:.6g}",
                f"{neighbours.correlation[place]:.4f}",
                str(int(neighbours.copied[place])),
            )
        )
    return rows


def _write(
    output: Path,
    model: WaveformClassifier,
    sources: JudgeSources,
    config: JudgeConfig,
    judgements: Sequence[Judgement],
    rows: Sequence[tuple[str, ...]],
) -> None:
    with atomic_path(output / "recordings.tsv") as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(rows)
    found: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "sources": asdict(sources),
        "settings": asdict(config),
        "classes": model.config.classes,
        "rate": model.config.rate,
        "sets": [asdict(each) | {"missing_classes": each.missing} for each in judgements],
    }
    with atomic_path(output / RESULTS) as part:
        part.write_text(json.dumps(to_json(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_path(output / "judgement.md") as part:
        part.write_text(as_markdown(judgements), encoding="utf-8")


def as_markdown(judgements: Sequence[Judgement]) -> str:
    """Return a table with a line for each set, and below it what has to be known to read it."""
    lines = [f"| {' | '.join(_HEADER)} |", "|---" * len(_HEADER) + "|"]
    for each in judgements:
        metrics = each.metrics
        cells = (
            each.name,
            f"{each.n:,}",
            _interval(metrics["fid"], 2),
            f"{_interval(each.fid_of_real, 2)}, {each.real_counts[0]:,} to {each.real_counts[1]:,}",
            _interval(metrics["inception_score"], 2),
            _interval(metrics["modified_inception_score"], 1),
            _interval(metrics["am_score"], 2),
            f"{each.bins.share:.2f} of {each.bins.bins}",
            "" if each.recognition is None else _interval(each.recognition.accuracy, 3),
            "" if each.diversity is None else f"{each.diversity.copies:,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    notes = [note for each in judgements for note in notes_of(each)]
    return "\n".join([*lines, "", _LEGEND, *(f"- {note}" for note in notes), ""])


_HEADER = ("set", "n", "FID", "FID of as many real", "IS", "mIS", "AM", "NDB/k", "class heard", "copies")

_LEGEND = """\
In brackets: 95 % intervals by resampling the recordings of the set; for FID of real recordings the range of
ten random choices of as many, compared with the rest. "class heard": share of the recordings heard as the
class that was asked for. The numbers depend on the classifier and on n, and are not those of another
classifier.
"""


def notes_of(judgement: Judgement) -> list[str]:
    """Return what a reader of a set's numbers has to know.

    Args:
        judgement: What was found.
    """
    name, n, notes = judgement.name, judgement.n, []
    mean, spread, parts = judgement.split_scores
    notes.append(
        f"{name}: Inception Score {mean:.2f} (sd {spread:.2f}) over {parts} parts, "
        f"{judgement.two_halves:.2f} as two halves"
    )
    if not math.isnan(judgement.fid_bias):
        notes.append(f"{name}: FID is about {judgement.fid_bias:.2f} too high because n is {n:,} and no more")
    if n <= judgement.features:
        notes.append(
            f"{name}: {n:,} recordings give the covariance of {judgement.features} features a rank of "
            f"{n - 1:,} at most; compare FIDs of as many only"
        )
    if judgement.diversity is not None:
        found = judgement.diversity
        notes.append(
            f"{name}: nearest training recording at {found.to_training:.3g}, nearest of the set at "
            f"{found.to_each_other:.3g} (medians); {found.copies:,} copies of training recordings, "
            f"{found.identical:,} of them sample by sample; {found.repeated:,} repeated"
        )
    if judgement.missing:
        notes.append(f"{name}: no recording is heard as {', '.join(judgement.missing)}")
    if judgement.silent or judgement.skipped:
        notes.append(f"{name}: {judgement.silent:,} silent, {judgement.skipped:,} not readable")
    return notes


def _interval(estimate: Estimate, digits: int) -> str:
    if math.isnan(estimate.value):
        return "-"
    text = f"{estimate.value:.{digits}f}"
    if math.isnan(estimate.low):
        return text
    return f"{text} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
