"""Sets of clips whose numbers say which part they are of, as SaShiMi's music is released and divided.

No digest of these files is known here: what is verified is that all of them are there and that each is sound
of the expected rate, channels and length. The manifest of a set records the digests of what was found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio.files import describe
from recipes.archived_files import fetch_archive, open_files
from recipes.prepared import DOWNLOADS, make_set
from seqmamba.errors import UserError

RATE = 16_000
_TRAIN, _VALIDATION = 0.88, 0.94
"""Shares of the clips, in the order of their numbers, up to which they train and validate; the rest test."""


@dataclass(frozen=True)
class NumberedClips:
    """A released set of clips.

    Attributes:
        name: Folder of the set in the data folder.
        version: Raised whenever what is written changes, so that old sets are made anew.
        archive: https address of a zip file whose one folder holds the clips.
        count: Number of clips.
        file: From a number to the name of a clip.
        seconds: What a clip lasts, at most.
    """

    name: str
    version: int
    archive: str
    count: int
    file: Callable[[int], str]
    seconds: float

    def part_of(self, number: int) -> str:
        """Return ``train``, ``validation`` or ``test``: 88, 6 and 6 percent, in the order of the numbers."""
        if number < int(_TRAIN * self.count):
            return "train"
        return "validation" if number < int(_VALIDATION * self.count) else "test"


def prepare_clips(clips: NumberedClips, cache: Path, source: Path | None = None) -> Path:
    """Make a set of numbered clips unless a whole one is there.

    Args:
        clips: What to make.
        cache: The data folder (`seqmamba.paths.data_dir`).
        source: A copy on disk: the zip file, or the folder of the clips; nothing is fetched then.

    Returns:
        The folder of the set: ``clips``, ``clips.csv`` (path, split) and ``manifest.json``.

    Raises:
        UserError: If a clip is missing or is none.
    """
    places: list[Path] = []

    def fetch() -> None:
        copy = source or fetch_archive(clips.name, clips.archive, cache / DOWNLOADS)
        places.append(copy)

    def fill(folder: Path) -> dict[str, Any]:
        (folder / "clips").mkdir()
        rows, seconds = ["path,split"], dict.fromkeys(("train", "validation", "test"), 0.0)
        with open_files(places[0]) as read:
            for number in range(clips.count):
                path, part = f"clips/{clips.file(number)}", clips.part_of(number)
                (folder / path).write_bytes(read(clips.file(number)))
                seconds[part] += _seconds(folder / path, clips.seconds)
                rows.append(f"{path},{part}")
        (folder / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        return {"clips": clips.count, "minutes": {part: round(n / 60, 1) for part, n in seconds.items()}}

    identity = {"name": clips.name, "version": clips.version, "source": {"origin": clips.archive}}
    return make_set(clips.name, identity, cache, fetch, fill)


def _seconds(path: Path, most: float) -> float:
    """Return what a clip lasts.

    Raises:
        UserError: If it is not what the set has.
    """
    info = describe(path)
    if (info.rate, info.channels) != (RATE, 1) or info.seconds > most:
        raise UserError(
            f"{path.name}: expected one channel of {RATE} Hz, at most {most:g} s, got {info.channels} of "
            f"{info.rate} Hz, {info.seconds:g} s"
        )
    return info.seconds
