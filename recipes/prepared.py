"""Turning a source file into a prepared data set: all of it, or nothing that could be taken for it.

A set is built in a hidden folder beside its place and renamed into it, manifest included. So a kill at any
moment leaves no set or a whole one, a second call finds the whole one and returns at once, and two processes
do not collide.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archives import Members, unpack
from recipes.locks import exclusive
from recipes.sources import Source, file_sha256, obtain
from seqmamba.atomic import PART_SUFFIX, atomic_folder
from seqmamba.errors import UserError

MANIFEST = "manifest.json"
DOWNLOADS = "downloads"

Build = Callable[[Path, Path], dict[str, Any]]
"""Reads the folder of unpacked members, writes the set into the second folder, returns counts."""


@dataclass(frozen=True)
class Preparation:
    """How a recipe's data come about.

    Attributes:
        name: Folder of the set in the data folder.
        version: Raised whenever `build` changes what it writes, so that old sets are rebuilt.
        source: The file that everything comes from.
        members: Files to take out of it.
        build: Writes the set.
        further: More files that it comes from, each with what to take out of it.
    """

    name: str
    version: int
    source: Source
    members: Members
    build: Build
    further: tuple[tuple[Source, Members], ...] = ()

    @property
    def archives(self) -> tuple[tuple[Source, Members], ...]:
        """Every source with its members."""
        return ((self.source, self.members), *self.further)


def prepare_set(preparation: Preparation, cache: Path, copy: Path | None = None) -> Path:
    """Make a recipe's data set unless a whole one is there.

    Args:
        preparation: What to make.
        cache: The data folder (`seqmamba.paths.data_dir`).
        copy: A copy of the source file already on disk; the folder with all of them where there are several.

    Returns:
        The folder of the set: its files and ``manifest.json``, which has the sha256 of the source and of
        every file.

    Raises:
        UserError: If the source cannot be had or is not what the recipe expects, or the data folder not made.
    """
    archives: list[Path] = []
    if copy is not None and preparation.further and not copy.is_dir():
        names = " and ".join(source.filename for source, _ in preparation.archives)
        raise UserError(f"--source {copy}: expected the folder that holds {names}")

    def fetch() -> None:
        archives.extend(obtain(source, cache / DOWNLOADS, copy) for source, _ in preparation.archives)

    def fill(folder: Path) -> dict[str, Any]:
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        for archive, (_, members) in zip(archives, preparation.archives, strict=True):
            unpack(archive, members, unpacked)
        summary = preparation.build(unpacked, folder)
        shutil.rmtree(unpacked)
        return summary

    return make_set(preparation.name, _identity(preparation), cache, fetch, fill)


def make_set(
    name: str,
    identity: dict[str, Any],
    cache: Path,
    fetch: Callable[[], None],
    fill: Callable[[Path], dict[str, Any]],
) -> Path:
    """Make a data set unless a whole one is there, under a lock and all at once.

    Args:
        name: Folder of the set in the data folder.
        identity: What its manifest has to say for a set to be this one.
        cache: The data folder.
        fetch: Gets what `fill` needs; called first, outside of the half-made set.
        fill: Writes the set into a folder, returns counts for the manifest.

    Returns:
        The folder of the set.

    Raises:
        UserError: If the data folder cannot be made.
    """
    target = cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the data folder {cache} cannot be made ({error.strerror})",
            hint="set SEQMAMBA_DATA to a folder that you may write to",
        ) from None
    with exclusive(cache / f".{name}.lock"):
        if holds(target, identity):
            return target
        for leftover in cache.glob(f".{name}.*{PART_SUFFIX}"):  # of a process that was killed
            shutil.rmtree(leftover)
        fetch()
        print(f"preparing {target}", file=sys.stderr)
        with atomic_folder(target) as folder:
            _write_manifest(folder, identity, fill(folder))
    return target


def is_whole(folder: Path, preparation: Preparation) -> bool:
    """Say whether a folder holds this set as it was written, down to every byte of every file."""
    return holds(folder, _identity(preparation))


def holds(folder: Path, identity: dict[str, Any]) -> bool:
    """Say whether a folder holds the set of an identity as it was written, down to every byte."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return {key: manifest[key] for key in identity} == identity and all(
            file_sha256(folder / name) == entry["sha256"] for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # absent or tampered with: made anew


def _identity(preparation: Preparation) -> dict[str, Any]:
    first, *further = (
        {"origin": source.origin, "file": source.filename, "sha256": source.sha256}
        for source, _ in preparation.archives
    )
    identity = {"name": preparation.name, "version": preparation.version, "source": first}
    return identity | ({"further": further} if further else {})


def _write_manifest(folder: Path, identity: dict[str, Any], summary: dict[str, Any]) -> None:
    files = {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {**identity, "summary": summary, "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n")
