import io
import struct

import numpy as np
import pytest
import soundfile
import torch

from audio.pcm_stream import FORMATS, PcmFormat, PcmStream
from seqmamba.errors import UserError

SUBTYPES = {"u8": "PCM_U8", "s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT"}


class Dribble(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read1(self, size=-1):
        return super().read1(min(size, 5))


def wav(samples, subtype="PCM_16", rate=8000, form="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=form)
    return file.getvalue()


def samples(channels=1, n=57):
    return np.random.default_rng(0).uniform(-1, 1, (n, channels)).astype(np.float32)


def read(stream, size=1000):
    return torch.cat(list(stream.blocks(size)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_wav_is_read_as_libsndfile_reads_it(form, channels, container):
    data = wav(samples(channels), SUBTYPES[form], 11_025, container)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    stream = PcmStream(Dribble(data))
    assert stream.format == PcmFormat(11_025, channels, form)
    assert np.array_equal(read(stream, 7), expected)


@pytest.mark.parametrize("form", FORMATS)
def test_raw_samples_are_read_in_blocks_of_any_size(form):
    file = io.BytesIO()
    soundfile.write(file, samples(2), 8000, SUBTYPES[form], format="RAW", endian="LITTLE")
    expected, _ = soundfile.read(
        io.BytesIO(file.getvalue()), dtype="float32", channels=2, samplerate=8000, subtype=SUBTYPES[form],
        format="RAW", endian="LITTLE", always_2d=True,
    )  # fmt: skip
    for size in (1, 10, 1000):
        stream = PcmStream(Dribble(file.getvalue()), PcmFormat(8000, 2, form))
        assert np.array_equal(read(stream, size), expected)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_file_of_unknown_length_goes_on_to_the_end(length):
    data = bytearray(wav(samples()))
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", length)
    assert len(read(PcmStream(io.BytesIO(bytes(data))))) == 57


def test_what_stands_behind_the_samples_is_no_sound():
    data = wav(samples()) + b"LIST" + bytes(40)
    assert len(read(PcmStream(io.BytesIO(data)))) == 57


def test_half_a_sample_at_the_end_is_left_out():
    stream = PcmStream(Dribble(bytes(2 * 10 + 1)), PcmFormat(8000))
    assert read(stream).shape == (10, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"fLaC" + bytes(100), "expected a WAV file, whose first bytes are RIFF"),
        (b"RIFF1234AVI " + bytes(100), "no WAV file"),
        (b"RIFF1234WAVEfmt \x10\0\0\0", "ends within its WAV header"),
        (b"RIFF1234WAVEdata" + bytes(8), "does not tell its format"),
        (b"RIFF1234WAVEfmt \x02\0\0\0\0\0" + bytes(30), "damaged"),
        (b"RIFF1234WAVEjunk\xff\xff\xff\x7f", "more than a MiB"),
        (wav(samples(), "ULAW"), "of kind 7 with 8 bits"),
    ],
)
def test_what_is_no_wav_file_is_refused_in_one_sentence(data, message):
    with pytest.raises(UserError, match=f"standard input: .*{message}"):
        PcmStream(io.BytesIO(data))


def test_samples_that_are_no_numbers_are_refused():
    stream = PcmStream(io.BytesIO(np.array([0, np.nan], "<f4").tobytes()), PcmFormat(8000, 1, "f32le"))
    with pytest.raises(UserError, match="no finite number"):
        read(stream)


def test_a_format_out_of_range_is_refused():
    with pytest.raises(UserError, match="samples: expected one of u8"):
        PcmFormat(8000, 1, "s16be")
    with pytest.raises(UserError, match="channels: expected a whole number >= 1"):
        PcmFormat(8000, 0)
