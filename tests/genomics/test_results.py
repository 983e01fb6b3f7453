from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from genomics.results import Attribution, DataSummary, ModelSummary, Results, SplitSummary
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.results import BaselineSummary


def _results() -> Results:
    return Results(
        title="a vs b",
        task="classification",
        classes=("a", "b"),
        command="seqmamba genomics fit a.fa b.fa -o run",
        seed=1,
        seconds=12.5,
        versions={"torch": "2"},
        model=ModelSummary(10, {"classes": ("a", "b")}),
        data=DataSummary(4, {"a": 2, "b": 2}, {"min": 3, "median": 3, "max": 4}, 0.5),
        split=SplitSummary("random", "At random.", {"test": {"a": 1, "b": 1}}),
        leaks={"ok": True, "counts": {"exact": np.int64(0)}},
        metrics={"accuracy": Estimate(0.5, 0.1, 0.9)},
        baselines={"kmer": BaselineSummary({"accuracy": Estimate(0.4, 0.1, 0.8)}, 2.0)},
        attributions=[Attribution("s1", "a", "b", 0.7, "ACG", [0.1, -0.2, 0.0])],
        notes=["cropped"],
    )


def test_round_trip(tmp_path: Path) -> None:
    saved = _results()
    again = Results.load(saved.save(tmp_path / "results.json"))
    assert again.metrics == saved.metrics
    assert again.baselines == saved.baselines
    assert again.attributions == saved.attributions
    assert again.split == saved.split
    assert again.classes == ("a", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_nan_is_null_in_the_file(tmp_path: Path) -> None:
    results = Results("t", "regression", ("y",), metrics={"pearson": Estimate(math.nan, math.nan, math.inf)})
    path = results.save(tmp_path / "results.json")
    assert json.loads(path.read_text())["metrics"]["pearson"] == {"value": None, "low": None, "high": None}
    loaded = Results.load(path)
    assert math.isnan(loaded.metrics["pearson"].value)
    assert math.isnan(loaded.seconds)
    assert math.isnan(loaded.data.gc)


def test_unknown_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    path = _results().save(tmp_path / "results.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"novelty": 1}))
    assert Results.load(path).title == "a vs b"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"title": 1}', '{"title":"t","task":"x","classes":[]}', "\udc80"]
)
def test_damaged_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"results\.json"):
        Results.load(path)


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file.*seqmamba test"):
        Results.load(tmp_path / "results.json")


def test_attribution_needs_a_score_a_base() -> None:
    with pytest.raises(ValueError, match="2 bases but 1 scores"):
        Attribution("s", "a", "a", 1.0, "AC", [0.0])
