"""Players and figures of recordings, and the bytes that they may take."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import reported_runs as runs
import soundfile
import torch

from audio.files import read
from audio.plots import COLUMNS, clock, log_mel, sound
from audio.report import sounds as sounds_module
from audio.report.sounds import Shown, SoundConfig, Sounds, encode, playing_rate, short_titles
from seqmamba.errors import UserError


def section(sounds: Sounds, *paths: Path | str) -> str:
    html = sounds.section("Title", "", [Shown(str(path), Path(path).name) for path in paths])
    assert html is not None
    return html


@pytest.mark.parametrize(
    ("rate", "played"),
    [(8000, 8000), (16_000, 16_000), (22_050, 22_050), (24_000, 24_000), (44_100, 22_050), (48_000, 24_000),
     (192_000, 24_000), (4000, 8000), (1, 8000)],
)  # fmt: skip
def test_the_rate_is_one_that_browsers_play(rate: int, played: int) -> None:
    assert playing_rate(rate) == played


def test_a_player_holds_the_samples_to_16_bits(tmp_path: Path) -> None:
    path = runs.sound(tmp_path / "a.wav", seconds=0.5)
    ((seconds, rate, data),) = runs.players(section(Sounds(SoundConfig()), path))
    assert (seconds, rate) == (0.5, runs.RATE)
    found, _ = soundfile.read(io.BytesIO(data))
    np.testing.assert_allclose(found, read(path)[:, 0].numpy(), atol=2**-15)


def test_long_fast_and_stereo_recordings_are_cut_and_it_is_said(tmp_path: Path) -> None:
    path = runs.sound(tmp_path / "a.wav", seconds=3, rate=44_100, channels=2)
    html = section(Sounds(SoundConfig(seconds=1)), path)
    ((seconds, rate, _),) = runs.players(html)
    assert (seconds, rate) == (1.0, 22_050)
    assert "the first 1 of 3 s, 2 channels averaged, 44,100 Hz brought to 22,050 Hz" in html


def test_players_stay_in_their_budget(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    for path in paths:  # noise cannot be made small
        soundfile.write(path, rng.uniform(-1, 1, 2 * runs.RATE), runs.RATE)
    sounds = Sounds(SoundConfig(megabytes=0.1))
    html = section(sounds, *paths)
    assert len(runs.players(html)) == 2
    assert html.count("No player: the page is full.") == 3
    assert len(runs.pictures(html)) == 5, "they are drawn all the same"
    assert len(html) < 100_000 + 5 * 60_000
    assert "3 recordings beyond 0.1 MB cannot be played here." in str(sounds.note())
    assert "at most 10 s" in str(sounds.note())


@pytest.mark.parametrize(
    ("samples", "rate"), [(1, 8000), (2, 44_100), (COLUMNS, 8000), (COLUMNS + 1, 8000), (50, 100), (9, 1)]
)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_any_recording_can_be_drawn_and_played(tmp_path: Path, samples: int, rate: int, level: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, level * np.cos(np.arange(samples)), rate)
    sounds = Sounds(SoundConfig())
    html = section(sounds, path)
    ((seconds, played, _),) = runs.players(html)
    assert seconds == pytest.approx(samples / rate, abs=1 / played)
    assert len(runs.pictures(html)) == 1
    assert "<title>Waveform and log-mel spectrogram of a.wav" in html
    assert ("silent" in html) == (level < 1)


def test_without_torchaudio_there_are_waveforms_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("torchaudio cannot be imported: no such library")

    monkeypatch.setattr(sounds_module, "log_mel", fail)
    sounds = Sounds(SoundConfig())
    html = section(sounds, runs.sound(tmp_path / "a.wav"), runs.sound(tmp_path / "b.wav"))
    assert len(runs.players(html)) == 2
    assert not runs.pictures(html)
    note = str(sounds.note())
    assert note.count("No spectrograms: torchaudio cannot be imported") == 1


def test_stretches_of_a_recording_are_those_that_its_name_tells(tmp_path: Path) -> None:
    path = runs.sound(tmp_path / "a:1-2.wav", seconds=2)
    whole = read(path)[:, 0].numpy()
    html = section(Sounds(SoundConfig()), path, f"{path}:0.5-0.75", f"{path}:1.5-")
    found = [soundfile.read(io.BytesIO(data))[0] for _, _, data in runs.players(html)]
    for wave, expected in zip(found, (whole, whole[4000:6000], whole[12_000:]), strict=True):
        np.testing.assert_allclose(wave, expected, atol=2**-15)


def test_moved_recordings_are_found_by_name_and_folder_unless_there_are_two(tmp_path: Path) -> None:
    for folder in ("dog", "cat"):
        runs.sound(tmp_path / "new" / folder / "1.wav")
    runs.sound(tmp_path / "new" / "dog" / "2.wav")
    sounds = Sounds(SoundConfig(recordings=(tmp_path / "new",)))
    assert sounds.find("old/dog/1.wav") == (tmp_path / "new/dog/1.wav", 0.0, None)
    assert sounds.find("other/2.wav:1-3") == (tmp_path / "new/dog/2.wav", 1.0, 2.0)
    assert sounds.find("old/1.wav") is None
    assert sounds.find("old/dog/3.wav") is None


def test_titles_leave_out_what_all_names_share() -> None:
    assert short_titles(["/a/b/dog/1.wav", "/a/b/cat/1.wav:0-1"]) == ["dog/1.wav", "cat/1.wav:0-1"]
    assert short_titles(["/a/b/1.wav"]) == ["1.wav"]
    assert short_titles(["1.wav", "x/2.wav"]) == ["1.wav", "x/2.wav"]
    assert short_titles([]) == []


def test_encoding_clips_instead_of_wrapping() -> None:
    encoded = encode(torch.tensor([2.0, -2.0, 0.5]), 8000)
    ((_, _, data),) = runs.players(f'<audio src="{encoded}">')
    assert soundfile.read(io.BytesIO(data))[0] == pytest.approx([1, -1, 0.5], abs=2**-14)


def test_a_spectrogram_has_its_tone_where_it_belongs() -> None:
    wave = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    found = log_mel(wave, 16_000)
    assert found.rows.shape == (100, 64)
    axes = sound(wave, 16_000, found, start=5.0).axes[1]
    named = dict(zip((text.get_text() for text in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    loudest = found.rows.mean(axis=0).argmax() + 0.5
    assert named["1 k"] == pytest.approx(loudest, abs=1)
    (image,) = axes.images
    assert image.get_extent() == [5.0, 6.0, 0, 64]
    assert axes.get_xlim() == (5.0, 6.0)
    assert len(log_mel(torch.zeros(60 * 8000), 8000).rows) == COLUMNS


def test_times_are_as_on_a_clock() -> None:
    assert [clock(t) for t in (0, 59.6, 65, 3600, 7265.2)] == ["0:00", "1:00", "1:05", "1:00:00", "2:01:05"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": -1}, "clips: expected a whole number >= 0, got -1"),
        ({"seconds": 0}, "seconds: expected a number > 0, got 0"),
        ({"megabytes": float("nan")}, "megabytes: expected a number > 0, got nan"),
    ],
)
def test_limits_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SoundConfig(**options)
