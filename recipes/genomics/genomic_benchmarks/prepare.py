"""Prepare genomic_benchmarks: the intervals of all nine sets, without the genomes that they lie on."""

from __future__ import annotations

from pathlib import Path

from recipes.file_sets import FileSet, prepare_files, read_digests

COMMIT = "605d8539830e16c85abe7826990958303ffc5e1c"

PREPARATION = FileSet(
    name="genomic_benchmarks",
    version=1,
    base=f"https://raw.githubusercontent.com/ML-Bioinfo-CEITEC/genomic_benchmarks/{COMMIT}/datasets/",
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
