"""Reading sound fonts, and the preparation of instruments, on tiny fonts in the real format."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import numpy as np
import pytest

from audio.files import describe, read
from recipes.audio.instruments.prepare import RATE, build, notes_by_instrument
from recipes.audio.instruments.soundfont import Recording, SoundFont
from seqmamba.errors import UserError

NOTE = (1, 0, RATE)  # mono, at the start of the pool, our rate


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def write_font(
    path: Path, recordings: dict[str, tuple[int, int, int]], frames: int = 400, pool: int = 1000
) -> Path:
    """Write a font: names to kind, first sample and rate; sample n of its pool is n."""
    headers = b"".join(
        struct.pack("<20sIIIIIBbHH", name.encode(), start, start + frames, 0, 0, rate, 60, 0, 0, kind)
        for name, (kind, start, rate) in recordings.items()
    )
    headers += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    samples = np.arange(pool, dtype="<i2").tobytes()
    lists = (
        chunk(b"LIST", b"INFO" + chunk(b"INAM", b"odd")),
        chunk(b"LIST", b"sdta" + chunk(b"smpl", samples)),
        chunk(b"LIST", b"pdta" + chunk(b"phdr", b"") + chunk(b"shdr", headers)),
    )
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(lists)))
    return path


def test_recordings_and_their_samples(tmp_path: Path) -> None:
    notes = {"Flute C4(L)": (4, 0, 44_100), "Flute C4(R)": (2, 500, 44_100), "Gun": (1, 100, 22_050)}
    font = SoundFont(write_font(tmp_path / "x.sf2", notes))
    assert font.recordings == [
        Recording("Flute C4(L)", 0, 400, 44_100, "left"),
        Recording("Flute C4(R)", 500, 400, 44_100, "right"),
        Recording("Gun", 100, 400, 22_050, "mono"),
    ]
    assert font.samples(font.recordings[1]).tolist() == list(range(500, 900))


def test_samples_in_an_instrument_s_memory_are_left_out(tmp_path: Path) -> None:
    font = SoundFont(write_font(tmp_path / "x.sf2", {"Rom C4": (0x8001, 0, 44_100), "Ram C4": NOTE}))
    assert [recording.name for recording in font.recordings] == ["Ram C4"]


def test_damaged_fonts_end_in_a_sentence(tmp_path: Path) -> None:
    whole = write_font(tmp_path / "x.sf2", {"Flute C4": NOTE}).read_bytes()
    (tmp_path / "wav.sf2").write_bytes(whole[:8] + b"WAVE" + whole[12:])
    (tmp_path / "short.sf2").write_bytes(whole[:-50])
    (tmp_path / "empty.sf2").write_bytes(chunk(b"RIFF", b"sfbk"))
    write_font(tmp_path / "outside.sf2", {"Flute C4": (1, 700, RATE)})
    for name, message in {
        "wav": "is no sound font",
        "short": "breaks off at byte",
        "empty": "is no sound font with recordings",
        "outside": "the recording 'Flute C4' does not lie in it",
    }.items():
        with pytest.raises(UserError, match=message):
            SoundFont(tmp_path / f"{name}.sf2")
    cut = whole.replace(b"shdr\x5c\0\0\0", b"shdr\x5a\0\0\0")  # two headers of 46 bytes; now 90
    (tmp_path / "cut.sf2").write_bytes(cut)
    with pytest.raises(UserError, match="its list of recordings breaks off"):
        SoundFont(tmp_path / "cut.sf2")


def test_names_become_instruments_and_pitches() -> None:
    def named(*names: str, channel: str = "mono") -> list[Recording]:
        return [Recording(name, 0, 1, RATE, channel) for name in names]

    spellings = (
        "Alto C6(L)",
        "E's Bassoon F#3",
        "harmnc_e5(L)",
        "Shamisen F# 4(L)",
        "tromboneC5",
        "Strings E3L",
    )
    many = [name.replace("3", str(octave)) for octave in range(10) for name in ("E's Bassoon F#3",)]
    found = notes_by_instrument(named(*spellings, *many))
    assert list(found) == ["e_s_bassoon"]  # the others have too few notes
    assert next(iter(found["e_s_bassoon"])) == 54  # F sharp below middle C, 60
    assert len(found["e_s_bassoon"]) == 10
    assert not notes_by_instrument(named(*(f"Std Kick {n}" for n in range(10)), "Strings E3R"))
    right = [recording._replace(channel="right") for recording in named(*many)]
    assert not notes_by_instrument(right)


def test_notes_and_their_folds(tmp_path: Path) -> None:
    names = [
        f"{name} {'CDEFGA'[place % 6]}{place // 6 + 3}" for name in ("Flute", "Oboe") for place in range(11)
    ]
    unpacked, folder = tmp_path / "unpacked", tmp_path / "set"
    unpacked.mkdir()
    folder.mkdir()
    write_font(unpacked / "FluidR3_GM.sf2", dict.fromkeys((*names, "Gun", "Horn C4"), NOTE))
    assert build(unpacked, folder) == {"notes": {"flute": 11, "oboe": 11}}
    with (folder / "notes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows if row["label"] == "oboe"] == list("12345123451")
    semitones = [int(Path(row["path"]).stem) for row in rows if row["label"] == "flute"]
    assert semitones == sorted(semitones)
    assert semitones[:2] == [48, 50]
    info = describe(folder / rows[0]["path"])
    assert (info.rate, info.channels, info.frames) == (RATE, 1, 400)
    assert (read(folder / rows[0]["path"])[:, 0] * 2**15).round().tolist() == list(range(400))
