"""Prepare cnnprom: five of the seven promoter sets of CNNProm."""

from __future__ import annotations

from pathlib import Path

from recipes.file_sets import FileSet, prepare_files, read_digests

COMMIT = "b4d2949e9bc5206f3049b35a488b036125ccc653"

PREPARATION = FileSet(
    name="cnnprom",
    version=1,
    base=f"https://raw.githubusercontent.com/solovictor/CNNPromoterData/{COMMIT}/",
    files=read_digests(Path(__file__).with_name("files.sha256")),
)


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A folder with a copy of the release.

    Returns:
        The folder of the released files and ``manifest.json``.
    """
    return prepare_files(PREPARATION, cache, source)
