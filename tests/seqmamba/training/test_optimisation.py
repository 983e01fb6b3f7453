from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig, build_optimiser, lr_factor, parameter_groups


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.norm = nn.LayerNorm(5)
        self.A_log = nn.Parameter(torch.zeros(5, 4))
        self.A_log._no_weight_decay = True
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def test_only_unmarked_trainable_matrices_decay() -> None:
    model = Mixed()
    decayed, free = parameter_groups(model, 0.3)
    assert [id(p) for p in decayed["params"]] == [id(model.linear.weight)]
    assert decayed["weight_decay"] == 0.3
    expected = {id(p) for p in (model.linear.bias, model.norm.weight, model.norm.bias, model.A_log)}
    assert {id(p) for p in free["params"]} == expected
    assert free["weight_decay"] == 0.0


def test_groups_leave_out_the_empty_one() -> None:
    assert len(parameter_groups(nn.LayerNorm(3), 0.1)) == 1


def test_marked_parameters_get_their_own_peak_under_the_same_schedule() -> None:
    model = Mixed()
    model.A_log._max_lr = 1e-3
    model.norm.weight._max_lr = 2e-2
    config = OptimiserConfig(lr=1e-2, weight_decay=0.3, warmup_fraction=0.0, min_lr_fraction=0.1)
    optimiser, schedule = build_optimiser(model, config, 10)
    groups = optimiser.param_groups
    assert [group["initial_lr"] for group in groups] == [1e-2, 1e-2, 1e-2, 1e-3]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.0, 0.0]
    assert [id(p) for p in groups[2]["params"]] == [id(model.norm.weight)]
    assert [id(p) for p in groups[3]["params"]] == [id(model.A_log)]
    for _ in range(10):
        optimiser.step()
        schedule.step()
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])


def test_marked_matrices_may_decay() -> None:
    model = nn.Linear(2, 2, bias=False)
    model.weight._max_lr = 1e-4
    (group,) = parameter_groups(model, 0.3)
    assert (group["lr"], group["weight_decay"]) == (1e-4, 0.3)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedule_rises_to_the_peak_and_ends_at_the_minimum(schedule: str) -> None:
    factor = lr_factor(OptimiserConfig(warmup_fraction=0.1, min_lr_fraction=0.05, schedule=schedule), 100)
    values = [factor(step) for step in range(101)]
    assert values[0] == pytest.approx(1 / 11)  # the first step already learns
    assert values[10] == 1.0
    assert values == [*sorted(values[:11]), *sorted(values[11:], reverse=True)]
    assert values[100] == pytest.approx(0.05)
    assert factor(10_000) == pytest.approx(0.05)


def test_cosine_is_half_way_in_the_middle() -> None:
    factor = lr_factor(OptimiserConfig(warmup_fraction=0.0, min_lr_fraction=0.0), 100)
    assert factor(50) == pytest.approx(0.5)
    assert factor(25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_constant_stays_at_the_peak() -> None:
    factor = lr_factor(OptimiserConfig(warmup_fraction=0.2, schedule="constant"), 10)
    assert [factor(step) for step in range(2, 11)] == [1.0] * 9


@pytest.mark.parametrize("total", [0, 1, 2])
def test_tiny_trainings_have_a_schedule(total: int) -> None:
    optimiser, schedule = build_optimiser(nn.Linear(2, 1), OptimiserConfig(), total)
    for _ in range(3):
        optimiser.step()
        schedule.step()
    assert 0 < optimiser.param_groups[0]["lr"] <= 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("lr", math.nan),
        ("weight_decay", -1.0),
        ("betas", (0.9, 1.0)),
        ("warmup_fraction", 1.0),
        ("min_lr_fraction", 1.5),
        ("schedule", "exponential"),
        ("grad_clip", -0.1),
        ("max_skipped_in_a_row", 0),
        ("max_skipped_share", 1.5),
        ("eps", 0.0),
    ],
)
def test_values_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"optimiser\.{name} must be .*, got "):
        OptimiserConfig(**{name: value})
