"""Requests that are answered together: what each gets, whatever the others hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from seqmamba.errors import UserError
from seqmamba.serving.answering import Answer, answer_bodies, find_answerer
from seqmamba.serving.limits import Limits


class Lengths:
    """Answers lines of text with functions of their lengths."""

    takes = "lines"

    def __init__(self, task: str = "classification") -> None:
        self.task, self.classes = task, ("short", "long")
        self.calls = 0

    def read(self, body: Path) -> list[tuple[str, Any]]:
        lines = body.read_text().splitlines()
        if not lines:
            raise UserError(f"{body}:1: expected a line", hint="write one")
        return [(line, line) for line in lines]

    def predict(self, items: Sequence[Any]) -> list[np.ndarray | str]:
        self.calls += 1
        return [
            "unreadable" if item == "bad" else np.array([1, len(item)]) / (1 + len(item)) for item in items
        ]


def bodies(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"body{number}" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_each_request_gets_its_own_rows_from_one_batch(tmp_path: Path) -> None:
    answerer = Lengths()
    answers = answer_bodies(answerer, bodies(tmp_path, "a\nabc", "", "bad\nab", "xy"))
    assert [answer.status for answer in answers] == [200, 400, 400, 200]
    assert answerer.calls == 1
    assert answers[0].rows[1] == {
        "name": "abc",
        "prediction": "long",
        "probabilities": {"short": 0.25, "long": 0.75},
    }
    assert [row["name"] for row in answers[3].rows] == ["xy"]
    assert answers[1].content() == {"error": "body:1: expected a line (write one)"}
    assert answers[2].error == "unreadable"


def test_what_fails_concerns_nobody_else(tmp_path: Path) -> None:
    good, gone = bodies(tmp_path, "abc", "x")
    gone.unlink()
    answers = answer_bodies(Lengths(), [gone, good])
    assert [answer.status for answer in answers] == [504, 200]

    class Broken(Lengths):
        def predict(self, items: Sequence[Any]) -> list[np.ndarray | str]:
            raise RuntimeError("out of memory")

    [answer] = answer_bodies(Broken(), [good])
    assert answer == Answer(500, error="the model failed: RuntimeError")


@pytest.mark.parametrize(
    ("task", "prediction"),
    [("multilabel", ["long"]), ("regression", {"short": 0.25, "long": 0.75})],
)
def test_other_tasks(tmp_path: Path, task: str, prediction: Any) -> None:
    [answer] = answer_bodies(Lengths(task), bodies(tmp_path, "abc"))
    assert answer.rows[0]["prediction"] == prediction


def test_a_model_that_no_domain_answers_with() -> None:
    with pytest.raises(
        UserError, match="expected a model that classifies sequences or recordings, got a Linear"
    ):
        find_answerer(nn.Linear(1, 1), Limits())


def test_limits_are_positive() -> None:
    with pytest.raises(UserError, match="waiting"):
        Limits(waiting=0)
