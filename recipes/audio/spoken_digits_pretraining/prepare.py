"""Prepare spoken_digits_pretraining: the recordings of audio/spoken_digits, most of them without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recipes.archived_files import prepare_archived
from recipes.audio.spoken_digits import prepare as digits

PREPARATION = replace(digits.PREPARATION, name="spoken_digits_pretraining")


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the release: its zip archive, or its folder.

    Returns:
        The folder with ``recordings``, ``{digit}_{speaker}_{take}.wav``, and ``manifest.json``.
    """
    return prepare_archived(PREPARATION, cache, source, digits.write)
