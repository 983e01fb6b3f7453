"""Functions of positions on slices of sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, language_model
from seqmamba.nn import slices
from seqmamba.nn.slices import in_slices


@pytest.mark.parametrize("positions", [1, 4, 7, 10, 11, 100])
def test_slices_give_what_the_whole_gives(positions: int) -> None:
    x = torch.randn(2, 11, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(2, 11, dtype=torch.float64)
    sizes = []

    def function(x: Tensor, nothing: None, shift: Tensor) -> tuple[Tensor, Tensor]:
        assert nothing is None
        sizes.append(x.shape[1])
        y = (x @ weight).exp() + shift[..., None]
        return y, y.detach().argmax(dim=-1)

    found: list[list[Any]] = []
    for run in (lambda *given: in_slices(function, *given, positions=positions), function):
        y, largest = run(x, None, shift)
        found.append([y, largest, *torch.autograd.grad(y.square().sum(), (x, weight))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert max(sizes[:-1]) <= positions or positions >= 11


def nll(logits: Tensor, target: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none")
    return losses.view_as(target)


def test_logits_of_a_long_sequence_are_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (slices, language_model):
        monkeypatch.setattr(module, "SLICE", 16)
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(BackboneConfig(8, 2, d_state=4), vocab_size=9))
    tokens = torch.randint(9, (2, 50))
    lengths: list[int] = []
    whole = model.logits

    def watched(features: Tensor) -> Tensor:
        lengths.append(features.shape[1])
        return whole(features)

    expected = nll(model(tokens), tokens)
    monkeypatch.setattr(model, "logits", watched)
    actual = model.judge(tokens, nll, tokens)
    torch.testing.assert_close(actual, expected)
    gradients = (torch.autograd.grad(x.mean(), list(model.parameters())) for x in (actual, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert max(lengths) == 16
    with torch.no_grad():
        torch.testing.assert_close(model.judge(tokens, nll, tokens), expected)
