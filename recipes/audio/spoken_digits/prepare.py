"""Prepare spoken_digits: the 3,000 recordings of the Free Spoken Digit Dataset, names and all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.archived_files import ArchivedFiles, prepare_archived
from recipes.file_sets import read_digests

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_REPOSITORY = "Jakobovski/free-spoken-digit-dataset"

PREPARATION = ArchivedFiles(
    name="spoken_digits",
    version=1,
    base=f"https://raw.githubusercontent.com/{_REPOSITORY}/{COMMIT}/",
    files=read_digests(Path(__file__).with_name("files.sha256")),
    archive=f"https://github.com/{_REPOSITORY}/archive/{COMMIT}.zip",
)


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the release: its zip archive, or its folder.

    Returns:
        The folder with ``recordings``, ``{digit}_{speaker}_{take}.wav``, and ``manifest.json``.
    """
    return prepare_archived(PREPARATION, cache, source, write)


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Write the recordings as released; returns how many there are of each speaker."""
    speakers: dict[str, int] = {}
    (folder / "recordings").mkdir()
    for path, content in files:
        (folder / path).write_bytes(content)
        speaker = Path(path).stem.split("_")[1]
        speakers[speaker] = speakers.get(speaker, 0) + 1
    return {"recordings": dict(sorted(speakers.items()))}
