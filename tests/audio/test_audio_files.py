from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audio.files import blocks, describe, read
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


def test_description(recording: Path) -> None:
    info = describe(recording)
    assert (info.rate, info.channels, info.frames, info.seconds) == (RATE, 2, 28_000, 3.5)
    assert (info.format, info.subtype) == (recording.suffix[1:].upper(), "PCM_16")
    assert info.path == recording
    assert not info.misnamed


def test_a_whole_recording(recording: Path, samples: np.ndarray) -> None:
    waveform = read(recording)
    assert waveform.dtype == torch.float32
    assert np.array_equal(waveform.numpy(), samples)


@pytest.mark.parametrize(("start", "frames"), [(4_000, 8_000), (24_000, None), (0, 1), (27_999, 1)])
def test_a_stretch_is_exact(recording: Path, samples: np.ndarray, start: int, frames: int | None) -> None:
    waveform = read(recording, start=start, frames=frames)
    assert np.array_equal(waveform.numpy(), samples[start : start + (frames or 28_000)])


@pytest.mark.parametrize("size", [1_999, 2_000, 8_000, 80_000])
def test_blocks_make_up_the_recording(recording: Path, size: int) -> None:
    whole = read(recording, start=801, frames=24_000)
    pieces = list(blocks(recording, size, start=801, frames=24_000))
    assert all(len(piece) == size for piece in pieces[:-1])
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize(("suffix", "error"), [("ogg", 0.05), ("mp3", 0.05)])
def test_lossy_formats_seek_to_the_sample(tmp_path: Path, suffix: str, error: float) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 / 16_000 * np.arange(48_000))
    # With noise: the frames of a pure tone in MP3 borrow from further back than its decoder seeks.
    tone = (tone + 0.02 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    path = tmp_path / f"sound.{suffix}"
    soundfile.write(path, tone, 16_000)
    stretch = read(path, start=20_000, frames=1_000)[:, 0]
    torch.testing.assert_close(stretch, read(path)[20_000:21_000, 0], atol=1e-5, rtol=0)
    assert (stretch.numpy() - tone[20_000:21_000]).std() < error


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_sample_formats_have_one_scale(tmp_path: Path, samples: np.ndarray, subtype: str) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, samples, RATE, subtype=subtype)
    waveform = read(path)
    assert waveform.dtype == torch.float32
    assert np.abs(waveform.numpy() - samples).max() <= (0.04 if subtype == "ULAW" else 1 / 127)


def test_many_channels_and_a_single_sample(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.full((1, 9), 0.25, dtype=np.float32), RATE)
    assert read(path).shape == (1, 9)


@pytest.mark.parametrize("suffix", [".wav", ".raw", ".txt", ""])
def test_a_wrong_ending_does_not_matter(tmp_path: Path, samples: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"sound{suffix}"
    soundfile.write(path, samples, RATE, format="FLAC")
    assert describe(path).format == "FLAC"
    assert describe(path).misnamed == (suffix == ".wav")
    assert np.array_equal(read(path).numpy(), samples)


def test_streaming_holds_one_block(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", samplerate=16_000, channels=1, subtype="PCM_16") as out:
        for _ in range(20):
            out.write(np.zeros(16_000 * 60, dtype=np.float32))
    script = (
        "import resource, sys; from audio.files import blocks\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "pieces = blocks(sys.argv[1], 16_000); next(pieces); before = peak()\n"
        "assert sum(1 for _ in pieces) == 1199\n"
        "assert peak() - before < 8_000, f'{peak() - before} KiB more'\n"  # the whole of it is 75,000 KiB
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, r"start must lie within its 28,000 samples, got -1"),
        ({"start": 28_000}, r"start must lie within its 28,000 samples, got 28,000"),
        ({"start": 24_000, "frames": 8_000}, r"samples 24,000 to 32,000 reach past its end at 28,000"),
        ({"frames": 0}, "frames: expected a whole number >= 1"),
    ],
)
def test_a_stretch_that_is_not_there(recording: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(recording, **options)
    with pytest.raises(UserError, match=message):
        next(blocks(recording, 1_000, **options))


def test_a_block_of_nothing(recording: Path) -> None:
    with pytest.raises(UserError, match="size: expected a whole number >= 1, got 0"):
        next(blocks(recording, 0))


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    text, empty = tmp_path / "a.wav", tmp_path / "b.wav"
    text.write_text("not a sound")
    empty.touch()
    for path, message in (
        (text, r"a\.wav: is not a recording that can be read \(Format not recognised"),
        (empty, r"b\.wav: is empty"),
        (tmp_path / "c.wav", r"c\.wav: no such file"),
        (tmp_path, "is a folder, expected a recording"),
    ):
        with pytest.raises(UserError, match=message):
            describe(path)


def test_a_recording_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros((0, 1)), RATE)
    with pytest.raises(UserError, match=r"none\.wav: holds no samples"):
        describe(path)


