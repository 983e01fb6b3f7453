"""Pages of generated sound, of generative models and of pretraining."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import reported_runs as runs

from audio.generation_files import RECORD
from audio.report import write_report
from seqmamba.errors import UserError


def test_generated_sound(tmp_path: Path) -> None:
    runs.generated(tmp_path / "made")
    page, text = runs.draw(tmp_path / "made", clips=6)
    assert len(runs.players(page)) == 6
    assert "Real-time factor5" in text
    assert "2 recordings turned into noise that the guard could not avoid." in text
    assert "a/0002.wav" in text
    assert "set back 9 times" in text
    assert "a10.12 s8left alone" in text  # the cells of a row
    assert "2 recordings were left out" in text
    assert "Sampling: temperature0.9" in text
    assert page.count(">noise</span>") == 2


def test_generated_sound_of_which_little_is_known(tmp_path: Path) -> None:
    runs.generated(tmp_path / "made", labels=(None,), each=30)
    (tmp_path / "made" / RECORD).unlink()
    page, text = runs.draw(tmp_path / "made", clips=2)
    assert len(runs.players(page)) == 4
    assert "26 more are in the folder" in text
    assert "Real-time factor" not in text
    assert "no class" in text


def test_a_generative_model_and_what_it_made(tmp_path: Path) -> None:
    runs.generator(tmp_path / "run")
    runs.generated(tmp_path / "run/samples")
    page, text = runs.draw(tmp_path / "run", clips=3)
    assert "4.600 (4.300 to 4.900) bits per sample, base 2, on the test part. A code has 8 bits." in text
    assert re.search("The model foresees 4[23]% of what a sample says.", text)
    assert "Most surprising recordings" in text
    assert ">Bits per sample<" in page
    assert len(runs.players(page)) == 6 + 2 + 3
    # the other way round, generated sound shows the curves of the run that it is in
    assert ">Training<" in runs.draw(tmp_path / "run/samples")[0]


def test_a_generative_model_that_was_not_tested(tmp_path: Path) -> None:
    runs.generator(tmp_path / "run", tested=False)
    assert "No test results yet" in runs.draw(tmp_path / "run")[1]
    (tmp_path / "run/config.yaml").unlink()
    (tmp_path / "run/results.json").write_text(json.dumps({"test": {"bits_per_sample": "many"}}))
    with pytest.raises(UserError, match="expected the results of a generative model"):
        write_report(tmp_path / "run")


def test_pretraining(tmp_path: Path) -> None:
    runs.generator(tmp_path / "run", tested=False)
    text = runs.recipe("audio.pretraining_task.MaskedPretrainingTask", tmp_path / "sounds")
    (tmp_path / "run/config.yaml").write_text(text)
    assert "No test results yet" in runs.draw(tmp_path / "run")[1]
    (tmp_path / "run/results.json").write_text(json.dumps({"test": {"loss": 2.5, "codes_used": 0.25}}))
    _, text = runs.draw(tmp_path / "run")
    assert "Codes used0.250" in text
    assert "5 files, 0 cannot be read" in text
