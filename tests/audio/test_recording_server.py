"""What a server with a classifier of recordings makes of the bodies of requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.predictions import PredictConfig, predict_files
from audio.serving import answerer
from seqmamba.errors import UserError
from seqmamba.serving.answering import answer_bodies
from seqmamba.serving.limits import Limits


def tone(path: Path, seconds: float, rate: int = 16_000) -> Path:
    times = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 440 * times), rate, format="WAV")
    return path


@pytest.fixture(scope="module")
def model() -> WaveformClassifier:
    torch.manual_seed(0)
    return WaveformClassifier(WaveformClassifierConfig(classes=("a", "b"))).eval()


def test_the_numbers_are_those_of_predict(model: WaveformClassifier, tmp_path: Path) -> None:
    found = answerer(model, Limits())
    assert found is not None
    recording = tone(tmp_path / "body", 0.5)
    noise = tmp_path / "noise"
    noise.write_bytes(b"no recording")
    good, bad = answer_bodies(found, [recording, noise])
    predict_files(model, [recording], tmp_path / "table.tsv", PredictConfig())
    row = (tmp_path / "table.tsv").read_text().splitlines()[1].split("\t")
    assert good.status == 200
    assert list(good.rows[0]["probabilities"].values()) == pytest.approx(
        [float(x) for x in row[4:]], abs=1e-6
    )
    assert bad.status == 400
    assert str(tmp_path) not in bad.error


def test_long_recordings_are_refused_before_they_are_decoded(
    model: WaveformClassifier, tmp_path: Path
) -> None:
    found = answerer(model, Limits(audio_seconds=1))
    assert found is not None
    with pytest.raises(UserError, match="at most 1 seconds of sound, got 3"):
        found.read(tone(tmp_path / "long", 3.0))
    wide = tmp_path / "wide"
    soundfile.write(wide, np.zeros((16_000, 10), dtype=np.float32), 16_000, format="WAV")
    with pytest.raises(UserError, match="at most 96,000 samples of all channels, got 160,000"):
        found.read(wide)


def test_many_recordings_at_once_are_decoded_in_groups(
    model: WaveformClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answerer(model, Limits())
    assert found is not None
    recordings = [tone(tmp_path / str(number), 0.1 * (number + 1)) for number in range(4)]
    together = answer_bodies(found, recordings)
    monkeypatch.setattr("audio.serving._SAMPLES_TOGETHER", 4_000)
    apart = answer_bodies(found, recordings)
    for one, other in zip(together, apart, strict=True):
        assert one.rows[0]["probabilities"] == pytest.approx(other.rows[0]["probabilities"], abs=1e-5)


def test_other_models(model: WaveformClassifier) -> None:
    assert answerer(nn.Linear(1, 1), Limits()) is None
    tagger = WaveformClassifier(WaveformClassifierConfig(task="tagging", classes=("beep",)))
    with pytest.raises(UserError, match="tags frames"):
        answerer(tagger, Limits())
