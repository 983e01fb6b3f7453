"""Prepare russian_speech: sentences of one reader, for models that make new ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from audio.files import describe
from recipes.audio.festvox_ru import FOLDER, RECORDINGS, SOURCE, UTTERANCES, move_recordings, part_of
from recipes.prepared import Preparation, prepare_set


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the recordings and a table of their parts; returns how long they last in minutes."""
    move_recordings(unpacked, folder)
    rows = ["path,split"]
    minutes = {"train": 0.0, "validation": 0.0, "test": 0.0}
    for name in UTTERANCES:
        path = f"{FOLDER}/{name}.wav"
        minutes[part_of(name)] += describe(folder / path).seconds / 60
        rows.append(f"{path},{part_of(name)}")
    (folder / "utterances.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {"utterances": len(UTTERANCES), "minutes": {part: round(n, 1) for part, n in minutes.items()}}


PREPARATION = Preparation(
    name="russian_speech",
    version=1,
    source=SOURCE,
    members=RECORDINGS,
    build=build,
)
prepare = partial(prepare_set, PREPARATION)
