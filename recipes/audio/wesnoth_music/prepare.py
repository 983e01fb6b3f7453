"""Prepare wesnoth_music: the music of a game, two hours of it, at 16 kHz with one channel."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from audio.files import blocks, describe
from audio.resampling import Resampler
from audio.writer import Writer, WriterConfig
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource
from seqmamba.errors import UserError

RATE = 16_000
VALIDATION = ("frantic", "nunc_dimittis", "love_theme", "sad")
TEST = ("battle", "into_the_shadows", "the_deep_path", "wanderer", "underground")
"""Pieces that are held out; a piece and its other arrangement are one group."""

_FOLDER = "usr/share/games/wesnoth/1.16/data/core/music"
_BLOCK = 2**14
_LEAST = 0.995  # of what a file announces that it must hold
TRACKS = (
    "battle-epic",
    "battle",
    "breaking_the_chains",
    "casualties_of_war",
    "defeat",
    "defeat2",
    "elf-land",
    "elvish-theme",
    "frantic-old",
    "frantic",
    "heroes_rite",
    "into_the_shadows",
    "journeys_end",
    "knalgan_theme",
    "knolls",
    "legends_of_the_north",
    "love_theme",
    "loyalists",
    "main_menu",
    "northern_mountains",
    "northerners",
    "nunc_dimittis",
    "return_to_wesnoth",
    "revelation",
    "sad",
    "siege_of_laurelmor",
    "silvan_sanctuary",
    "suspense",
    "the_city_falls",
    "the_dangerous_symphony",
    "the_deep_path",
    "the_king_is_dead",
    "transience",
    "traveling_minstrels",
    "underground",
    "vengeful",
    "victory",
    "victory2",
    "wanderer",
    "weight_of_revenge",
)
"""All tracks but ``silence``, which is ten seconds of it."""


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the tracks, all of them one behind the other, and a table; returns their lengths in seconds."""
    (folder / "tracks").mkdir()
    parts = {"train": 0.0, "validation": 0.0, "test": 0.0}
    rows = []
    with ExitStack() as stack:
        whole = stack.enter_context(Writer(folder / "two_hours.flac", WriterConfig(RATE)))
        for name in TRACKS:
            path = Path("tracks", f"{name}.flac")
            with Writer(folder / path, WriterConfig(RATE)) as track:
                _copy(unpacked / f"{name}.ogg", track, whole)
            group = group_of(name)
            part = "validation" if group in VALIDATION else "test" if group in TEST else "train"
            parts[part] += track.frames / RATE
            rows.append((path.as_posix(), group, part))
    with (folder / "tracks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "group", "split"))
        writer.writerows(rows)
    return {"tracks": len(rows), "seconds": {part: round(seconds) for part, seconds in parts.items()}}


def group_of(track: str) -> str:
    """Return the piece that a track is an arrangement of."""
    return track.removesuffix("-old").removesuffix("-epic").rstrip("2")


def _copy(source: Path, *targets: Writer) -> None:
    """Write a recording, its channels averaged and at our rate, to several files."""
    info = describe(source)
    resampler = Resampler(info.rate, RATE)
    read = 0
    try:
        for block in blocks(source, _BLOCK):
            read += len(block)
            _write(resampler.push(block.mean(dim=1, keepdim=True)), targets)
    except UserError:
        # one of the package's files holds an eighth of a second less than it announces
        if read < _LEAST * info.frames:
            raise
    _write(resampler.flush(), targets)


def _write(waveform: Tensor, targets: Iterable[Writer]) -> None:
    for target in targets:
        target.write(waveform.clamp(-1.0, 1.0))


PREPARATION = Preparation(
    name="wesnoth_music",
    version=1,
    source=DebSource(
        package="wesnoth-1.16-music",
        version="1:1.16.9-1",
        filename="wesnoth-1.16-music_1.16.9-1_all.deb",
        sha256="f9bc3cde92b4ab30db5d7b85f89b4bcc3d788dd92602956d0347250850bf59bb",
    ),
    members=tuple(f"{_FOLDER}/{name}.ogg" for name in TRACKS),
    build=build,
)
prepare = partial(prepare_set, PREPARATION)
