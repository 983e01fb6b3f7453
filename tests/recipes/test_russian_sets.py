"""The sets of Russian speech on short recordings of their names, and the scores of a tagger."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.datasets import LoadingConfig, WaveformDataModule
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.splits import SplitConfig
from audio.stems import StridedStemConfig
from recipes.audio.festvox_ru import RATE, UTTERANCES, part_of, read_labels
from recipes.audio.russian_phones import evaluate
from recipes.audio.russian_phones.evaluate import count_sentence, runs_of
from recipes.audio.russian_phones.prepare import build as build_phones
from recipes.audio.russian_speech.prepare import build as build_speech
from seqmamba.backbones import BackboneConfig
from seqmamba.errors import UserError

LABELS = "#\n0.02000 125 pau\n0.05000 125 a\n0.07000 125 n\n0.10000 125 pau\n"
CLASSES = ("a", "n", "pau")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    for number, name in enumerate(UTTERANCES):
        wave = 0.1 * np.random.default_rng(number).standard_normal(1600)
        soundfile.write(folder / f"{name}.wav", wave, RATE)
        (folder / f"{name}.lab").write_text(LABELS)
    return folder


@pytest.fixture(scope="module")
def phones(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phones")
    copy = tmp_path_factory.mktemp("copy")
    for path in unpacked.iterdir():
        (copy / path.name).hardlink_to(path)
    summary = build_phones(copy, folder)
    assert summary["utterances"] == {"train": 491, "validation": 66, "test": 63}
    assert (summary["segments"], summary["pauses"], summary["phones"]) == (1240, 1240, 2)
    return folder


def test_the_sentences_of_the_package() -> None:
    assert len(UTTERANCES) == 620
    assert UTTERANCES[:7] == tuple(f"ru_000{n}" for n in (1, 2, 3, 4, 5, 6, 8))
    assert UTTERANCES[-1] == "ru_0844"
    assert [part_of(name) for name in ("ru_0010", "ru_0015", "ru_0011")] == ["test", "validation", "train"]


def test_tables_that_the_data_module_reads(phones: Path) -> None:
    split, loading = SplitConfig(by="split"), LoadingConfig(rate=RATE, frame=160, batch_size=2)
    tagging = WaveformDataModule(str(phones / "phones.tsv"), task="tagging", loading=loading, split=split)
    tagging.setup()
    assert tagging.classes == CLASSES
    target = next(iter(tagging.test_dataloader())).target
    assert target.argmax(dim=2)[0].tolist() == [2, 2, 0, 0, 0, 1, 1, 2, 2, 2]
    segments = WaveformDataModule(str(phones / "segments.tsv"), task="classification", split=split)
    segments.setup()
    assert segments.classes == ("a", "n")
    assert sorted(set(segments.seconds.round(3).tolist())) == [0.02, 0.03]


def test_speech(unpacked: Path, tmp_path: Path) -> None:
    summary = build_speech(unpacked, tmp_path)
    assert summary["utterances"] == 620
    with (tmp_path / "utterances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows].count("test") == 63
    assert all((tmp_path / row["path"]).is_file() for row in rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1 125 a\n", "begins with #"),
        ("#\n0.1 125\n", ":2: expected an end behind 0 s"),
        ("#\n0.1 125 a\n0.1 125 b\n", ":3: expected an end behind 0.1 s"),
    ],
)
def test_damaged_labels(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.lab").write_text(text)
    with pytest.raises(UserError, match=message):
        read_labels(tmp_path / "x.lab")


def test_scores_of_a_sentence_by_hand(tmp_path: Path) -> None:
    (tmp_path / "x.lab").write_text(LABELS)
    phones = read_labels(tmp_path / "x.lab")
    #        true:  pau pau a  a  a  n  n  pau pau pau
    found = np.array([2, 0, 0, 0, 1, 1, 0, 2, 2, 2])
    probabilities = np.full((10, 3), 0.1)
    probabilities[np.arange(10), found] = 0.8
    probabilities[6, :2] = 0.45, 0.44  # n is nearly as likely there, and likely in the frame before
    counts = count_sentence(probabilities, phones, CLASSES, 0.01)
    assert counts["frame_accuracy"] == (7, 10)
    assert counts["phone_frame_accuracy"] == (3, 5)
    assert counts["segment_accuracy"] == (2, 2)
    # a from 0.01, n from 0.04, a from 0.06, against a from 0.02 and n from 0.05
    assert counts["event_f1"] == (4, 5)


def test_events_are_runs_of_frames_within_the_collar() -> None:
    events = runs_of(np.array([2, 0, 0, 1, 2, 1]), CLASSES, 0.01)
    assert [(e.label, round(e.onset, 3), round(e.offset, 3)) for e in events] == [
        ("a", 0.01, 0.03),
        ("n", 0.03, 0.04),
        ("n", 0.05, 0.06),
    ]
    late = np.eye(3)[[2, 2, 2, 2, 2, 0, 0, 1, 1, 2]]
    phones = [evaluate.Event(0, 0.02, "pau"), evaluate.Event(0.02, 0.06, "a"), evaluate.Event(0.06, 0.1, "n")]
    assert count_sentence(late, phones, CLASSES, 0.01)["event_f1"] == (2, 4)  # a is 30 ms late, n 10 ms


def tagger(classes: tuple[str, ...] = CLASSES, task: str = "tagging") -> WaveformClassifier:
    return WaveformClassifier(
        WaveformClassifierConfig(
            backbone=BackboneConfig(8, 1, direction="bidirectional", d_state=4),
            stem=StridedStemConfig((32, 20), (8, 20), (8,)),
            task=task,
            classes=classes,
        )
    )


def test_a_tagger_is_scored_from_its_folder(
    phones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tagger().save_pretrained(tmp_path / "model")
    output = tmp_path / "s.json"
    evaluate.main([str(tmp_path / "model"), "--data", str(phones), "--device", "cpu", "-o", str(output)])
    scores = json.loads(output.read_text())
    assert list(scores) == ["frame_accuracy", "phone_frame_accuracy", "segment_accuracy", "event_f1"]
    assert all(0 <= score["low"] <= score["value"] <= score["high"] <= 1 for score in scores.values())
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tagger(("a", "pau")), "knows no phone n"),
        (tagger(task="multilabel"), "expected one for tagging"),
    ],
    ids=["classes", "task"],
)
def test_other_models_are_refused(phones: Path, model: WaveformClassifier, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate.evaluate_tagger(model, phones, "test")
