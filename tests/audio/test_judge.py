"""The verb ``audio judge``, as a user calls it, and what it makes of unusual sets."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from streaming_models import small_classifier, sound

from audio.files import read
from audio.judging import JudgeConfig, judge_clips
from audio.manifests import Clip, find_clips
from audio.neighbours import apart, correlation, find_neighbours, nearest
from seqmamba.cli.main import main
from seqmamba.errors import UserError

CLASSES = "abc"


def write(path: Path, seed: int, *, rate: int = 1000, seconds: float = 0.4, gain: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, gain * sound(round(rate * seconds), seed=seed).numpy(), rate)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("judge")
    small_classifier().save_pretrained(place / "classifier")
    for number in range(24):
        write(place / "real" / CLASSES[number % 3] / f"{number:02}.wav", number)
    for number in range(9):
        write(place / "later" / CLASSES[number % 3] / f"{number}.wav", 500 + number)
        suffix, rate = (("wav", 1000), ("flac", 2000), ("ogg", 8000))[number % 3]
        write(place / "made" / CLASSES[number // 3] / f"{number}.{suffix}", 100 + number, rate=rate)
    return place


def judge(place: Path, *words: str, made: str = "made", out: str = "out") -> list[str]:
    fixed = [
        "--classifier",
        str(place / "classifier"),
        "--reference",
        str(place / "real"),
        "--bootstrap",
        "9",
    ]
    return ["audio", "judge", str(place / made), *fixed, "-o", str(place / out), *words]


def test_judge_writes_numbers_a_table_and_a_line_for_each_file(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(judge(place, "--held-out", str(place / "later"))) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| set | n | FID |")
    assert printed.strip() == (place / "out" / "judgement.md").read_text().strip()
    found = json.loads((place / "out" / "judgement.json").read_text())
    made, later, real = found["sets"]
    assert [made["n"], later["n"], real["n"]] == [9, 9, 24]
    assert made["recognition"]["accuracy"]["value"] <= 1
    assert set(made["recognition"]["per_class"]) == set(CLASSES)
    assert sum(made["classes"].values()) == 9
    assert real["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-9)
    assert made["metrics"]["fid"]["value"] > 0
    assert made["real_counts"] == [9, 15]
    assert made["diversity"]["copies"] == 0
    assert real["diversity"] is None
    with (place / "out" / "recordings.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 18
    assert {row["class"] for row in rows} <= set(CLASSES)
    assert all(1 / 3 <= float(row["confidence"]) <= 1 for row in rows)
    assert rows[0]["asked"] == "a"
    assert Path(rows[0]["nearest"]).parent.parent == place / "real"


def test_a_judgement_is_not_replaced_by_accident_and_answers_are_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(judge(place, out="again")) == 0
    first = (place / "again" / "judgement.json").read_bytes()
    capsys.readouterr()
    assert main(judge(place, out="again")) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(judge(place, "--overwrite", out="again")) == 0
    assert "recordings/s" not in capsys.readouterr().err  # the classifier was not asked again
    assert (place / "again" / "judgement.json").read_bytes() == first


def test_an_interrupted_judgement_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch):
    from audio import file_answers

    load, calls = file_answers.load, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return load(*args, **kwargs)

    monkeypatch.setattr(file_answers, "load", interrupted)
    words = judge(place, "--batch-size", "4", out="broken")
    assert main(words) == 130
    assert not (place / "broken" / "judgement.json").exists()
    assert main(words) == 0
    assert len(calls) == 15 + (24 - 12) + 9  # three batches were kept
    assert main(judge(place, "--batch-size", "4", out="whole")) == 0
    broken, whole = (json.loads((place / out / "judgement.json").read_text()) for out in ("broken", "whole"))
    assert broken == whole


def test_copies_are_found_whatever_was_done_to_them(place: Path, capsys: pytest.CaptureFixture[str]):
    made = place / "copied" / "a"
    made.mkdir(parents=True)
    source = place / "real" / "a" / "00.wav"
    shutil.copy(source, made / "same.wav")
    waveform, rate = soundfile.read(source)
    later = np.concatenate((np.zeros(37), 0.4 * waveform))
    soundfile.write(made / "shifted.flac", later, rate)
    soundfile.write(made / "coarse.wav", waveform, rate, subtype="ULAW")
    write(made / "new.wav", 77)
    shutil.copy(made / "new.wav", made / "newer.wav")
    assert main(judge(place, "--unlabelled", made="copied", out="of_copies")) == 0
    found = json.loads((place / "of_copies" / "judgement.json").read_text())["sets"][0]
    assert found["recognition"] is None
    assert found["diversity"]["identical"] == 1
    assert found["diversity"]["repeated"] == 1
    with (place / "of_copies" / "recordings.tsv").open() as file:
        copied = {Path(row["file"]).name: row["copy"] for row in csv.DictReader(file, delimiter="\t")}
    assert copied["same.wav"] == copied["coarse.wav"] == "1"
    assert copied["new.wav"] == copied["newer.wav"] == "0"
    assert "1 repeated" in capsys.readouterr().out


def test_silence_damage_and_a_single_file_are_reported(place: Path, capsys: pytest.CaptureFixture[str]):
    odd = place / "odd" / "b"
    write(odd / "silent.wav", 0, gain=0.0)
    write(odd / "long.wav", 1, seconds=3)
    soundfile.write(odd / "short.wav", [0.5], 1000)
    (odd / "text.wav").write_text("no sound")
    assert main(judge(place, made="odd", out="of_odd")) == 0
    found = json.loads((place / "of_odd" / "judgement.json").read_text())["sets"][0]
    assert (found["n"], found["skipped"], found["silent"]) == (3, 1, 1)
    printed = capsys.readouterr()
    assert "left out" in printed.err
    assert "text.wav" in printed.err
    assert "1 silent, 1 not readable" in printed.out
    assert "a rank of 2 at most" in printed.out
    assert main(judge(place, "--on-error", "stop", made="odd", out="stopped")) == 2
    assert "text.wav" in capsys.readouterr().err
    assert main(judge(place, made="odd/b/long.wav", out="single")) == 0
    single = json.loads((place / "single" / "judgement.json").read_text())["sets"][0]
    assert single["n"] == 1
    assert single["metrics"]["fid"]["value"] is None
    assert single["missing_classes"]


def test_the_parts_that_a_reference_names_are_taken(place: Path, tmp_path: Path):
    table = tmp_path / "real.csv"
    rows = [
        f"{place / 'real' / CLASSES[i % 3] / f'{i:02}.wav'},{CLASSES[i % 3]},{'test' if i < 6 else 'train'}"
        for i in range(24)
    ]
    table.write_text("\n".join(["path,label,split", *rows]) + "\n")
    words = ["audio", "judge", str(place / "made"), "--classifier", str(place / "classifier")]
    assert main([*words, "--reference", str(table), "-o", str(tmp_path / "out"), "--bootstrap", "0"]) == 0
    found = json.loads((tmp_path / "out" / "judgement.json").read_text())["sets"]
    assert [(each["name"], each["n"]) for each in found[1:]] == [
        ("held-out recordings", 6),
        ("reference recordings", 18),
    ]


@pytest.mark.parametrize(
    ("words", "made", "message"),
    [
        ([], "missing", "no such folder or table"),
        (["--bootstrap", "-1"], "made", "bootstrap: expected a whole number >= 0"),
        (["--bins", "0"], "made", "bins: expected a whole number >= 1"),
        (["--held-out", "REAL"], "made", "is a reference recording, too"),
        ([], "later/x", "is of the class x, the classifier knows a, b, c"),
        (["--pattern", "([0-9])"], "made", "pattern: expected named groups"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], made: str, message: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if made == "later/x":
        write(tmp_path / "set" / "x" / "0.wav", 0)
        made = str(tmp_path / "set")
    given = [str(place / "real") if word == "REAL" else word for word in words]
    assert main(judge(place, *given, made=made, out=str(tmp_path / "out"))) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_only_a_classifier_judges(place: Path, tmp_path: Path):
    model = small_classifier(task="tagging")
    with pytest.raises(UserError, match="tells classes apart, got one for tagging"):
        judge_clips(model, "x", find_clips(place / "made"), tmp_path, JudgeConfig())
    broken = small_classifier()
    torch.nn.init.constant_(broken.head.linear.bias, torch.nan)
    with pytest.raises(UserError, match="the classifier's answer is not finite"):
        judge_clips(broken, "x", find_clips(place / "made"), tmp_path, JudgeConfig())


def test_answers_are_those_of_the_model_and_do_not_depend_on_the_batch(place: Path, tmp_path: Path):
    model = small_classifier()
    clips = find_clips(place / "real")[:5]
    one, all_ = (
        judge_clips(model, "x", clips, tmp_path / str(size), JudgeConfig(batch_size=size)) for size in (1, 5)
    )
    assert np.allclose(one.judged.features, all_.judged.features, atol=1e-6)
    waveform = read(clips[0].path)
    with torch.inference_mode():
        logits = model(waveform[None])[0].double()
    assert np.allclose(one.judged.probabilities[0], logits.softmax(0), atol=1e-6)
    assert one.level[0] == pytest.approx(float(waveform.square().mean().sqrt()), rel=1e-6)


def test_stretches_of_a_file_are_judged_alone(place: Path, tmp_path: Path):
    path = write(tmp_path / "x.wav", 5, seconds=1.0)
    parts = [Clip(path, 0.2, 0.3), Clip(path, 0.5, 0.3)]
    found = judge_clips(small_classifier(), "x", parts, tmp_path, JudgeConfig())
    write_part = tmp_path / "part.wav"
    soundfile.write(write_part, read(path, start=200, frames=300).numpy(), 1000)
    alone = judge_clips(small_classifier(), "x", [Clip(write_part)], tmp_path, JudgeConfig())
    assert np.allclose(found.judged.features[0], alone.judged.features[0], atol=1e-4)
    assert not np.allclose(found.judged.features[1], alone.judged.features[0], atol=1e-4)
    near = find_neighbours(parts, found.judged.features, [Clip(write_part)], alone.judged.features, 1000)
    assert near.correlation[0] > 0.99 > near.correlation[1]


def test_correlation_sees_shifts_signs_and_lengths():
    x = sound(500, seed=1)[:, 0]
    assert correlation(x, x) == pytest.approx(1)
    assert correlation(x, -0.1 * x) == pytest.approx(1)
    assert correlation(x, torch.cat((torch.zeros(91), x))) == pytest.approx(1)
    assert correlation(x, sound(700, seed=2)[:, 0]) < 0.3
    assert correlation(x, torch.zeros(9)) == 0


def test_nearest_rows():
    rows = np.array([[0.0, 0], [3, 4], [0, 1]])
    index, distance = nearest(np.array([[3.0, 4], [0, 0.4]]), rows)
    assert index.tolist() == [1, 0]
    assert distance.tolist() == [0, pytest.approx(0.4)]
    assert apart(rows).tolist() == [1, pytest.approx(np.hypot(3, 3)), 1]


def test_no_reader_of_dna_is_needed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "Bio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Bio", None)
    assert len(
        judge_clips(small_classifier(), "x", find_clips(place / "made"), tmp_path, JudgeConfig()).clips
    )


@pytest.mark.gpu
def test_a_gpu_says_the_same(place: Path, tmp_path: Path):
    found = [
        judge_clips(
            small_classifier().to(device), "x", find_clips(place / "made"), tmp_path / device, JudgeConfig()
        )
        for device in ("cpu", "cuda")
    ]
    assert np.allclose(found[0].judged.features, found[1].judged.features, atol=1e-4)
    assert np.allclose(found[0].judged.probabilities, found[1].judged.probabilities, atol=1e-4)
    assert np.allclose(found[0].level, found[1].level, rtol=1e-5)
