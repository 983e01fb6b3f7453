from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.cli import inspect
from audio.inventory import Copies, take_inventory
from audio.inventory_report import as_dict, as_text
from audio.manifests import Clip, find_clips
from audio.measurements import measure
from seqmamba.errors import UserError

RATE = 8_000


def _tone(seconds: float = 0.5, hertz: float = 300, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * hertz * time)
    return np.repeat(np.round(tone * 2**15) / 2**15, channels).reshape(-1, channels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, and one file of each kind that goes wrong."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    soundfile.write(tmp_path / "cat/good.wav", _tone(hertz=200), RATE)
    soundfile.write(tmp_path / "cat/copied.wav", _tone(), RATE)
    soundfile.write(tmp_path / "dog/copy.flac", _tone(), RATE)
    soundfile.write(tmp_path / "dog/silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "dog/clipped.wav", np.clip(3 * _tone(hertz=90), -1, 1), RATE)
    soundfile.write(tmp_path / "dog/off.wav", 0.1 + 0.2 * _tone(hertz=70), RATE)
    soundfile.write(tmp_path / "dog/fast.wav", _tone(channels=2), 2 * RATE)
    soundfile.write(tmp_path / "dog/misnamed.wav", _tone(hertz=111), RATE, format="FLAC")
    (tmp_path / "dog/text.wav").write_text("not a sound")
    (tmp_path / "dog/empty.wav").touch()
    cut = (tmp_path / "cat/good.wav").read_bytes()
    (tmp_path / "dog/cut.wav").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "notes.txt").touch()
    return tmp_path


def _names(files: object) -> list[str]:
    return [file.path.name for file in files]  # type: ignore[attr-defined]


def test_everything_that_is_wrong_is_found(folder: Path) -> None:
    inventory = take_inventory(find_clips(folder), progress=False)
    assert _names(inventory.unreadable) == ["cut.wav", "empty.wav", "text.wav"]
    assert len(inventory.readable) == 8
    assert _names(inventory.silent) == ["silent.wav"]
    assert _names(inventory.clipped) == ["clipped.wav"]
    assert _names(inventory.off_zero) == ["off.wav"]
    assert _names(inventory.misnamed) == ["misnamed.wav"]
    copied = (folder / "cat/copied.wav", folder / "dog/copy.flac")
    assert inventory.copies == [Copies(copied, (), ("cat", "dog"))]
    assert inventory.seconds.sum() == pytest.approx(0.5 * 6 + 1 + 0.25)


def test_the_page_names_what_is_wrong(folder: Path) -> None:
    text = as_text(take_inventory(find_clips(folder), progress=False))
    assert "11 files, 3 cannot be read" in text
    assert "8000 Hz: 7, 16000 Hz: 1" in text
    assert f"{folder}/dog/empty.wav: is empty (0 bytes)" in text
    assert "is truncated: its header promises 8,000 bytes of samples" in text
    assert "misnamed.wav  holds FLAC" in text
    assert "copies with several labels:" in text
    assert "copies in several parts" not in text
    assert "several sampling rates: training brings all to one:\n  8000\n  16000" in text


def test_a_copy_across_parts_is_a_leak(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", _tone(), RATE)
    parts = {"a": "train", "b": "test", "c": "test"}
    clips = [Clip(tmp_path / f"{name}.wav", split=part) for name, part in parts.items()]
    inventory = take_inventory(clips, progress=False)
    assert inventory.copies[0].parts == ("test", "train")
    assert "a leak" in as_text(inventory)
    assert take_inventory(clips[1:], progress=False).copies[0].parts == ()


def test_nothing_wrong_is_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", _tone(), RATE)
    text = as_text(take_inventory(find_clips(tmp_path), progress=False))
    assert text.endswith("nothing is wrong with these recordings")


def test_only_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    inventory = take_inventory(find_clips(tmp_path), progress=False)
    assert "1 files, 1 cannot be read" in as_text(inventory)
    assert as_dict(inventory)["durations"] == {}


def test_stretches_that_reach_past_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _tone(), RATE)
    clips = [
        Clip(path, 0.1, 0.4),
        Clip(path, 0.25, 0.26),
        Clip(path, 0.3, 1.0),
        Clip(path, 0.5, source="t:4"),
    ]
    outside = take_inventory(clips, progress=False).outside
    assert outside == [
        f"{path}: ends at 1.3 s, but a.wav ends at 0.5 s; times are in seconds",
        "t:4: begins at 0.5 s, but a.wav ends at 0.5 s; times are in seconds",
    ]


@pytest.mark.parametrize("block", [3, 7, 100_000])
def test_runs_at_full_scale_are_counted_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    samples = np.zeros(50)
    samples[5:9] = 1.0  # a run of four
    samples[20:22] = -1.0  # too short
    samples[40:43] = -1.0
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    monkeypatch.setattr("audio.measurements._block_size", lambda rate: block)
    assert measure(tmp_path / "a.wav").clipped == pytest.approx(7 / 50)


def test_level_and_silence(tmp_path: Path) -> None:
    half = np.concatenate([_tone(1.0, 400), np.zeros((RATE, 1))])
    soundfile.write(tmp_path / "a.wav", half, RATE)
    found = measure(tmp_path / "a.wav")
    assert found.silent == pytest.approx(0.5)
    assert found.peak == 0.5
    assert found.rms_db == pytest.approx(20 * np.log10(0.5 / 2), abs=0.01)  # a sine, half of the time


def test_stopping_at_the_first(folder: Path) -> None:
    with pytest.raises(UserError, match=r"(cut|empty|text)\.wav: "):
        take_inventory(find_clips(folder), stop=True, progress=False)
    with pytest.raises(UserError, match="expected recordings, got none"):
        take_inventory([])


def _run(*words: str) -> int | None:
    parser = argparse.ArgumentParser()
    inspect.add_arguments(parser)
    return inspect.run(parser.parse_args(words))


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, table = tmp_path / "out/found.json", tmp_path / "out/files.tsv"
    assert _run(str(folder), "--json", str(out), "--tsv", str(table)) == 0
    printed = capsys.readouterr().out
    assert "11 files, 3 cannot be read" in printed
    assert "passed over, no recordings by their names or place: 1 (notes.txt)" in printed
    found = json.loads(out.read_text())
    assert found["clips"] == 11
    assert found["labels"] == {"dog": 9, "cat": 2}
    assert set(found["unreadable"]) == {f"{folder}/dog/{name}.wav" for name in ("cut", "empty", "text")}
    lines = list(csv.DictReader(table.read_text().splitlines(), delimiter="\t"))
    assert len(lines) == 11
    by_name = {Path(line["file"]).name: line for line in lines}
    assert by_name["good.wav"]["seconds"] == "0.5"
    assert by_name["empty.wav"]["problem"].endswith("is empty (0 bytes)")
    with pytest.raises(UserError, match="is a folder, expected the file to write"):
        _run(str(folder), "--json", str(tmp_path))
    with pytest.raises(UserError, match=r"files\.tsv: exists already"):
        _run(str(folder), "--tsv", str(table))
    assert _run(str(folder), "--tsv", str(table), "--overwrite") == 0
