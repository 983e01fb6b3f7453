from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio.files import AudioInfo, describe, read
from audio.manifests import Clip
from audio.resampling import resample
from audio.segments import cut_clips, place_of, read_segment
from seqmamba.errors import UserError

RATE = 8_000


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> AudioInfo:
    noise = np.random.default_rng(0).standard_normal((9_999, 2)).astype(np.float32) * 0.1
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    soundfile.write(path, noise, RATE, subtype="FLOAT")
    return describe(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([8_000, 16_000, 4_000, 11_025, 7_999]), st.floats(0, 1), st.floats(0, 1))
def test_a_stretch_is_that_of_the_whole(info: AudioInfo, rate: int, begin: float, share: float) -> None:
    whole = resample(read(info.path), RATE, rate)
    start = int(begin * (len(whole) - 1))
    frames = 1 + int(share * (len(whole) - start - 1))
    stretch = read_segment(info, rate, start, frames)
    torch.testing.assert_close(stretch, whole[start : start + frames], atol=1e-6, rtol=0)


def test_only_what_is_needed_is_decoded(info: AudioInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(path: Path, *, start: int, frames: int) -> torch.Tensor:
        asked.append(frames)
        return read(path, start=start, frames=frames)

    monkeypatch.setattr("audio.segments.read", spy)
    read_segment(info, 16_000, 8_000, 100)
    assert asked[0] < 80
    assert read_segment(info, 16_000).shape == (19_998, 2)


def test_a_stretch_that_is_not_there(info: AudioInfo) -> None:
    for start, frames in ((19_000, 1_000), (-1, 5), (0, 0)):
        with pytest.raises(UserError, match=r"at 16000 Hz are not within its 19,998"):
            read_segment(info, 16_000, start, frames)


def test_places_of_clips(info: AudioInfo) -> None:
    whole = place_of(Clip(info.path), info, 16_000)
    assert (whole.start, whole.frames) == (0, 19_998)
    part = place_of(Clip(info.path, 0.5, 0.25), info, 16_000)
    assert (part.start, part.frames) == (8_000, 4_000)
    to_the_end = place_of(Clip(info.path, 1.0), info, 4_000)
    assert (to_the_end.start, to_the_end.frames) == (4_000, 1_000)
    rounded = place_of(Clip(info.path, 1.0, 0.251), info, 4_000)  # a millisecond too long: tables round
    assert rounded.start + rounded.frames == 5_000
    with pytest.raises(
        UserError, match=r"begins at 5 s, but noise\.wav ends at 1\.24988 s; times are in seconds"
    ):
        place_of(Clip(info.path, 5.0), info, RATE)


@pytest.mark.parametrize(("seconds", "hop"), [(0.5, None), (0.4, 0.2), (0.3, 0.11)])
def test_stretches_cover_a_clip(info: AudioInfo, seconds: float, hop: float | None) -> None:
    clip = Clip(info.path, 0.1, 1.1, ("a",))
    cut = cut_clips([clip], [info], seconds, hop)
    starts = np.array([piece.start_seconds for piece in cut])
    assert starts[0] == 0.1
    assert starts[-1] + seconds == pytest.approx(1.2)
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= (hop or seconds) + 1e-9).all()
    assert {piece.duration_seconds for piece in cut} == {seconds}
    assert {(piece.group, piece.labels) for piece in cut} == {(str(info.path), ("a",))}


def test_short_clips_stay_whole(info: AudioInfo) -> None:
    clip = Clip(info.path, group="me")
    assert cut_clips([clip], [info], 2.0) == [clip]
    assert {piece.group for piece in cut_clips([clip], [info], 0.6)} == {"me"}
    with pytest.raises(UserError, match="hop: expected a number > 0, got 0"):
        cut_clips([clip], [info], 1.0, 0)
