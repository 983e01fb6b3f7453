"""Folders with the files that audio runs write and real sound, but no model: what a report has to draw."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from page_checks import check_page

from audio.events import Event
from audio.generation_files import GenerationRecord, NoiseEvent, Sample, write_samples
from audio.report import SoundConfig, write_report
from audio.results import DataSummary, Results, SplitSummary
from audio.timeline_files import Recording, open_timeline
from seqmamba.metrics import Estimate, evaluate
from seqmamba.predictions import Predictions
from seqmamba.report.palette import LIGHT
from seqmamba.results import BaselineSummary

RATE = 8000
METRICS_CSV = "epoch,step,train/loss,val/loss,val/accuracy\n0,10,2.1,2.2,0.2\n1,20,1.4,1.6,0.5\n"


def draw(source: Path, **options: Any) -> tuple[str, str]:
    """Write a report, check what holds for every page, and return its source and its text.

    Unless it is said otherwise there is one recording of each kind.
    """
    path = write_report(source, config=SoundConfig(**{"clips": 1} | options))
    assert path == (source.with_suffix(".html") if source.is_file() else source / "report.html")
    page = path.read_text(encoding="utf-8")
    return page, check_page(page, colours=LIGHT, most_bytes=4_000_000)


def sound(path: Path, seconds: float = 0.3, rate: int = RATE, channels: int = 1, seed: int = 0) -> Path:
    """Write a noisy tone."""
    rng = np.random.default_rng(seed)
    t = np.arange(max(1, round(seconds * rate))) / rate
    wave = 0.4 * np.sin(2 * np.pi * 440 * t)[:, None] + 0.02 * rng.standard_normal((len(t), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, format="WAV")
    return path


def recipe(task: str, source: Path) -> str:
    """Return a recipe with settings of every kind."""
    model = {"backbone": {"d_model": 24, "mixer": "mamba"}, "bits": 8}
    stored = {
        "seed_everything": 1,
        "trainer": {"max_epochs": 2},
        "model": {"class_path": task, "init_args": {"model": model, "optimiser": {"lr": 0.002}}},
        "data": {"init_args": {"source": str(source), "files": {"pattern": None, "columns": {"path": None}}}},
    }
    return json.dumps(stored, indent=1)  # JSON is YAML


def classification(
    run: Path,
    *,
    task: str = "classification",
    classes: tuple[str, ...] = ("dog", "rain", "siren"),
    names: list[str] | None = None,
    n: int = 24,
    seed: int = 0,
    **changes: Any,
) -> Results:
    """Write a tested run and its recordings."""
    rng = np.random.default_rng(seed)
    paths = [run.parent / "sounds" / (name or f"{i:02}.wav") for i, name in enumerate(names or [""] * n)]
    for i, path in enumerate(paths):
        sound(path, seed=i)
    labels, outputs = _answers(task, len(paths), len(classes), rng)
    names_ = [str(path) for path in paths]
    Predictions(task, classes, names_, ["test"] * len(paths), labels, outputs).save(run / "predictions.tsv")
    metrics = evaluate(outputs, labels, task, classes, n_bootstrap=50)
    weak = {name: Estimate(0.3, 0.2, 0.4) for name in metrics}
    per_class = {} if task == "regression" else dict.fromkeys(classes, len(paths))
    results = Results(
        task=task,
        classes=classes,
        created="2026-05-01T10:00:00",
        command="seqmamba audio fit sounds -o run",
        seed=1,
        hardware="2 CPU cores",
        seconds=61.0,
        versions={"torch": "2.14.1"},
        parameters=42_786,
        data=DataSummary(len(paths), per_class, {"min": 0.3, "median": 0.3, "max": 0.3, "total": 7.2}, RATE),
        split=SplitSummary("at random", {"train": per_class, "test": per_class}),
        metrics=metrics,
        baselines={"log_mel": BaselineSummary(weak, 1.5)},
        rates={"4000 Hz, decimated": weak},
    )
    results = replace(results, **changes)
    results.save(run / "results.json")
    (run / "metrics.csv").write_text(METRICS_CSV)
    (run / "config.yaml").write_text(recipe("audio.tasks.WaveformTask", run.parent / "sounds"))
    return results


def _answers(task: str, n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if task == "classification":
        labels = np.arange(n) % k
        logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[labels]
        weights = np.exp(logits)
        return labels, weights / weights.sum(axis=1, keepdims=True)
    if task == "multilabel":
        labels = (rng.random((n, k)) < 0.5).astype(np.float64)
        labels[:2] = [[0.0] * k, [1.0] * k]
        return labels, np.clip(0.8 * labels + 0.1 + rng.normal(0, 0.2, (n, k)), 0.01, 0.99)
    labels = rng.normal(4, 2, (n, k))
    return labels, labels + rng.normal(0, 0.5, (n, k))


def generated(
    folder: Path, *, labels: tuple[str | None, ...] = ("a", "b"), each: int = 3, **changes: Any
) -> None:
    """Write generated recordings and how they were made."""
    samples = []
    for label in labels:
        for number in range(each):
            path = sound(folder / (label or "") / f"{number + 1:04}.wav", seed=number)
            samples.append(Sample(path, label, number, 0.3, 4.5 + number, number == 1))
    write_samples(folder, samples)
    record = GenerationRecord(
        model="gone",
        rate=RATE,
        seconds=0.3,
        made=len(samples) + 2,
        samples=14_400,
        wall_seconds=9.5,
        start_up=1.5,
        samples_per_second=1600.0,
        real_time_factor=5.0,
        restarts=9,
        events=(NoiseEvent("a", 1, 0.125, 8, False), NoiseEvent("b", 0, 0.25, 1, True)),
        settings={"sampling": {"temperature": 0.9, "top_k": None}, "guard": {"min_rms": 0.05}},
        created="2026-05-01T10:00:00",
        command="seqmamba audio generate run -o samples",
        hardware="1 GPU",
        versions={"torch": "2.14.1"},
    )
    replace(record, **changes).save(folder)


def generator(run: Path, *, tested: bool = True) -> None:
    """Write a run of a generative model."""
    run.mkdir(parents=True)
    paths = [sound(run.parent / "sounds" / f"{i}.wav", seed=i) for i in range(5)]
    (run / "metrics.csv").write_text(METRICS_CSV)
    (run / "config.yaml").write_text(recipe("audio.waveform_task.AutoregressiveTask", run.parent / "sounds"))
    if tested:
        test = {"bits_per_sample": 4.6, "interval_95": [4.3, 4.9], "recordings": 5, "samples": 12_000}
        (run / "results.json").write_text(json.dumps({"test": test}))
        rows = "".join(f"{path}\t2400\t{4 + i / 4}\n" for i, path in enumerate(paths))
        (run / "predictions.tsv").write_text("name\tsamples\tbits_per_sample\n" + rows)


def timeline(
    path: Path,
    *,
    labels: tuple[str, ...] = ("bird", "car"),
    recordings: tuple[str, ...] = ("long.wav",),
    hops: int = 2000,
    scale: float = 1.0,
) -> None:
    """Write probabilities and events of recordings: a bump of every class, 20 s wide."""
    hop, outputs = 0.25, (path, path.with_suffix(".csv"))
    with open_timeline(outputs, labels, recordings=len(recordings)) as writer:
        for name in recordings:
            edges = np.arange(hops + 1) * hop
            centre = np.linspace(0.2, 0.8, len(labels)) * hops * hop
            values = scale * np.exp(-(((edges[:-1, None] - centre) / 20) ** 2))
            writer.values(values.astype(np.float32), edges, name)
            events = [
                Event(max(0.0, c - 5), c + 5, label, 0.9, 0.99)
                for c, label in zip(centre, labels, strict=True)
            ]
            writer.events(events, Recording(name, RATE))


def cross_validation(folder: Path, *, seeds: tuple[int, ...] = (1, 2), folds: int = 3) -> None:
    """Write the runs of a cross-validation and their table."""
    for seed in seeds:
        for fold in range(folds):
            run = folder / "runs" / f"{fold}_seed{seed}"
            names = [f"fold{fold}_{i}.wav" for i in range(9)]
            classification(run, names=names, seed=10 * seed + fold)
            (run / "held_out.json").write_text(
                json.dumps({"by": "fold", "held_out": str(fold), "seed": seed})
            )
    (folder / "table.json").write_text("[]")


def players(page: str) -> list[tuple[float, int, bytes]]:
    """Return the seconds, the sampling rate and the bytes of every player of a page."""
    found = []
    for encoded in re.findall(r'src="data:audio/flac;base64,([^"]*)"', page):
        data = base64.b64decode(encoded, validate=True)
        info = soundfile.info(io.BytesIO(data))
        found.append((info.frames / info.samplerate, info.samplerate, data))
    return found


def pictures(page: str) -> list[bytes]:
    """Return the pictures inside the drawings of a page."""
    found = re.findall(r'href="data:image/png;base64,([^"]*)"', page)
    return [base64.b64decode(encoded) for encoded in found]
