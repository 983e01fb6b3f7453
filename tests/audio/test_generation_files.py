from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from waveform_models import small_model

from audio.generation import GenerationConfig
from audio.generation_files import (
    GenerationRecord,
    NoiseEvent,
    Sample,
    read_samples,
    write_samples,
)
from audio.generation_run import GenerationJob, check_output, run_generation
from audio.noise_guard import GuardConfig
from seqmamba.errors import UserError
from seqmamba.inference import SamplingConfig

ALL_IS_NOISE = GuardConfig(min_rms=0, min_flatness=0, min_bits=0, max_restarts=2)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    samples = [
        Sample(tmp_path / "a b" / "0001.wav", "a b", 3, 0.5, 4.25, False),
        Sample(tmp_path / "0002.wav", None, 0, 1.0, 0.125, True),
    ]
    write_samples(tmp_path, samples)
    assert read_samples(tmp_path) == samples


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"samples\.tsv: expected a table of generated recordings"):
        read_samples(tmp_path)
    (tmp_path / "samples.tsv").write_text("header\na.wav\tb\t1\n")
    with pytest.raises(UserError, match=r"samples\.tsv:2: expected file, class, number"):
        read_samples(tmp_path)


def test_a_folder_of_recordings_says_how_they_were_made(tmp_path: Path) -> None:
    model = small_model(classes=("a", "b"), scale=4.0)
    config = GenerationConfig(
        0.05, sampling=SamplingConfig(seed=1), batch_size=2, block_seconds=0.02, guard=ALL_IS_NOISE
    )
    job = GenerationJob(config, labels=("a", "b"), count=3, model="runs/x")
    report = run_generation(model, job, tmp_path)
    record = GenerationRecord.load(tmp_path)
    assert (record.model, record.rate, record.seconds, record.made) == ("runs/x", 1000, 0.05, 6)
    assert record.samples == report.speed.samples == 300
    assert record.real_time_factor == pytest.approx(report.speed.real_time_factor)
    assert record.restarts == report.restarts == 12
    assert record.events == tuple(
        NoiseEvent(label, number, 0.0, 2, False) for label in "ab" for number in range(3)
    )
    assert record.command.startswith("seqmamba")
    assert record.settings["sampling"]["seed"] == 1
    assert record.settings["guard"]["max_restarts"] == 2
    assert record.versions["torch"] == torch.__version__.split("+")[0]
    (tmp_path / "report.html").touch()
    check_output(tmp_path, single=False, overwrite=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_record_of_another_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "generation.json").write_text('{"rate": 8000, "later": 1, "events": [{"label": null}]}')
    with pytest.raises(UserError, match="expected the results of a run"):
        GenerationRecord.load(tmp_path)
    (tmp_path / "generation.json").write_text('{"rate": 8000, "later": 1}')
    record = GenerationRecord.load(tmp_path)
    assert record.rate == 8000
    assert math.isnan(record.real_time_factor)
    assert record.created == ""
