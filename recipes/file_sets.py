"""Data sets that are released as single files: each fetched, verified and kept under its released path."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recipes.prepared import DOWNLOADS, make_set
from recipes.sources import UrlSource, obtain
from seqmamba.errors import UserError


@dataclass(frozen=True)
class FileSet:
    """A released set of files.

    Attributes:
        name: Folder of the set in the data folder.
        version: Raised whenever the files of the set change, so that old sets are fetched anew.
        base: https address of the folder that they lie in, of one commit or version, ending in ``/``.
        files: Path below `base` -> sha256, hexadecimal.
    """

    name: str
    version: int
    base: str
    files: Mapping[str, str]

    @property
    def sources(self) -> tuple[UrlSource, ...]:
        """The files, in the order of `files`; in the cache of downloads their names have no folders."""
        return tuple(
            UrlSource(self.base + quote(path), f"{self.name}+{path.replace('/', '+')}", digest)
            for path, digest in self.files.items()
        )


def released(module: str, version: int, base: str) -> FileSet:
    """Describe the set of a recipe that keeps its files as released.

    Args:
        module: ``__file__`` of its ``prepare.py``; the folder of that has the name of the set and
            ``files.sha256``.
        version: See `FileSet`.
        base: See `FileSet`.
    """
    folder = Path(module).parent
    return FileSet(folder.name, version, base, read_digests(folder / "files.sha256"))


def read_digests(path: Path) -> dict[str, str]:
    """Read a file that ``sha256sum`` writes and checks: a digest, two spaces and a path in each line.

    Args:
        path: The file.

    Returns:
        Path -> sha256, in the order of the file.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def prepare_files(file_set: FileSet, cache: Path, copy: Path | None = None) -> Path:
    """Make a data set of released files unless a whole one is there.

    Args:
        file_set: What to make.
        cache: The data folder (`seqmamba.paths.data_dir`).
        copy: A folder that holds a copy of the release, in its layout; nothing is fetched then.

    Returns:
        The folder of the set: the files under their released paths, and ``manifest.json``.

    Raises:
        UserError: If a file cannot be had, or is not the one that the recipe was written for.
    """
    obtained: dict[str, Path] = {}

    def fetch() -> None:
        for path, source in zip(file_set.files, file_set.sources, strict=True):
            local = None if copy is None else copy / path
            try:
                obtained[path] = obtain(source, cache / DOWNLOADS, local)
            except UserError as failure:
                if copy is not None:
                    raise
                raise UserError(failure.message, hint=_by_hand(file_set)) from None

    def fill(folder: Path) -> dict[str, Any]:
        for path, file in obtained.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / path)
        return {"files": len(obtained)}

    identity = {
        "name": file_set.name,
        "version": file_set.version,
        "source": {"origin": file_set.base, "files": dict(file_set.files)},
    }
    return make_set(file_set.name, identity, cache, fetch, fill)


def _by_hand(file_set: FileSet) -> str:
    return (
        f"run the command again, which continues, or get the {len(file_set.files)} files below "
        f"{file_set.base} on any machine and give their folder, laid out as there, with --source PATH"
    )
