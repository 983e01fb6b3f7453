"""Data sets of many small files that are fetched as one archive of their repository, each file verified.

The archive that a server packs of a commit may differ from day to day in its bytes; the files in it may not.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from recipes.file_sets import FileSet
from recipes.locks import exclusive
from recipes.prepared import DOWNLOADS, make_set
from recipes.sources import UrlSource
from seqmamba.errors import UserError

_LARGEST = 1 << 28
"""Bytes that one file may have."""

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class ArchivedFiles(FileSet):
    """A released set of files and the address of an archive that holds them all.

    Attributes:
        archive: https address of a zip file of the commit; its one folder holds the paths of `files`.
    """

    _: KW_ONLY
    archive: str


def prepare_archived(
    file_set: ArchivedFiles,
    cache: Path,
    copy: Path | None,
    write: Callable[[Path, Iterable[tuple[str, bytes]]], dict[str, Any]],
) -> Path:
    """Make a data set out of the files of an archive unless a whole one is there.

    Args:
        file_set: What to make.
        cache: The data folder (`seqmamba.paths.data_dir`).
        copy: The archive, or a folder that holds its files under their paths or their names, at most one
            folder deep; nothing is fetched then.
        write: Writes the set into a folder from pairs of a released path and its content; returns counts for
            the manifest.

    Returns:
        The folder of the set.

    Raises:
        UserError: If a file cannot be had, or is not the one that the recipe was written for.
    """
    places: list[Path] = []

    def fetch() -> None:
        places.append(
            fetch_archive(file_set.name, file_set.archive, cache / DOWNLOADS) if copy is None else copy
        )

    def fill(folder: Path) -> dict[str, Any]:
        with open_files(places[0]) as read:
            return write(folder, _verified(file_set, read, places[0]))

    identity = {
        "name": file_set.name,
        "version": file_set.version,
        "source": {"origin": file_set.base, "files": dict(file_set.files)},
    }
    return make_set(file_set.name, identity, cache, fetch, fill)


def fetch_archive(set_name: str, url: str, downloads: Path) -> Path:
    """Fetch a zip file once; an interrupted download goes on where it stopped.

    Args:
        set_name: Name of the set, and of the file.
        url: https address.
        downloads: Folder that keeps it.

    Returns:
        The file, whose content nothing has verified yet.
    """
    name = f"{set_name}.zip"
    kept = downloads / name
    with exclusive(downloads / f".{name}.lock"):
        if not kept.is_file():
            partial = downloads / f".{name}.partial"
            partial.mkdir(parents=True, exist_ok=True)
            UrlSource(url, name, "").download(partial).replace(kept)
            shutil.rmtree(partial)
    return kept


def _verified(file_set: ArchivedFiles, read: Read, place: Path) -> Iterator[tuple[str, bytes]]:
    for path, digest in file_set.files.items():
        content = read(path)
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise UserError(
                f"{place}: {path}: expected sha256 {digest}, got {found}",
                hint=f"the recipe needs the files of {file_set.base}; delete a damaged download",
            )
        yield path, content


@contextmanager
def open_files(place: Path) -> Iterator[Read]:
    """Give a function that reads a file of a zip file or a folder by its released path.

    Args:
        place: A zip file, whose one folder holds the paths; or a folder with the files under their paths or
            their names, at most one folder deep.

    Raises:
        UserError: If it is neither; the function, if it does not hold a file.
    """
    if place.is_dir():
        yield lambda path: _from_folder(place, path)
        return
    try:
        with zipfile.ZipFile(place) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}

            def read(path: str) -> bytes:
                if path not in entries:
                    raise UserError(f"{place}: does not hold {path}")
                if entries[path].file_size > _LARGEST:
                    raise UserError(f"{place}: {path} would unpack to {entries[path].file_size:,} bytes")
                return archive.read(entries[path])

            yield read
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise UserError(
            f"{place}: is not a zip file that can be read ({error})", hint="delete it and try again"
        ) from None


def _from_folder(folder: Path, path: str) -> bytes:
    name = Path(path).name
    for place in (folder / path, folder / name, *sorted(folder.glob(f"*/{name}"))):
        if place.is_file():
            return place.read_bytes()
    raise UserError(f"--source {folder}: does not hold {name}")
