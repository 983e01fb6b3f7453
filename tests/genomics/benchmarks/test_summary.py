from __future__ import annotations

import json

import numpy as np
import pytest

from genomics.benchmarks import find_benchmark
from genomics.benchmarks.summary import (
    RunResult,
    ensembles,
    score_runs,
    summarise,
    table_as_dict,
    table_as_markdown,
)
from seqmamba.metrics import evaluate
from seqmamba.plain_json import to_json
from seqmamba.predictions import Predictions

BENCHMARK = find_benchmark("gue/mouse4")


def predictions(right: float, n: int = 200, seed: int = 0, prefix: str = "s") -> Predictions:
    """Two classes; a share of the answers is right, each with 0.8."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    said = np.where(rng.random(n) < right, labels, 1 - labels)
    outputs = np.full((n, 2), 0.2)
    outputs[np.arange(n), said] = 0.8
    return Predictions(
        "classification", ("0", "1"), [f"{prefix}{i}" for i in range(n)], ["test"] * n, labels, outputs
    )


def result(name: str, answers: Predictions, **options: object) -> RunResult:
    values = {
        "model": "mamba",
        "protocol": "sound",
        "seed": 1,
        "folds": 0,
        "fold": 0,
        "tested_on": "test",
        "parameters": 12_345,
    }
    values |= {"quirks": (), "explanation": "The official split."}
    return RunResult(name=name, predictions=answers, **(values | options))  # type: ignore[arg-type]


def test_mean_spread_and_values() -> None:
    runs = [predictions(right, seed=i) for i, right in enumerate((0.7, 0.8, 0.9))]
    expected = [
        evaluate(run.outputs, run.labels, run.task, run.classes, n_bootstrap=0)["mcc"].value for run in runs
    ]
    score = score_runs([[run] for run in runs], "mcc", resamples=50)["mcc"]
    assert score.values == pytest.approx(expected)
    assert score.mean == pytest.approx(np.mean(expected))
    assert score.sd == pytest.approx(np.std(expected, ddof=1))
    assert score.spread == pytest.approx(max(expected) - min(expected))
    assert score.low < score.mean < score.high


def test_the_interval_of_one_run_is_that_of_its_test_part() -> None:
    run = predictions(0.8)
    score = score_runs([[run]], "accuracy", resamples=400)["accuracy"]
    known = evaluate(run.outputs, run.labels, run.task, run.classes, n_bootstrap=2000)["accuracy"]
    assert np.isnan(score.sd)
    assert np.isnan(score.spread)
    assert (score.low, score.high) == pytest.approx((known.low, known.high), abs=0.015)


def test_the_interval_holds_both_kinds_of_variation() -> None:
    one = score_runs([[predictions(0.8)]], "accuracy", resamples=200)["accuracy"]
    # Seeds that agree on the test part are worth one.
    alike = score_runs([[predictions(0.8)]] * 5, "accuracy", resamples=200)["accuracy"]
    assert alike.high - alike.low == pytest.approx(one.high - one.low, abs=0.02)
    # Folds test on different sequences: 5 of 200 are worth 1,000.
    folds = [predictions(0.8, seed=i, prefix=f"fold{i}_") for i in range(5)]
    narrow = score_runs([folds], "accuracy", resamples=200)["accuracy"]
    assert narrow.high - narrow.low == pytest.approx((one.high - one.low) / 5**0.5, rel=0.25)
    # Seeds that differ much widen it, however large the test part.
    differing = [[predictions(right, n=2000, seed=7)] for right in (0.6, 0.9)]
    wide = score_runs(differing, "accuracy", resamples=100)["accuracy"]
    assert wide.high - wide.low > 0.2


def test_an_ensemble_averages_what_its_seeds_say() -> None:
    runs = [result(f"sound_seed{i}", predictions(0.7, seed=i), seed=i) for i in range(3)]
    row = next(row for row in summarise(BENCHMARK, runs) if row.model == "mamba, mean of 3")
    assert row.parameters == 3 * 12_345
    outputs = np.mean([run.predictions.outputs for run in runs], axis=0)
    expected = evaluate(outputs, runs[0].predictions.labels, "classification", ("0", "1"), n_bootstrap=0)
    assert row.scores["mcc"].values == pytest.approx([expected["mcc"].value])
    assert row.scores["mcc"].mean > np.mean(summarise(BENCHMARK, runs)[0].scores["mcc"].values)
    others = [result("sound_seed9", predictions(0.7, prefix="other"), seed=9), runs[0]]
    assert ensembles(others) == []  # not the same sequences
    assert ensembles(runs[:1]) == []


def test_rows_are_made_of_what_belongs_together() -> None:
    results = [
        result("sound_seed2", predictions(0.8, seed=2), seed=2),
        result("sound_seed1", predictions(0.8, seed=1)),
        result("paper_seed1", predictions(0.8), protocol="paper", quirks=("uncleaned", "range_reported")),
        result("sound_seed1", predictions(0.7), model="kmer", parameters=0),
        result("sound_validation_seed1", predictions(0.8, n=90, prefix="v"), tested_on="validation"),
        result("sound_folds2_seed1_fold0", predictions(0.8, prefix="a", n=100), folds=2),
        result("sound_folds2_seed1_fold1", predictions(0.8, prefix="b", n=98), folds=2, fold=1),
    ]
    rows = summarise(BENCHMARK, results)
    assert [(row.model, row.protocol, row.folds, row.runs) for row in rows] == [
        ("kmer", "sound", 0, ("sound_seed1",)),
        ("mamba", "paper", 0, ("paper_seed1",)),
        ("mamba", "sound", 0, ("sound_seed1", "sound_seed2")),
        ("mamba", "sound", 0, ("sound_validation_seed1",)),
        ("mamba", "sound", 2, ("sound_folds2_seed1_fold0", "sound_folds2_seed1_fold1")),
        ("mamba, mean of 2", "sound", 0, ("sound_seed2+sound_seed1",)),
    ]
    assert next(iter(rows[0].scores)) == "mcc"
    text = table_as_markdown(BENCHMARK, rows)
    assert "| sound | 1 | 90 (validation) |" in text
    assert "| mamba | 12,345 | sound | 2 folds x 1 | 98 to 100 |" in text
    assert "| DNABERT-2 | 117M | 0.5266 | 1 |" in text
    assert text.count("copies of test sequences, on either strand, stay in training") == 1
    assert "nan" not in text
    table = json.loads(json.dumps(to_json(table_as_dict(BENCHMARK, rows)), allow_nan=False))
    assert table["rows"][0]["scores"]["mcc"]["sd"] is None
    assert table["rows"][2]["scores"]["mcc"]["values"] == pytest.approx(rows[2].scores["mcc"].values)
    assert set(table["quirks"]) == {"uncleaned", "range_reported"}
    assert table["published"][0]["model"] == "DNABERT-2"
