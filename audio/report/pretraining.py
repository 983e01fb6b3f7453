"""The page of a run that pretrains an encoder by guessing what is hidden."""

from __future__ import annotations

import json

from audio.report.classification import UNTESTED, WORDING
from audio.report.data import data_and_settings
from audio.report.sounds import SoundConfig
from seqmamba.errors import UserError
from seqmamba.report import performance, summary
from seqmamba.report.history import read_history
from seqmamba.report.markup import Html, tag
from seqmamba.report.provenance import read_config, reproduction
from seqmamba.report.verdict import Finding
from seqmamba.report.words import number
from seqmamba.results import stored_number
from seqmamba.training.run_folder import RunFolder


def pretraining_page(folder: RunFolder, config: SoundConfig) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of a run's page.

    Args:
        folder: The run folder, tested or not.
        config: Not used: such a page holds no players.

    Raises:
        UserError: If a file is damaged.
    """
    title, recipe, scores = folder.path.resolve().name, read_config(folder.config), _read(folder)
    headline = "An encoder, pretrained by guessing hidden stretches."
    tested = Finding("info", headline, "What it is worth shows once it is fine-tuned.")
    tiles = [
        summary.tile(name.replace("_", " ").capitalize(), number(value)) for name, value in scores.items()
    ]
    shown = tag("section", tag("h2", "Test results"), tag("div", *tiles, class_="tiles")) if tiles else None
    return title, [
        summary.heading(title, ["Masked pretraining on recordings"], WORDING),
        summary.verdict([tested if scores else UNTESTED]),
        shown,
        performance.training(read_history(folder.metrics)),
        data_and_settings(recipe),
        reproduction("", {}, recipe, {}),
    ]


def _read(folder: RunFolder) -> dict[str, float]:
    """Read what a test pass wrote; nothing if there was none."""
    if not folder.results.exists():
        return {}
    try:
        stored = json.loads(folder.results.read_text(encoding="utf-8"))["test"]
        return {str(name): stored_number(value) for name, value in stored.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder.results}: expected the results of pretraining, got {error!r}") from None
