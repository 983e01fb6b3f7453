"""Prepare instruments: single notes of the instruments of a sound font."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audio.resampling import resample
from audio.writer import Writer, WriterConfig
from recipes.audio.instruments.soundfont import Recording, SoundFont
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource

RATE = 16_000
SECONDS = 2.0
FOLDS = 5
FEWEST = 10
"""Notes that an instrument has at least to be a class."""

_FONT = "FluidR3_GM.sf2"
_NAME = re.compile(r"(.+?)[ _]*([A-Ga-g]#?) ?(\d)(?: ?\(L\)| ?L)?")
_OCTAVE = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the notes and a table of them; returns how many there are of each instrument."""
    font = SoundFont(unpacked / _FONT)
    rows = ["path,label,fold"]
    counts = {}
    for instrument, notes in notes_by_instrument(font.recordings).items():
        counts[instrument] = len(notes)
        (folder / "notes" / instrument).mkdir(parents=True)
        for place, (pitch, recording) in enumerate(sorted(notes.items())):
            samples = torch.from_numpy(font.samples(recording)[: round(SECONDS * recording.rate)] / 2**15)
            waveform = resample(samples.float()[:, None], recording.rate, RATE)
            path = f"notes/{instrument}/{pitch:03}.flac"
            with Writer(folder / path, WriterConfig(RATE)) as writer:
                writer.write(waveform.clamp(-1, 1))
            rows.append(f"{path},{instrument},{place % FOLDS + 1}")
    (folder / "notes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {"notes": counts}


def notes_by_instrument(recordings: Iterable[Recording]) -> dict[str, dict[int, Recording]]:
    """Find the notes: recordings whose names end in a pitch; of two channels the left one.

    Args:
        recordings: Of a sound font.

    Returns:
        Instrument, in small letters with underscores, to pitch in semitones to the first recording of it, of
        instruments with `FEWEST` pitches or more, in alphabetical order.
    """
    found: dict[str, dict[int, Recording]] = {}
    for recording in recordings:
        match = _NAME.fullmatch(recording.name)
        if match is None or recording.channel == "right":
            continue
        instrument = re.sub(r"[^a-z0-9]+", "_", match[1].lower()).strip("_")
        pitch = 12 * (int(match[3]) + 1) + _OCTAVE.index(match[2].upper())
        found.setdefault(instrument, {}).setdefault(pitch, recording)
    return {name: notes for name, notes in sorted(found.items()) if len(notes) >= FEWEST}


PREPARATION = Preparation(
    name="instruments",
    version=1,
    source=DebSource(
        package="fluid-soundfont-gm",
        version="3.1-5.3",
        filename="fluid-soundfont-gm_3.1-5.3_all.deb",
        sha256="6f531493ac4e4d9772fd96b2488ea1790af81c196135fbdd25997da0781fc60e",
    ),
    members=(f"usr/share/sounds/sf2/{_FONT}",),
    build=build,
)
prepare = partial(prepare_set, PREPARATION)
