"""The Russian voice of Festival, a Debian package: sentences of one reader, and the phones in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from audio.events import Event
from recipes.sources import DebSource
from seqmamba.errors import UserError

SOURCE = DebSource(
    package="festvox-ru",
    version="0.5+dfsg-6",
    filename="festvox-ru_0.5+dfsg-6_all.deb",
    sha256="21ef3f0f2978ecf2e2eddb367cb0ff4a72572196d28dc69feb84f4177af5e6c4",
)
RATE = 16_000
PAUSE = "pau"
FOLDER = "wav"
"""Where `move_recordings` puts the recordings of a set."""

_VOICE = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
_LAST = 844
_NOT_RELEASED = """
    7 19-21 23 26 28-29 47-48 57 72 83 90-92 96-98 107 111 117 119 126-128 133-136 138-139 156 158-160 166-167
    170 174 177 187 189-194 205 207 210-211 219-220 225 230 234 242 252 256-258 272 276-277 282-283 293-295
    309 322 328 333 337-338 341-342 345-348 351-354 356-358 360-361 363 368 378 391 397-398 400-401 404-406
    424 426 431-433 435-437 440-442 453 459-460 465 485-486 492-494 501 504-507 527 532-533 540 547-549 551
    553-555 557 561 566 568 578 583 588 591 600-606 624-625 629-632 639 642 646-647 655-659 661 665-666 671
    676 681 686-688 694 700-701 704 706-711 716-718 726 733 743 745-747 758 760 763-764 770 776-781 783
    786-787 790 798 805 809 815-817 821 824 826-827 833 838 843
"""
"""Numbers of sentences that the package does not have, ends included."""


def _numbers(ranges: str) -> set[int]:
    ends = (tuple(map(int, word.split("-"))) for word in ranges.split())
    return {number for pair in ends for number in range(pair[0], pair[-1] + 1)}


UTTERANCES = tuple(
    f"ru_{number:04}" for number in range(1, _LAST + 1) if number not in _numbers(_NOT_RELEASED)
)
RECORDINGS = tuple(f"{_VOICE}/wav/{name}.wav" for name in UTTERANCES)
LABELS = tuple(f"{_VOICE}/lab/{name}.lab" for name in UTTERANCES)
"""What the package has of each sentence."""


def part_of(utterance: str) -> str:
    """Return ``test`` for sentences whose number ends in 0, ``validation`` for those in 5, else ``train``."""
    return {"0": "test", "5": "validation"}.get(utterance[-1], "train")


def move_recordings(unpacked: Path, folder: Path, utterances: Iterable[str] = UTTERANCES) -> None:
    """Move recordings out of the unpacked package, as they are, into the folder `FOLDER` of a set."""
    (folder / FOLDER).mkdir()
    for name in utterances:
        shutil.move(unpacked / f"{name}.wav", folder / FOLDER / f"{name}.wav")


def read_labels(path: Path) -> list[Event]:
    """Read the phones of a sentence, pauses among them, which lie end to end from its start.

    Args:
        path: A label file of the xlabel program: a line ``#``, then in each line an end in seconds, a colour
            and a phone.

    Raises:
        UserError: If the file is none, or its times do not rise.
    """
    lines = path.read_text(encoding="ascii").splitlines()
    if not lines or lines[0] != "#":
        raise UserError(f"{path}: expected a label file that begins with #")
    phones: list[Event] = []
    for number, line in enumerate(lines[1:], start=2):
        words = line.split()
        end = float(words[0]) if len(words) == 3 else 0.0
        start = phones[-1].offset if phones else 0.0
        if end <= start:
            raise UserError(f"{path}:{number}: expected an end behind {start:g} s, a colour and a phone")
        phones.append(Event(start, end, words[2]))
    return phones
