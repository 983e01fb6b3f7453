"""The page of a run that trains a generative model."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio.generation_files import RECORD, TABLE, GenerationRecord, read_samples
from audio.report.classification import UNTESTED, WORDING
from audio.report.data import data_and_settings
from audio.report.generated import LOSS, generated, speed
from audio.report.settings import look_up, parse_recipe
from audio.report.sounds import Shown, SoundConfig, Sounds, short_titles
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.report import performance, summary
from seqmamba.report.history import read_history
from seqmamba.report.markup import Html, tag
from seqmamba.report.provenance import read_config, reproduction
from seqmamba.report.verdict import Finding
from seqmamba.report.words import count, interval, number, with_interval
from seqmamba.results import stored_number
from seqmamba.training.run_folder import RunFolder

SAMPLES = "samples"
"""Folder of a run with what its model generated."""


@dataclass(frozen=True)
class Scores:
    """What a test of a generative model found.

    Attributes:
        bits: Bits per sample, base 2.
        recordings: Recordings that were scored.
        samples: Their samples.
        names: Names of the recordings.
        each: Bits per sample of each.
    """

    bits: Estimate
    recordings: int
    samples: int
    names: list[str]
    each: np.ndarray


def generator_page(folder: RunFolder, config: SoundConfig) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of a run's page.

    Args:
        folder: The run folder, tested or not.
        config: How much sound the page may hold.

    Raises:
        UserError: If a file is damaged.
    """
    scores, recipe, sounds = read_scores(folder), read_config(folder.config), Sounds(config)
    title = folder.path.resolve().name
    made: list[Html | None] = []
    samples = folder.path / SAMPLES
    if (samples / TABLE).is_file():
        record = GenerationRecord.load(samples) if (samples / RECORD).exists() else GenerationRecord()
        made = [speed(record), generated(samples, read_samples(samples), sounds)[0]]
    facts = ["Generative model of waveforms"]
    if scores is not None:
        facts.append(f"tested on {count(scores.recordings, 'recording')}, {count(scores.samples, 'sample')}")
    return title, [
        summary.heading(title, facts, WORDING),
        summary.verdict([judge(scores, recipe)]),
        tiles(scores),
        *made,
        *surprising(scores, sounds),
        sounds.note(),
        performance.training(read_history(folder.metrics), loss=LOSS),
        data_and_settings(recipe),
        reproduction("", {}, recipe, {}),
    ]


def read_scores(folder: RunFolder) -> Scores | None:
    """Read what a test pass wrote; None if there was none.

    Raises:
        UserError: If a file is damaged.
    """
    if not folder.results.exists():
        return None
    try:
        stored = json.loads(folder.results.read_text(encoding="utf-8"))["test"]
        low, high = (stored_number(value) for value in stored["interval_95"])
        bits = Estimate(stored_number(stored["bits_per_sample"]), low, high)
        names, each = _read_each(folder.predictions)
        return Scores(bits, int(stored["recordings"]), int(stored["samples"]), names, each)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder.path}: expected the results of a generative model, got {error!r}") from None


def judge(scores: Scores | None, recipe: str | None) -> Finding:
    """Say what the model is worth, beside codes that are all equally likely."""
    if scores is None:
        return UNTESTED
    code = look_up(parse_recipe(recipe), "model.init_args.model.bits")
    words = f"{with_interval(scores.bits)} bits per sample, base 2, on the test part."
    if not isinstance(code, int):
        return Finding("info", "The model was tested.", words)
    words += f" A code has {code} bits."
    if scores.bits.high < code:
        saved = f"The model foresees {1 - scores.bits.value / code:.0%} of what a sample says."
        return Finding("info", saved, words)
    return Finding("bad", "The model is not distinguishable from guessing.", words)


def tiles(scores: Scores | None) -> Html | None:
    """Write the bits per sample of the test part."""
    if scores is None:
        return None
    shown = [
        summary.tile(
            "Bits per sample", number(scores.bits.value), interval(scores.bits), "base 2; lower is better"
        ),
        summary.tile("Recordings", f"{scores.recordings:,}"),
        summary.tile("Samples", f"{scores.samples:,}"),
    ]
    note = "Measured on the test part. The interval is a 95\u00a0% bootstrap interval over its recordings."
    return tag(
        "section",
        tag("h2", "Test results"),
        tag("p", note, class_="note"),
        tag("div", *shown, class_="tiles"),
    )


def surprising(scores: Scores | None, sounds: Sounds) -> list[Html | None]:
    """Write the test recordings that the model foresees worst, and best."""
    if scores is None or not len(scores.each):
        return []
    order, titles = np.argsort(-scores.each, kind="stable"), short_titles(scores.names)
    half = min(sounds.config.clips, len(order) // 2)
    most, least = order[:half], order[::-1][: min(sounds.config.clips, len(order) - half)]

    def shown(places: np.ndarray) -> list[Shown]:
        words = "bits per sample"
        return [
            Shown(scores.names[i], titles[i], (f"{number(float(scores.each[i]))} {words}",)) for i in places
        ]

    intro = "Test recordings of which the model foresees least."
    return [
        sounds.section("Most surprising recordings", intro, shown(most)),
        sounds.section("Least surprising recordings", "Those that it foresees best.", shown(least)),
    ]


def _read_each(path: Path) -> tuple[list[str], np.ndarray]:
    """Read the bits per sample of every recording."""
    if not path.exists():
        return [], np.empty(0)
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["name"] for row in rows], np.array([float(row["bits_per_sample"]) for row in rows])
