"""The verbs ``audio generate`` and ``audio timeline``, as a user calls them."""

import io
import sys

import pytest
import soundfile
from streaming_models import small_classifier, sound
from waveform_models import small_model

from audio.files import describe
from seqmamba.cli.main import main


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    small_model(classes=("a", "b"), scale=4.0).save_pretrained(folder / "pretrained")
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    small_classifier().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, sound(3000).numpy(), 2000)
    return str(path)


def test_generate_writes_one_recording(generator, tmp_path, capsys):
    out = tmp_path / "out.flac"
    assert main(["audio", "generate", generator, "-o", str(out), "--seconds", "0.1", "--label", "a"]) == 0
    assert describe(out).frames == 100
    printed = capsys.readouterr()
    assert "1 of 1 recordings" in printed.out
    assert "real-time factor" in printed.err
    assert "peak memory" in printed.err
    assert main(["audio", "generate", generator, "-o", str(out), "--seconds", "0.1"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_file(generator, tmp_path):
    options = ["--seconds", "0.1", "--temperature", "0.9", "--top-p", "0.95"]
    for name, seed in (("x", "3"), ("y", "3"), ("z", "4")):
        out = str(tmp_path / f"{name}.wav")
        assert main(["audio", "generate", generator, "-o", out, *options, "--seed", seed]) == 0
    x, y, z = ((tmp_path / f"{name}.wav").read_bytes() for name in "xyz")
    assert x == y != z


def test_generate_makes_folders_of_classes_and_chooses(generator, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--seconds", "0.05", "--count", "2", "--each-class", "--choose", "--no-guard"]
    assert main(["audio", "generate", generator, "-o", str(out), *options]) == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.wav")) == [
        "a/0001.wav", "a/0002.wav", "b/0001.wav", "b/0002.wav",
    ]  # fmt: skip
    assert "4 of 8 recordings" in capsys.readouterr().out


def test_generate_refuses_in_one_line(generator, classifier, tmp_path, capsys):
    out = str(tmp_path / "out.wav")
    for options, message in (
        ([classifier, "-o", out, "--seconds", "1"], "expected a WaveformModel"),
        ([generator, "-o", out, "--seconds", "-1"], "seconds: expected a number > 0"),
        ([generator, "-o", out, "--seconds", "1", "--label", "c"], "the model knows a, b; got 'c'"),
        ([generator, "-o", str(tmp_path / "out.mid"), "--seconds", "0.1"], "expected a name that ends in"),
        ([generator, "-o", out, "--seconds", "1", "--temperature", "-1"], "temperature: expected"),
    ):
        assert main(["audio", "generate", *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_timeline_writes_every_format(classifier, recording, tmp_path, capsys):
    names = ("t.csv", "t.txt", "t.selections.txt", "t.tsv", "t.parquet")
    outputs = [option for name in names for option in ("-o", str(tmp_path / name))]
    assert main(["audio", "timeline", classifier, recording, *outputs, "--enter", "0.4"]) == 0
    printed = capsys.readouterr()
    assert "state carried; 3 labels" in printed.err
    assert "times real time, peak memory" in printed.err
    assert all((tmp_path / name).stat().st_size for name in names)
    assert main(["audio", "timeline", classifier, recording, *outputs]) == 2
    assert main(["audio", "timeline", classifier, recording, *outputs, "--overwrite"]) == 0


@pytest.mark.parametrize("header", [True, False])
def test_timeline_reads_standard_input(classifier, recording, monkeypatch, capsys, header):
    with open(recording, "rb") as file:
        data = file.read()

    class Stdin:
        buffer = io.BytesIO(data if header else data[44:])

    monkeypatch.setattr(sys, "stdin", Stdin())
    raw = [] if header else ["--rate", "2000"]
    assert main(["audio", "timeline", classifier, "-", "--enter", "0.3", "--leave", "0.2", *raw]) == 0
    live = capsys.readouterr().out
    assert main(["audio", "timeline", classifier, recording, "--enter", "0.3", "--leave", "0.2"]) == 0
    from_file = capsys.readouterr().out
    assert live.count("\n") > 1
    assert live.replace("standard input", "x.wav") == from_file


def test_timeline_refuses_in_one_line(classifier, recording, tmp_path, capsys, monkeypatch):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    for options, message in (
        ([recording, "-o", str(tmp_path / "x.xml")], "expected a name that ends in one of"),
        ([recording, recording, "-o", str(tmp_path / "x.txt")], "holds one recording, got 2"),
        ([str(broken)], "broken.wav"),
        ([recording, "-"], "expected standard input alone"),
        ([recording, "--enter", "0.1"], "leave, enter"),
        ([recording, "--label", "z"], "--label: expected one of a, b, c"),
        ([recording, "--block", "0"], "--block: expected a whole number >= 1"),
    ):
        assert main(["audio", "timeline", classifier, *options]) == 2, options
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert main(["audio", "timeline", classifier, str(broken), recording, "--on-error", "skip"]) == 1
    assert "warning: " in capsys.readouterr().err
