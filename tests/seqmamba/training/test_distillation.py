from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.training.distillation import DistillationConfig, Teacher

TRUE_LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.0, -3.0]])


class Fixed(nn.Module):
    """Gives the same answers whatever comes."""

    def __init__(self, task: str, answers: torch.Tensor) -> None:
        super().__init__()
        self.config = SimpleNamespace(task=task)
        self.answers = nn.Parameter(answers)

    def predict(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.answers


def teacher(task: str, **options: Any) -> Teacher:
    answers = {
        "classification": TRUE_LOGITS.softmax(1),
        "multilabel": TRUE_LOGITS.sigmoid(),
        "regression": TRUE_LOGITS,
    }
    return Teacher(Fixed(task, answers[task]), DistillationConfig("run", **options))


X = torch.zeros(2, 5)
OWN = torch.tensor(0.7)
PUPIL = SimpleNamespace(target_mean=torch.tensor([1.0, 0.0, 2.0]), target_scale=torch.tensor([2.0, 1.0, 0.5]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_are_the_teachers_logits_over_the_temperature(temperature: float) -> None:
    soft = teacher("classification", temperature=temperature).answer(X, None)
    torch.testing.assert_close(soft, (TRUE_LOGITS / temperature).softmax(1))
    soft = teacher("multilabel", temperature=temperature).answer(X)
    torch.testing.assert_close(soft, (TRUE_LOGITS / temperature).sigmoid())
    assert not soft.requires_grad


def test_values_know_no_temperature() -> None:
    assert torch.equal(teacher("regression", temperature=5.0).answer(X), TRUE_LOGITS)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_a_pupil_that_answers_as_its_teacher_cannot_do_better(task: str) -> None:
    one = teacher(task, weight=1.0)
    right = TRUE_LOGITS if task != "regression" else (TRUE_LOGITS - PUPIL.target_mean) / PUPIL.target_scale
    logits = right.clone().requires_grad_()
    loss = one.loss(OWN, logits, one.answer(X), PUPIL)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(right), atol=1e-6, rtol=0)
    assert one.loss(OWN, right + torch.tensor([1.0, 0, 0]), one.answer(X), PUPIL) > loss
    if task != "multilabel":  # whose cross-entropy has the entropy of the targets in it
        torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)


def test_the_loss_is_that_of_the_paper() -> None:
    one = teacher("classification", temperature=3.0, weight=0.25)
    logits = torch.tensor([[0.3, 0.2, 0.1], [-1.0, 2.0, 0.0]])
    p, q = (TRUE_LOGITS / 3).softmax(1), (logits / 3).softmax(1)
    distance = (p * (p / q).log()).sum(1).mean()
    expected = 0.75 * OWN + 0.25 * 9 * distance
    torch.testing.assert_close(one.loss(OWN, logits, one.answer(X), PUPIL), expected)


def test_gradients_keep_their_size_at_high_temperatures() -> None:
    def size(temperature: float) -> float:
        one = teacher("classification", temperature=temperature, weight=1.0)
        logits = torch.zeros(2, 3, requires_grad=True)
        one.loss(OWN, logits, one.answer(X), PUPIL).backward()
        return float(logits.grad.norm())  # type: ignore[union-attr]

    # For T to infinity the gradient is that of (z - v)^2 / 2 over classes, whatever T (Hinton et al., eq. 4).
    assert size(50.0) == pytest.approx(size(100.0), rel=0.02)


def test_certain_answers_stay_finite() -> None:
    one = Teacher(
        Fixed("classification", torch.tensor([[1.0, 0.0]])), DistillationConfig("run", temperature=1.0)
    )
    logits = torch.tensor([[0.0, 5.0]], requires_grad=True)
    loss = one.loss(OWN, logits, one.answer(X[:1]), PUPIL)
    loss.backward()
    assert torch.isfinite(loss)
    labels = Teacher(Fixed("multilabel", torch.tensor([[1.0, 0.0]])), DistillationConfig("run"))
    assert torch.isfinite(labels.loss(OWN, logits, labels.answer(X[:1]), PUPIL))
    assert F.cross_entropy(logits, torch.tensor([0])) > 0


def test_a_teacher_is_in_evaluation_mode_and_learns_nothing() -> None:
    one = teacher("classification")
    assert not one.model.training
    assert not any(parameter.requires_grad for parameter in one.model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "distil_from.temperature: expected a number > 0, got 0"),
        ({"weight": 0}, "distil_from.weight: expected a number above 0, 1 at most, got 0"),
        ({"weight": 1.5}, "got 1.5"),
        ({"temperature": float("nan")}, "got nan"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DistillationConfig("run", **options)


def test_a_teacher_of_another_kind_is_refused(tmp_path: Path) -> None:
    Backbone(BackboneConfig(d_model=4, n_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a Backbone, expected a Linear or Conv1d"):
        Teacher.read(DistillationConfig(str(tmp_path)), (nn.Linear, nn.Conv1d))
    with pytest.raises(
        UserError, match=r"the n_layers of the model in .*: expected 2, as in the data, got 1"
    ):
        Teacher.read(DistillationConfig(str(tmp_path)), (Backbone,), n_layers=2)
