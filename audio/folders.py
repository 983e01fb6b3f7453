"""Recordings in folders: of classes, of parts of a split, or without any order."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from audio.clips import PART_OF_NAME, Clip, FoundClips
from audio.files import SUFFIXES
from seqmamba.errors import UserError

_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_SPEAKER = re.compile(r"^([0-9a-f]{8})_nohash_\d+$")
"""Names of Speech Commands (Warden 2018, arXiv:1804.03209, section 5.3): a speaker and a count."""

_LISTED = 3


def read_folder(folder: Path, layout: Literal["auto", "classes", "flat"]) -> FoundClips:
    """Find the recordings below a folder, by the endings of their names.

    Args:
        folder: The folder. What begins with a dot is passed over without a word.
        layout: ``classes``: its folders are classes, or parts of a split that hold those; folders that begin
            with an underscore are none. ``flat``: no labels. ``auto``: what fits.

    Raises:
        UserError: If there is no recording, or recordings lie both beside and in folders of classes.
    """
    names, others = _walk(folder)
    if not names:
        seen = f"; it has {_some(others)}" if others else ""
        raise UserError(f"{folder}: expected recordings ({', '.join(SUFFIXES)}), found none{seen}")
    notes = []
    if others:
        notes.append(f"{folder}: passed over what is no recording by its name: {_some(others)}")
    if layout == "auto":
        layout = "flat" if all(len(name.parts) == 1 for name in names) else "classes"
    if layout == "flat":
        return FoundClips([_clip(folder, name) for name in names], notes)
    clips, underscored = _in_classes(folder, names)
    if underscored:
        notes.append(
            f"{folder}: passed over {sum(underscored.values()):,} recordings in "
            f"{', '.join(sorted(underscored))}: a name with an underscore in front is no class"
        )
    return FoundClips(_with_official_lists(folder, clips, notes), notes)


def _walk(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the recordings' paths within a folder, and the names of the other files."""
    names: list[Path] = []
    others: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith("."):
                names.append((Path(place) / file).relative_to(folder))
            elif not file.startswith(".") and file not in _LISTS.values():
                others.append(file)
    return sorted(names), others


def _in_classes(folder: Path, names: list[Path]) -> tuple[list[Clip], Counter[str]]:
    """Label recordings by their folders, and count those in folders that are no class."""
    first = {name.parts[0] for name in names if len(name.parts) > 1}
    parts = {name: PART_OF_NAME[name.lower()] for name in first if name.lower() in PART_OF_NAME}
    depth = 1 if parts and len(parts) == len(first) else 0
    clips, underscored = [], Counter[str]()
    for name in names:
        above = name.parts[depth:-1]
        if not above:
            raise UserError(
                f"{folder / name}: lies beside the folders of classes, so its class is not known",
                hint="move it into one, or set layout to flat",
            )
        if above[0].startswith("_"):
            underscored[above[0]] += 1
            continue
        clip = replace(_clip(folder, name), labels=(above[0],))
        clips.append(replace(clip, split=parts[name.parts[0]]) if depth else clip)
    if not clips:
        raise UserError(f"{folder}: expected folders of classes, found {', '.join(sorted(underscored))}")
    return clips, underscored


def _clip(folder: Path, name: Path) -> Clip:
    speaker = _SPEAKER.match(name.stem)
    return Clip(folder / name, name=name.as_posix(), group=speaker.group(1) if speaker else None)


def _with_official_lists(folder: Path, clips: list[Clip], notes: list[str]) -> list[Clip]:
    """Divide recordings as the lists in the folder say; what is in none is for training."""
    listed: dict[str, str] = {}
    for part, file in _LISTS.items():
        if (folder / file).is_file():
            try:
                lines = (folder / file).read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{folder / file}: expected a list of recordings, got {error}") from None
            listed |= {line.strip().removeprefix("./"): part for line in lines if line.strip()}
    if not listed:
        return clips
    missing = set(listed) - {clip.name for clip in clips}
    if missing:
        notes.append(f"{folder}: its lists name {len(missing):,} recordings that are not there")
    return [replace(clip, split=listed.get(clip.name, "train")) for clip in clips]


def _some(names: list[str]) -> str:
    """Name a few."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
