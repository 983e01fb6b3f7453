"""Prepare esc10: the 400 recordings of ESC-10, and a table with the class and the fold of each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.archived_files import ArchivedFiles, prepare_archived
from recipes.file_sets import read_digests

COMMIT = "553c8f1743b9dba6b282e1323c3ca8fa76923448"
"""The last one that holds the recordings; later ones point to ESC-50."""
_REPOSITORY = "karoldvl/ESC-10"

PREPARATION = ArchivedFiles(
    name="esc10",
    version=1,
    base=f"https://raw.githubusercontent.com/{_REPOSITORY}/{COMMIT}/",
    files=read_digests(Path(__file__).with_name("files.sha256")),
    archive=f"https://github.com/{_REPOSITORY}/archive/{COMMIT}.zip",
)


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the release: its zip archive, or a folder with the recordings.

    Returns:
        The folder with ``audio``, ``clips.csv`` and ``manifest.json``.
    """
    return prepare_archived(PREPARATION, cache, source, write)


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Write the recordings and their table; returns how many there are of each class.

    Their names begin with the fold, and end in a letter for each take of one source recording. A fold keeps
    all takes of a source.
    """
    counts: dict[str, int] = {}
    rows = ["path,label,fold,group"]
    (folder / "audio").mkdir()
    for path, content in files:
        category, name = path.split("/")
        label = category.split(" - ", 1)[1].lower().replace(" ", "_")
        fold, source, _ = name.split("-")
        (folder / "audio" / name).write_bytes(content)
        rows.append(f"audio/{name},{label},{fold},{source}")
        counts[label] = counts.get(label, 0) + 1
    (folder / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {"recordings": counts}
