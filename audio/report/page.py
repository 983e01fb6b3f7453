"""From the files of a run, of generated sound or of a timeline to one HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from audio.cross_validation import TABLE
from audio.generation_files import TABLE as SAMPLES
from audio.report.classification import classification_page
from audio.report.folds import folds_page
from audio.report.generated import generated_page
from audio.report.generator import generator_page
from audio.report.pretraining import pretraining_page
from audio.report.settings import look_up, parse_recipe
from audio.report.sounds import SoundConfig
from audio.report.timelines import timeline_page
from audio.timeline_files import PARQUET
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.paths import expand
from seqmamba.report.document import document
from seqmamba.report.markup import Html
from seqmamba.report.provenance import read_config
from seqmamba.training.run_folder import RunFolder

NOTE = "Drawn by seqmamba from the files that it wrote. Intervals are 95 %."
Page = Callable[[RunFolder, SoundConfig], tuple[str, list[Html | None]]]
"""Gives the title and the sections of the page of a run."""

_PAGES: dict[str, Page] = {
    "AutoregressiveTask": generator_page,
    "MaskedPretrainingTask": pretraining_page,
}
"""By the end of the name of the task; other tasks give answers about recordings."""


def write_report(
    source: str | Path,
    output: str | Path | None = None,
    config: SoundConfig | None = None,
    *,
    events: str | Path | None = None,
) -> Path:
    """Draw the report of what a verb wrote. The page needs neither network nor scripts.

    Args:
        source: A run folder, tested or not; the folder of a cross-validation; a folder of generated
            recordings; or the probabilities of a timeline, ``.parquet``.
        output: The page; None means ``report.html`` in the folder, or the timeline's name with that ending.
        config: How much sound it may hold.
        events: Table of the events of a timeline; None looks for one beside it.

    Returns:
        The page.

    Raises:
        UserError: If the source is none of these, or a file of it is damaged.
    """
    source, config = expand(source), config or SoundConfig()
    target = expand(output) if output is not None else None
    if target is None:
        target = source.with_suffix(".html") if source.suffix == PARQUET else RunFolder(source).report
    if target.is_dir():
        raise UserError(f"{target}: is a folder, expected the name of a page")
    title, sections = _sections(source, config, None if events is None else expand(events))
    with atomic_path(target) as part:
        part.write_text(document(title, sections, note=NOTE), encoding="utf-8")
    return target


def _sections(source: Path, config: SoundConfig, events: Path | None) -> tuple[str, list[Html | None]]:
    """Find out what the source is, and return the title and the sections of its page."""
    if source.suffix == PARQUET and source.is_file():
        return timeline_page(source, config, events)
    if events is not None:
        raise UserError("--events: belongs to a timeline, of which the source is none")
    folder = RunFolder(source)
    if (source / SAMPLES).is_file():
        return generated_page(source, config)
    if (source / TABLE).is_file():
        return folds_page(source, config)
    if folder.config.is_file() or folder.results.is_file():
        return _page_of(folder)(folder, config)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    raise UserError(
        f"{source}: expected a run folder, a folder of generated recordings, or the probabilities of a "
        f"timeline ({PARQUET})"
    )


def _page_of(folder: RunFolder) -> Page:
    """Return what writes the page of a run, by its recipe, or by its results where there is none."""
    task = look_up(parse_recipe(read_config(folder.config)), "model.class_path")
    for ending, page in _PAGES.items():
        if isinstance(task, str) and task.endswith(ending):
            return page
    try:
        tested = json.loads(folder.results.read_text(encoding="utf-8"))["test"]
    except (OSError, ValueError, KeyError, TypeError):
        return classification_page
    return generator_page if "bits_per_sample" in tested else pretraining_page
