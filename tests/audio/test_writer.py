from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest
import soundfile
import torch

from audio.files import Writer, WriterConfig, describe, read
from audio.writer import _downgrade
from seqmamba.errors import UserError

RATE = 16_000


def _waveform(length: int = 10_001, channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-20_000, 20_000, (length, channels), generator=generator) / 32_768


@pytest.mark.parametrize("suffix", [".wav", ".w64", ".flac"])
@pytest.mark.parametrize("frames", [None, 10_001])
def test_what_is_written_in_blocks_is_read_back(tmp_path: Path, suffix: str, frames: int | None) -> None:
    path, waveform = tmp_path / f"new/sound{suffix}", _waveform()
    with Writer(path, WriterConfig(RATE, 2, frames=frames)) as writer:
        for block in waveform.split(997):
            writer.write(block)
            assert not path.exists()
    assert writer.frames == 10_001
    assert torch.equal(read(path), waveform)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_lossy_formats(tmp_path: Path, suffix: str) -> None:
    tone = 0.5 * torch.sin(torch.arange(200_000) / 20)[:, None]
    with Writer(tmp_path / f"sound{suffix}", WriterConfig(RATE)) as writer:
        writer.write(tone)
    assert (read(writer.path)[:200_000] - tone).abs().max() < 0.05


@pytest.mark.parametrize(("encoding", "error"), [("PCM_16", 2e-5), ("PCM_24", 1e-7), ("FLOAT", 0)])
def test_encodings(tmp_path: Path, encoding: str, error: float) -> None:
    waveform = torch.rand(1_000, 1, generator=torch.Generator().manual_seed(0)) - 0.5
    with Writer(tmp_path / "a.wav", WriterConfig(RATE, encoding=encoding)) as writer:  # type: ignore[arg-type]
        writer.write(waveform)
    assert (read(writer.path) - waveform).abs().max() <= error


def test_a_short_file_of_unknown_length_is_plain_wav(tmp_path: Path) -> None:
    path, waveform = tmp_path / "a.wav", _waveform()
    with Writer(path, WriterConfig(RATE, 2)) as writer:
        writer.write(waveform)
    head = path.read_bytes()[:16]
    assert (head[:4], head[8:16]) == (b"RIFF", b"WAVEJUNK")
    assert struct.unpack("<I", head[4:8])[0] == path.stat().st_size - 8
    assert describe(path).format.startswith("WAV")
    known = tmp_path / "b.wav"
    with Writer(known, WriterConfig(RATE, 2, frames=10_001)) as writer:
        writer.write(waveform)
    with wave.open(str(known)) as file:  # of the standard library
        assert file.getparams()[:4] == (2, 2, RATE, 10_001)


def test_a_file_beyond_four_gibibytes_stays_rf64(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    config = WriterConfig(RATE, 1, frames=2**31 + 1)
    with Writer(path, config) as writer:
        writer.write(torch.zeros(100, 1))
        # A hole instead of 4 GiB of samples; the header's table must count beyond 32 bits.
        writer._sound.seek(2**31)
        writer.write(torch.full((1, 1), 0.5))
    with path.open("rb") as file:
        assert file.read(4) == b"RF64"
    assert describe(path).frames == 2**31 + 1
    assert read(path, start=2**31, frames=1).item() == 0.5


def test_an_interruption_leaves_nothing_or_what_was_written(tmp_path: Path) -> None:
    for keep in (False, True):
        path = tmp_path / f"{keep}.wav"

        def write(path: Path = path, keep: bool = keep) -> None:
            with Writer(path, WriterConfig(RATE, 2, keep_unfinished=keep)) as writer:
                writer.write(_waveform(5_000))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write()
    assert [file.name for file in tmp_path.iterdir()] == ["True.wav"]
    assert torch.equal(read(tmp_path / "True.wav"), _waveform(5_000))


def test_loud_samples_are_clipped(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.wav", WriterConfig(RATE)) as writer:
        writer.write(torch.tensor([[3.0], [-3.0]]))
    assert read(writer.path).flatten().tolist() == [1 - 2**-15, -1]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.xyz: expected a name that ends in \.wav, \.w64, \.flac"):
        Writer(tmp_path / "a.xyz", WriterConfig(RATE))
    with pytest.raises(UserError, match=r"a\.flac: a FLAC file cannot hold FLOAT samples"):
        Writer(tmp_path / "a.flac", WriterConfig(RATE, encoding="FLOAT"))
    with pytest.raises(UserError, match=r"a\.mp3: cannot be written with 1 channels of 12345 Hz"):
        Writer(tmp_path / "a.mp3", WriterConfig(12_345))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Writer(tmp_path / "file/a.wav", WriterConfig(RATE))
    with Writer(tmp_path / "a.wav", WriterConfig(RATE, 2)) as writer:
        with pytest.raises(UserError, match=r"expected samples \(length, 2\), got \(5, 1\)"):
            writer.write(torch.zeros(5, 1))
        with pytest.raises(UserError, match="no finite number"):
            writer.write(torch.full((5, 2), torch.nan))
        writer.write(torch.zeros(1, 2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.wav", "file"]


def test_other_chunks_survive_the_change_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _waveform(10, 1).numpy(), RATE, format="RF64", subtype="PCM_16")
    _downgrade(path)
    assert torch.equal(read(path), _waveform(10, 1))
