"""Prepare russian_phones: sentences of one reader, and when each phone is heard."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from recipes.audio.festvox_ru import (
    FOLDER,
    LABELS,
    PAUSE,
    RECORDINGS,
    SOURCE,
    UTTERANCES,
    move_recordings,
    part_of,
    read_labels,
)
from recipes.prepared import Preparation, prepare_set

TABLE = "phones.tsv"
SEGMENTS = "segments.tsv"


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the recordings, a table of all phones and one without the pauses; returns how many there are."""
    rows = []
    for name in UTTERANCES:
        for phone in read_labels(unpacked / f"{name}.lab"):
            times = (f"{phone.onset:.5f}", f"{phone.offset:.5f}")
            rows.append((f"{FOLDER}/{name}.wav", *times, phone.label, part_of(name)))
    move_recordings(unpacked, folder)
    segments = [row for row in rows if row[3] != PAUSE]
    _write(folder / TABLE, rows)
    _write(folder / SEGMENTS, segments)
    return {
        "utterances": {
            part: sum(part_of(name) == part for name in UTTERANCES)
            for part in ("train", "validation", "test")
        },
        "segments": len(segments),
        "pauses": len(rows) - len(segments),
        "phones": len({row[3] for row in segments}),
    }


def _write(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("filename", "onset", "offset", "event_label", "split"))
        writer.writerows(rows)


PREPARATION = Preparation(
    name="russian_phones",
    version=1,
    source=SOURCE,
    members=(*RECORDINGS, *LABELS),
    build=build,
)
prepare = partial(prepare_set, PREPARATION)
