"""The preparation of drum_kits on short strokes in the layout of the package."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.files import describe
from recipes.audio.drum_kits import prepare
from recipes.audio.drum_kits.prepare import FILES, RATE, build, drums_of
from seqmamba.errors import UserError


def write_kit(folder: Path, instruments: dict[str, list[str]], namespace: str = "") -> Path:
    """Write a kit: its description, and a second of noise at 22,050 Hz with two channels for each file."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = "".join(
        f"<instrument><id>{number}</id><name>{name}</name>"
        + "".join(f"<layer><filename>{file}</filename></layer>" for file in files)
        + "</instrument>"
        for number, (name, files) in enumerate(instruments.items())
    )
    (folder / "drumkit.xml").write_text(
        f"<drumkit_info{namespace}><name>kit</name><instrumentList>{parts}</instrumentList></drumkit_info>"
    )
    for files in instruments.values():
        for file in files:
            wave = 0.1 * np.random.default_rng(0).standard_normal((22_050, 2))
            soundfile.write(folder / file, wave, 22_050)
    return folder / "drumkit.xml"


def test_the_listed_strokes() -> None:
    assert len(FILES) == 470
    assert len({name.partition("/")[0] for name in FILES}) == 12


def test_types_by_the_names_of_instruments(tmp_path: Path) -> None:
    names = {
        "BassDrum": "kick",
        'Kick (Tama Superstar 22")': "kick",
        "Pearl Snare Rimshot": "snare",
        "tomhi2": "tom",
        "Floor Tom": "tom",
        "Side OHH": "hat",
        "Hi-Hat Semiopen": "hat",
        "VariBreaks Hat 1 Pd": "hat",
        'Ride (Custom, Zagrebin 22")': "cymbal",
        "ride-cup": "cymbal",
        "Paiste Bell": "cymbal",
        "Rim Click": None,
        "Sangban1 Bell Hit": None,
        "Tambourine": None,
        "Hand Clap": None,
        "": None,
    }
    instruments = {name.replace('"', "&quot;"): [f"{number}.wav"] for number, name in enumerate(names)}
    for namespace in ("", ' xmlns="http://www.hydrogen-music.org/drumkit"'):
        found = dict(drums_of(write_kit(tmp_path / "kit", instruments, namespace)))
        expected = {f"{n}.wav": label for n, label in enumerate(names.values()) if label is not None}
        assert found == expected


def test_an_instrument_of_two_types_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'snare and tom' could be snare or tom"):
        list(drums_of(write_kit(tmp_path / "two", {"Snare and Tom": ["x.wav"]})))
    description = write_kit(tmp_path / "gone", {"Snare": ["x.wav", "y.wav"]})
    (tmp_path / "gone" / "y.wav").unlink()
    assert list(drums_of(description)) == [("x.wav", "snare")]


def test_strokes_become_one_channel_and_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked, folder = tmp_path / "unpacked", tmp_path / "set"
    folder.mkdir()
    write_kit(unpacked / "A kit 1.0", {"Kick": ["soft.wav", "very hard.wav"], "Hand Clap": ["c.wav"]})
    write_kit(unpacked / "B", {"Closed HH": ["h.flac"], "Crash": ["h2.flac"]})
    files = ("A kit 1.0/soft.wav", "A kit 1.0/very hard.wav", "B/h.flac", "B/h2.flac")
    monkeypatch.setattr(prepare, "FILES", files)
    monkeypatch.setattr(prepare, "SECONDS", 0.5)
    summary = build(unpacked, folder)
    assert summary == {"strokes": {"kick": 2, "hat": 1, "cymbal": 1}, "kits": 2}
    with (folder / "strokes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows][1:3] == ["strokes/A_kit_1.0/very_hard.flac", "strokes/B/h.flac"]
    assert Counter(row["group"] for row in rows) == {"A_kit_1.0": 2, "B": 2}
    infos = [describe(folder / row["path"]) for row in rows]
    assert {(info.rate, info.channels, info.frames) for info in infos} == {(RATE, 1, RATE // 2)}
    monkeypatch.setattr(prepare, "FILES", files[1:])
    with pytest.raises(UserError, match=r"do not agree about A kit 1\.0/soft\.wav"):
        build(unpacked, tmp_path)


def test_no_two_strokes_get_one_name() -> None:
    names = [
        (prepare._plain(kit), prepare._plain(Path(file).stem))
        for kit, _, file in (name.partition("/") for name in FILES)
    ]
    assert len(set(names)) == len(FILES)
