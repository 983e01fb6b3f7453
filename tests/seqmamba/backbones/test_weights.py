from __future__ import annotations

import pytest
import torch
from torch import nn

from seqmamba.backbones.weights import WithoutInitialValues, load_weights
from seqmamba.errors import UserError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("order", torch.arange(3))
        self.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))


def weights(**changes):
    tensors = {
        "first.weight": torch.eye(3),
        "order": torch.tensor([2, 1, 0]),
        "phase": torch.tensor([1j, 2.0]),
        **{name.replace("__", "."): tensor for name, tensor in changes.items()},
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize("name", ["first", "second"])
def test_one_name_of_a_tied_weight_is_enough(name):
    model = Tied()
    load_weights(model, weights(**{"first__weight": None} | {f"{name}__weight": torch.eye(3)}), "file")
    assert torch.equal(model.first.weight, torch.eye(3))
    assert model.second.weight is model.first.weight


def test_buffers_and_complex_parameters():
    model = Tied()
    load_weights(model, weights(), "file")
    assert model.order.tolist() == [2, 1, 0]
    assert model.phase.tolist() == [1j, 2.0]


def test_other_precisions_become_the_models_own():
    model = Tied()
    load_weights(model, weights(first__weight=torch.eye(3, dtype=torch.bfloat16)), "file")
    assert model.first.weight.dtype == torch.float32
    assert torch.equal(model.first.weight, torch.eye(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first__weight": None}, r"file: the weights lack first\.weight, second\.weight \(2 in all\)"),
        ({"order": None}, r"file: the weights lack order \(1 in all\)"),
        ({"phase": torch.zeros(2)}, "file: phase: expected torch.complex64, got torch.float32"),
        ({"order": torch.zeros(3)}, "file: order: expected torch.int64, got torch.float32"),
        ({"order": torch.zeros(4, dtype=torch.int64)}, r"mismatch for order: expected \(3,\), got \(4,\)"),
    ],
)
def test_refusals_leave_the_model_as_it_was(changes, message):
    model = Tied()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(model, weights(**changes), "file")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_initial_values_are_drawn():
    before = torch.get_rng_state()
    with WithoutInitialValues():
        linear, embedding = nn.Linear(3, 4), nn.Embedding(5, 3)
        nn.init.zeros_(tensor=linear.bias)
        total = torch.ones(2) + 1
    assert torch.equal(torch.get_rng_state(), before)
    assert linear.weight.shape == (4, 3)
    assert embedding.weight.requires_grad
    assert total.tolist() == [2, 2]
    nn.Linear(3, 4)
    assert not torch.equal(torch.get_rng_state(), before)
