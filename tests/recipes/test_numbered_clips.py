"""Sets of numbered clips, on tiny clips in the layout that YouTubeMix and Beethoven are released in."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.audio.beethoven.prepare import PREPARATION as BEETHOVEN
from recipes.audio.numbered_clips import RATE, NumberedClips, prepare_clips
from recipes.audio.youtubemix.prepare import PREPARATION as YOUTUBEMIX
from seqmamba.errors import UserError

TINY = replace(YOUTUBEMIX, count=50, seconds=0.1)


def write_clips(folder: Path, clips: NumberedClips = TINY, frames: int = 800) -> Path:
    folder.mkdir(parents=True)
    for number in range(clips.count):
        wave = 0.1 * np.random.default_rng(number).standard_normal(frames)
        soundfile.write(folder / clips.file(number), wave, RATE)
    return folder


def parts(folder: Path) -> list[tuple[str, str]]:
    with (folder / "clips.csv").open() as file:
        return [(row["path"], row["split"]) for row in csv.DictReader(file)]


def test_the_published_splits() -> None:
    def counts(clips: NumberedClips) -> list[int]:
        found = [clips.part_of(number) for number in range(clips.count)]
        assert found == sorted(found, key=("train", "validation", "test").index)  # in order
        return [found.count(part) for part in ("train", "validation", "test")]

    assert counts(YOUTUBEMIX) == [212, 14, 15]
    assert counts(BEETHOVEN) == [3808, 260, 260]
    assert YOUTUBEMIX.file(7) == "out007.wav"
    assert BEETHOVEN.file(4327) == "4327.wav"


@pytest.mark.parametrize("layout", ["zip", "folder", "folder in a folder"])
def test_a_copy_on_disk_makes_the_set(tmp_path: Path, layout: str) -> None:
    source = write_clips(tmp_path / "copy" / "youtube_mix")
    released = (source / "out000.wav").read_bytes()
    if layout == "zip":
        with zipfile.ZipFile(tmp_path / "youtube_mix.zip", "w") as archive:
            for path in source.iterdir():
                archive.write(path, f"youtube_mix/{path.name}")
        source = tmp_path / "youtube_mix.zip"
    elif layout == "folder in a folder":
        source = source.parent
    folder = prepare_clips(TINY, tmp_path / "data", source)
    rows = parts(folder)
    assert rows[0] == ("clips/out000.wav", "train")
    assert [part for _, part in rows] == ["train"] * 44 + ["validation"] * 3 + ["test"] * 3
    assert (folder / "clips/out000.wav").read_bytes() == released
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["summary"] == {"clips": 50, "minutes": {"train": 0.0, "validation": 0.0, "test": 0.0}}
    assert len(manifest["files"]) == 51
    assert prepare_clips(TINY, tmp_path / "data") == folder  # neither copy nor network is needed again


@pytest.mark.parametrize(
    ("frames", "rate", "channels", "message"),
    [
        (800, 8000, 1, r"out003\.wav: expected one channel of 16000 Hz, at most 0\.1 s, got 1 of 8000 Hz"),
        (800, RATE, 2, "got 2 of 16000 Hz"),
        (1700, RATE, 1, r"got 1 of 16000 Hz, 0\.106"),
    ],
)
def test_other_sound_is_refused_and_leaves_nothing(
    tmp_path: Path, frames: int, rate: int, channels: int, message: str
) -> None:
    source = write_clips(tmp_path / "copy")
    soundfile.write(source / "out003.wav", np.zeros((frames, channels)), rate)
    with pytest.raises(UserError, match=message):
        prepare_clips(TINY, tmp_path / "data", source)
    assert not (tmp_path / "data" / "youtubemix").exists()


def test_a_missing_clip_or_copy_is_named(tmp_path: Path) -> None:
    source = write_clips(tmp_path / "copy")
    (source / "out049.wav").unlink()
    with pytest.raises(UserError, match=r"does not hold out049\.wav"):
        prepare_clips(TINY, tmp_path / "data", source)
    with pytest.raises(UserError, match="nowhere: is not a zip file"):
        prepare_clips(TINY, tmp_path / "data", tmp_path / "nowhere")


def test_without_a_copy_the_archive_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_clips(tmp_path / "copy")

    def download(self, folder):
        with zipfile.ZipFile(folder / self.filename, "w") as archive:
            for path in source.iterdir():
                archive.write(path, f"youtube_mix/{path.name}")
        assert self.url == YOUTUBEMIX.archive
        return folder / self.filename

    monkeypatch.setattr("recipes.sources.UrlSource.download", download)
    assert len(parts(prepare_clips(TINY, tmp_path / "data"))) == 50
