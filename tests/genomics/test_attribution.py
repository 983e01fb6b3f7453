from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genomics.alphabet import PAD, N, encode
from genomics.attribution import (
    NUCLEOTIDES,
    base_importance,
    explained_output,
    gradient_x_input,
    in_silico_mutagenesis,
)
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones.config import BackboneConfig
from seqmamba.errors import UserError

MOTIF = "TATGCAAAT"


class MotifModel(SequenceModel):
    """Answers class 1 in proportion to the best match of a planted motif."""

    def forward_embedded(self, one_hot: Tensor, lengths: Tensor | None = None) -> Tensor:
        filters = torch.zeros(1, one_hot.shape[-1], len(MOTIF))
        filters[0, torch.from_numpy(encode(MOTIF).astype(np.int64)), torch.arange(len(MOTIF))] = 1
        match = F.conv1d(one_hot.transpose(1, 2), filters)[:, 0]
        score = torch.logsumexp(2 * match, dim=-1)
        return torch.stack([torch.zeros_like(score), score], dim=-1)


def _config(task: str = "classification", classes: tuple[str, ...] = ("a", "b", "c")) -> SequenceModelConfig:
    backbone = BackboneConfig(d_model=8, n_layers=1, direction="bidirectional", d_state=4)
    return SequenceModelConfig(backbone=backbone, task=task, classes=classes, dropout=0.3)  # type: ignore[arg-type]


def _tokens(text: str) -> Tensor:
    return torch.from_numpy(encode(text).astype(np.int64)).unsqueeze(0)


def _planted(length: int = 60, at: int = 25) -> str:
    letters = np.random.default_rng(3).choice(list("ACGT"), size=length)
    letters[at : at + len(MOTIF)] = list(MOTIF)
    return "".join(letters)


def test_both_methods_find_a_planted_motif() -> None:
    model = MotifModel(_config(classes=("no", "yes")))
    tokens = _tokens(_planted())
    gradient = gradient_x_input(model, tokens, None, 1)[0]
    effects = in_silico_mutagenesis(model, tokens, None, 1)
    importance = base_importance(effects)[0]
    for scores in (gradient, importance):
        best = set(torch.topk(scores, len(MOTIF)).indices.tolist())
        assert best == set(range(25, 25 + len(MOTIF)))
    assert (effects[0, 25 : 25 + len(MOTIF)] <= 0).all()
    torch.testing.assert_close(gradient_x_input(model, tokens, None, 0)[0], -gradient)


@pytest.mark.parametrize(("task", "target"), [("classification", 2), ("multilabel", 0), ("regression", 1)])
def test_gradient_equals_finite_differences(task: str, target: int) -> None:
    torch.manual_seed(0)
    model = SequenceModel(_config(task)).eval()
    with torch.no_grad():
        model.head.weight.mul_(20)
    if task == "regression":
        model.target_scale.fill_(3.0)
    tokens = _tokens("ACGTTNACGGA")
    scores = gradient_x_input(model, tokens, None, target)[0]
    weights, chosen = model.one_hot(tokens), torch.tensor([target])
    step = 1e-2
    for place in range(tokens.shape[1]):
        towards = weights.clone()
        towards[0, place] = 0
        towards[0, place, list(NUCLEOTIDES)] = 0.25
        direction = weights - towards
        up = explained_output(model, model.forward_embedded(weights + step * direction), chosen)
        down = explained_output(model, model.forward_embedded(weights - step * direction), chosen)
        slope = float((up - down).detach()) / (2 * step)
        assert float(scores[place]) == pytest.approx(slope, abs=2e-3, rel=2e-2)
    assert scores.abs().max() > 0.05, "too small to tell a right slope from a wrong one"
    assert scores[5].abs() < 1e-6  # N says nothing


def test_mutagenesis_equals_scoring_the_mutant() -> None:
    torch.manual_seed(0)
    model = SequenceModel(_config()).eval()
    text = "ACGTTACGGA"
    effects = in_silico_mutagenesis(model, _tokens(text), None, 1, batch_size=7)
    chosen = torch.tensor([1])
    with torch.no_grad():
        before = explained_output(model, model(_tokens(text)), chosen)
        after = explained_output(model, model(_tokens("ACGTGACGGA")), chosen)
    assert float(effects[0, 4, 2]) == pytest.approx(float(after - before), abs=1e-5)
    assert float(effects[0, 4, 3]) == 0
    window = in_silico_mutagenesis(model, _tokens(text), None, 1, start=3, end=6)
    torch.testing.assert_close(window, effects[:, 3:6], atol=1e-5, rtol=0)


def test_padding_scores_nothing_and_changes_nothing() -> None:
    torch.manual_seed(0)
    model = SequenceModel(_config())
    long, short = "ACGTACGTACGTTA", "TTGACCA"
    batch = torch.full((2, len(long)), PAD, dtype=torch.int64)
    batch[0], batch[1, : len(short)] = _tokens(long)[0], _tokens(short)[0]
    lengths = torch.tensor([len(long), len(short)])
    together = gradient_x_input(model, batch, lengths, torch.tensor([0, 2]))
    alone = gradient_x_input(model, _tokens(short), None, 2)
    torch.testing.assert_close(together[1, : len(short)], alone[0], atol=1e-5, rtol=1e-4)
    assert (together[1, len(short) :] == 0).all()
    effects = in_silico_mutagenesis(model, batch, lengths, 2)
    torch.testing.assert_close(
        effects[1:, : len(short)], in_silico_mutagenesis(model, _tokens(short), None, 2)
    )
    assert (effects[1, len(short) :] == 0).all()


def test_model_is_left_as_it_was() -> None:
    model = SequenceModel(_config()).train()
    gradient_x_input(model, _tokens("ACGT"), None, 0)
    in_silico_mutagenesis(model, _tokens("ACGT"), None, 0)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_unknown_bases_are_not_mutated() -> None:
    model = MotifModel(_config(classes=("no", "yes")))
    tokens = _tokens(_planted())
    tokens[0, 30] = N
    assert (in_silico_mutagenesis(model, tokens, None, 1)[0, 30] == 0).all()


def test_mistakes_are_named() -> None:
    model = SequenceModel(_config())
    with pytest.raises(UserError, match="target: expected an index from 0 to 2, got \\[3\\]"):
        gradient_x_input(model, _tokens("ACGT"), None, 3)
    with pytest.raises(UserError, match="window inside 0 to 4, got 2 to 9"):
        in_silico_mutagenesis(model, _tokens("ACGT"), None, 0, start=2, end=9)
