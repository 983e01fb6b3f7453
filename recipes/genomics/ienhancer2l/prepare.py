"""Prepare ienhancer2l: the four files of the iEnhancer-2L benchmark, layer 1."""

from __future__ import annotations

from pathlib import Path

from recipes.file_sets import FileSet, prepare_files, read_digests

COMMIT = "f499f95984d5950f6c799204c4132f38f2776897"

PREPARATION = FileSet(
    name="ienhancer2l",
    version=1,
    base=f"https://raw.githubusercontent.com/chen-bioinfo/iEnhancer-ELM/{COMMIT}/For%20the%20first%20dataset/dataset/",
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
