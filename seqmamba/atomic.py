"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART_SUFFIX = ".part"
"""Ends the name of everything half-written; a killed process may leave such a file behind."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Let the caller write a file beside its destination and move it there on success.

    The data reach the disk before the name does, so that a power cut cannot leave an empty file either.

    Args:
        path: Destination; its folder is created.

    Yields:
        The path to write to, in the same folder. It is removed when the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        yield part
        _sync(part)
        os.replace(part, path)
    except BaseException as failure:
        part.unlink(missing_ok=True)
        name_file(failure, path)
        raise
    _sync(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Let the caller fill a folder beside its destination and move it there on success.

    Args:
        path: Destination; an older folder of this name is replaced.

    Yields:
        An empty folder to fill. It is removed when the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            # No call replaces a filled folder, so the old one steps aside first.
            outgoing = _part(path.with_name(f"{path.name}.old"))
            os.replace(path, outgoing)
            os.replace(part, path)
            shutil.rmtree(outgoing)
        else:
            os.replace(part, path)
    except BaseException as failure:
        shutil.rmtree(part, ignore_errors=True)
        name_file(failure, path)
        raise
    _sync(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder and below it."""
    for part in folder.rglob(f".*{PART_SUFFIX}"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def name_file(failure: BaseException, path: Path) -> None:
    """Let an OSError of a write, which knows no name, say which file it was about."""
    if isinstance(failure, OSError) and failure.filename is None:
        failure.filename = str(path)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
