"""Prepare gue: the promoter, mouse and human transcription-factor tasks of GUE, as released."""

from __future__ import annotations

from pathlib import Path

from recipes.file_sets import FileSet, prepare_files, read_digests

COMMIT = "486343e5212361d6cd7ed03c624f430ed3d5f02e"

PREPARATION = FileSet(
    name="gue",
    version=1,
    base=f"https://raw.githubusercontent.com/wds-seu/DeepGene/{COMMIT}/data/GUE/",
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
