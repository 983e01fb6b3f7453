from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.files import read_audio, read_info, stream_audio
from seqmamba.errors import UserError

RATE = 8_000


@pytest.fixture
def samples() -> np.ndarray:
    """3.5 s of two different channels, on the 16-bit grid so that WAV and FLAC keep them exactly."""
    generator = np.random.default_rng(0)
    return generator.integers(-20_000, 20_000, (28_000, 2)).astype(np.float32) / 32_768


@pytest.fixture(params=["wav", "flac"])
def recording(request: pytest.FixtureRequest, tmp_path: Path, samples: np.ndarray) -> Path:
    path = tmp_path / f"sound.{request.param}"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path


def test_info(recording: Path) -> None:
    info = read_info(recording)
    assert (info.sample_rate, info.channels, info.length, info.seconds) == (RATE, 2, 28_000, 3.5)
    assert info.encoding == f"{recording.suffix[1:].upper()} PCM_16"
    assert info.path == recording


def test_a_whole_recording(recording: Path, samples: np.ndarray) -> None:
    waveform, rate = read_audio(recording)
    assert rate == RATE
    assert waveform.dtype == torch.float32
    assert np.array_equal(waveform.numpy(), samples)


@pytest.mark.parametrize(
    ("start", "seconds", "first", "last"), [(0.5, 1.0, 4_000, 12_000), (3.0, None, 24_000, 28_000)]
)
def test_a_stretch_is_exact(
    recording: Path, samples: np.ndarray, start: float, seconds: float | None, first: int, last: int
) -> None:
    waveform, _ = read_audio(recording, start=start, seconds=seconds)
    assert np.array_equal(waveform.numpy(), samples[first:last])


def test_mono_is_the_average(recording: Path, samples: np.ndarray) -> None:
    waveform, _ = read_audio(recording, mono=True)
    assert waveform.shape == (28_000, 1)
    np.testing.assert_allclose(waveform[:, 0].numpy(), samples.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("block", [0.25, 1 / 3, 1.0, 10.0])
def test_blocks_make_up_the_recording(recording: Path, block: float) -> None:
    whole, _ = read_audio(recording, start=0.1, seconds=3.0)
    blocks = list(stream_audio(recording, block, start=0.1, seconds=3.0))
    assert all(len(piece) == round(block * RATE) for piece in blocks[:-1])
    assert torch.equal(torch.cat(blocks), whole)


def test_vorbis_is_read(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "sound.ogg"
    soundfile.write(path, samples * 0.1, RATE, format="OGG", subtype="VORBIS")
    assert read_audio(path, seconds=1.0)[0].shape == (8_000, 2)


def test_streaming_holds_one_block(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", samplerate=16_000, channels=1, subtype="PCM_16") as out:
        for _ in range(20):
            out.write(np.zeros(16_000 * 60, dtype=np.float32))
    script = (
        "import resource, sys; from audio.files import stream_audio\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "blocks = stream_audio(sys.argv[1], 1.0); next(blocks); before = peak()\n"
        "assert sum(1 for _ in blocks) == 1199\n"
        "assert peak() - before < 8_000, f'{peak() - before} KiB more'\n"  # the whole of it is 75,000 KiB
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -0.1}, r"start must lie within its 3\.5 s, got -0\.1 s"),
        ({"start": 4.0}, r"start must lie within its 3\.5 s, got 4\.0 s"),
        ({"start": 3.0, "seconds": 1.0}, r"3\.0 s \+ 1\.0 s reaches past its end at 3\.5 s"),
        ({"seconds": 0.0}, "seconds: expected at least one sample"),
        ({"seconds": -1.0}, "seconds: expected at least one sample"),
    ],
)
def test_a_stretch_that_is_not_there(recording: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_audio(recording, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        next(stream_audio(recording, 1.0, **options))  # type: ignore[arg-type]


def test_a_block_of_nothing(recording: Path) -> None:
    with pytest.raises(UserError, match="block: expected at least one sample"):
        next(stream_audio(recording, 0.0))


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    text, empty = tmp_path / "a.wav", tmp_path / "b.wav"
    text.write_text("not a sound")
    empty.touch()
    for path, message in (
        (text, r"a\.wav: is not a recording that can be read"),
        (empty, r"b\.wav: is empty"),
        (tmp_path / "c.wav", r"c\.wav: no such file"),
        (tmp_path, "is a folder, expected a recording"),
    ):
        with pytest.raises(UserError, match=message):
            read_info(path)


def test_a_truncated_flac_says_where(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.flac: (breaks off after sample|is damaged near sample)"):
        read_audio(path)
    with pytest.raises(UserError, match=r"cut\.flac: (breaks off after sample|is damaged near sample)"):
        list(stream_audio(path, 0.5))
