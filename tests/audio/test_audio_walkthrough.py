"""The walk-through of audio/README.md, command after command, on small stand-ins of what it fetches."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile
from tones import tone
from walkthrough import Walkthrough

from audio.cli import VERBS
from audio.files import describe
from audio.results import Results

pytestmark = pytest.mark.timeout(600)
RATE = 8000
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 2


def digits(cache: Path) -> None:
    """A tone for each digit, by every speaker, named as the spoken digits are."""
    folder = cache / "spoken_digits/recordings"
    folder.mkdir(parents=True)
    for digit in range(10):
        for place, speaker in enumerate(SPEAKERS):
            for take in range(TAKES):
                seed = 100 * digit + 10 * place + take
                wave = tone(200.0 * 1.35**digit, 0.14 + 0.01 * place, seed, RATE)
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", wave, RATE)


WALK = Walkthrough("audio", recipes={"audio/spoken_digits": digits})


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder after the last command."""
    with WALK.walked(tmp_path_factory) as folder:
        yield folder


def timed(path: Path) -> list[list[str]]:
    """The rows of a table of events, its header first, without the name of the recording."""
    with path.open(newline="") as file:
        return [row[1:] for row in csv.reader(file)]


def test_every_verb_is_walked_to() -> None:
    assert WALK.verbs == set(VERBS)
    fits = [line for line in WALK.commands if line.startswith("seqmamba audio fit ")]
    for option in ("--task generation", "--task masked", "--init-from", "--labels-per-class"):
        assert any(option in line for line in fits), option
    assert set(WALK.quick) == {"seqmamba audio fit", "seqmamba audio generate"}


def test_a_classifier_has_a_report_and_predicts_a_new_speaker(walked: Path) -> None:
    found = Results.load(walked / "runs/digits/results.json")
    assert found.classes == tuple("0123456789")
    assert "test on group theo" in found.split.explanation
    page = (walked / "runs/digits/report.html").read_text()
    assert "<audio" in page
    assert len((walked / "digits.html").read_text()) < len(page)
    rows = (walked / "predictions.tsv").read_text().splitlines()
    assert rows[0].split("\t")[-10:] == list("0123456789")
    assert len(rows) == 1 + 10 * TAKES
    rates = json.loads((walked / "rates.json").read_text())
    assert {"8000 Hz", "4000 Hz, filtered, frames"} <= set(rates)


def test_a_timeline_of_a_file_is_that_of_the_pipe(walked: Path) -> None:
    values = pq.read_table(walked / "dictated.parquet")
    length = describe(walked / "dictated.wav").seconds
    assert values["end"][-1].as_py() == pytest.approx(length, abs=0.001)
    assert set("0123456789") <= set(values.column_names)
    assert timed(walked / "live.csv") == timed(walked / "dictated.csv")
    assert "<svg" in (walked / "dictated.html").read_text()


def test_every_speaker_named_is_held_out(walked: Path) -> None:
    table = (walked / "runs/speakers/table.md").read_text()
    assert re.findall(r"^\| (\w+) \| 1 \|", table, flags=re.MULTILINE) == ["george", "theo"]
    assert (walked / "runs/speakers/report.html").is_file()


def test_a_folder_becomes_a_generator_and_samples(walked: Path) -> None:
    samples = sorted((walked / "runs/voice/samples").rglob("*.wav"))
    assert {path.parent.name for path in samples} == set("0123456789")
    assert describe(walked / "seven.wav").seconds == pytest.approx(0.5)
    assert describe(walked / "continued.wav").seconds == pytest.approx(0.1 + 0.3)
    made = {path.parent.name for path in (walked / "made").rglob("*.wav")}
    assert made == {"1", "7"}


def test_generated_recordings_are_judged(walked: Path) -> None:
    found = json.loads((walked / "judged/judgement.json").read_text())
    assert [(each["name"], each["n"]) for each in found["sets"]] == [
        ("made", 40),
        ("held-out recordings", 10 * TAKES),
        ("reference recordings", 50 * TAKES),
    ]
    rows = (walked / "judged/recordings.tsv").read_text().splitlines()
    assert rows[0].split("\t")[:3] == ["set", "file", "asked"]
    assert rows[1].split("\t")[:3] == ["made", "made/1/0001.wav", "1"]


def test_few_labels_begin_with_the_pretrained_network(walked: Path) -> None:
    configs = [
        json.loads((walked / f"runs/{name}/pretrained/config.json").read_text()) for name in ("masked", "few")
    ]
    assert configs[0]["stem"] == configs[1]["stem"]
    assert configs[0]["backbone"] == configs[1]["backbone"]
    few = Results.load(walked / "runs/few/results.json")
    assert sum(few.split.counts["train"].values()) <= 50