def test_samples_that_are_no_numbers(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "nan.wav"
    samples[20_000, 1] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    assert read(path, frames=20_000).shape == (20_000, 2)
    with pytest.raises(UserError, match=r"nan\.wav: sample 20,000 is not a finite number"):
        list(blocks(path, 3_000))


def _with_data_size(path: Path, samples: np.ndarray, size: int) -> Path:
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "says that it holds 0 samples, but 112,000 bytes follow: its writer did not finish it"),
        (
            224_000,
            r"is truncated: its header promises 224,000 bytes of samples, 112,000 are there, 3\.5 of 7",
        ),
    ],
)
def test_a_header_that_disagrees_with_the_file(
    tmp_path: Path, samples: np.ndarray, size: int, message: str
) -> None:
    path = _with_data_size(tmp_path / "lie.wav", samples, size)
    with pytest.raises(UserError, match=rf"lie\.wav: {message}"):
        read(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_header_that_was_written_to_a_pipe(tmp_path: Path, samples: np.ndarray, size: int) -> None:
    path = _with_data_size(tmp_path / "pipe.wav", samples, size)
    assert np.array_equal(read(path).numpy(), samples)


def test_more_than_a_header_can_count(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    with path.open("r+b") as file:  # a hole in the file, which takes no space
        file.truncate(path.stat().st_size + 2**32)
    with pytest.raises(UserError, match=r"long\.wav: .* a WAV header cannot count beyond 4 GiB"):
        describe(path)


def test_other_chunks_behind_the_samples_are_no_lie(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "tagged.wav"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    with path.open("ab") as file:
        file.write(b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert np.array_equal(read(path).numpy(), samples)


def test_a_truncated_flac_gives_what_it_has_and_says_where(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.flac: breaks off after sample [\d,]+ of 28,000"):
        read(path)
    pieces = []
    reader = blocks(path, 1_000)
    with pytest.raises(UserError, match=r"cut\.flac: breaks off after sample"):
        pieces.extend(iter(lambda: next(reader), None))
    there = torch.cat(pieces).numpy()
    assert len(there) >= 8_000
    assert np.array_equal(there, samples[: len(there)])


def test_a_flac_that_does_not_know_its_length(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "pipe.flac"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert describe(path).frames == 28_000
    assert np.array_equal(read(path, start=27_000).numpy(), samples[27_000:])


def _seeds() -> dict[str, bytes]:
    import io

    tone = np.sin(np.arange(3_000) / 9).astype(np.float32)
    made = {}
    for name in ("WAV", "FLAC", "OGG", "AIFF", "W64", "AU", "CAF"):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone, RATE, format=name)
        made[name] = buffer.getvalue()
    return made


_SEEDS = _seeds()
_MUTATIONS = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=6)


def _must_end_well(path: Path) -> None:
    """Whatever the bytes: samples, or one sentence that begins with the file's name."""
    failure = None
    try:
        total = sum(len(piece) for piece in blocks(path, 4_096))
    except UserError as error:
        failure = error
    if failure is None:
        assert total == describe(path).frames
    else:
        assert failure.message.startswith(f"{path}: ")
        assert "\n" not in failure.message


@settings(max_examples=300, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(_SEEDS)), _MUTATIONS, st.integers(0, 6_000))
@example("WAV", [(22, 0xFF), (23, 0xFF)], 6_000)  # 65,535 channels
@example("WAV", [(24, 0), (25, 0)], 6_000)  # a rate of nothing
@example("FLAC", [(21, 0xFF), (22, 0xFF)], 6_000)  # 64 billion samples
def test_mutated_recordings(tmp_path: Path, name: str, mutations: list[tuple[int, int]], size: int) -> None:
    content = bytearray(_SEEDS[name][:size])
    for place, value in mutations:
        if place < len(content):
            content[place] = value
    path = tmp_path / "hostile.wav"
    path.write_bytes(content)
    _must_end_well(path)


@settings(max_examples=100, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"\xff\xfb", b"FORM"]), st.binary())
def test_random_bytes(tmp_path: Path, magic: bytes, content: bytes) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(magic + content)
    _must_end_well(path)
