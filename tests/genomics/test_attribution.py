from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from motif_model import MOTIF, MotifModel, small_config
from torch import Tensor

import genomics.attribution
from genomics.alphabet import PAD, N, encode
from genomics.attribution import (
    NUCLEOTIDES,
    differentiating,
    explained_output,
    gradient_x_input,
    integrated_gradients,
    outputs_of_strands,
)
from genomics.equivariance import reverse_complement_tokens
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.mutagenesis import base_importance, in_silico_mutagenesis
from seqmamba.backbones.config import BackboneConfig
from seqmamba.errors import UserError


def _tokens(text: str) -> Tensor:
    return torch.from_numpy(encode(text).astype(np.int64)).unsqueeze(0)


def _planted(length: int = 60, at: int = 25) -> str:
    letters = np.random.default_rng(3).choice(list("ACGT"), size=length)
    letters[at : at + len(MOTIF)] = list(MOTIF)
    return "".join(letters)


def test_both_methods_find_a_planted_motif() -> None:
    model = MotifModel(small_config(classes=("no", "yes")))
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
    model = SequenceModel(small_config(task)).eval()
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


def test_unknown_bases_have_no_mutants() -> None:
    torch.manual_seed(0)
    model = SequenceModel(small_config()).eval()
    effects = in_silico_mutagenesis(model, _tokens("NNNN"), None, 1)
    assert not effects.any()
    assert not base_importance(effects).signbit().any()


def test_mutagenesis_equals_scoring_the_mutant() -> None:
    torch.manual_seed(0)
    model = SequenceModel(small_config()).eval()
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


def _sharp(task: str = "classification", strand: str = "conjoin") -> SequenceModel:
    """A random model whose output is far from linear in its input."""
    torch.manual_seed(0)
    config = replace(small_config(task), strand=strand)  # type: ignore[arg-type]
    model = SequenceModel(config).double().eval()
    with torch.no_grad():
        model.head.weight.mul_(20)
        model.stem.conv.weight.mul_(3)
    return model


@pytest.mark.parametrize(("task", "target"), [("classification", 2), ("multilabel", 0), ("regression", 1)])
def test_integrated_gradients_are_complete(task: str, target: int) -> None:
    model = _sharp(task)
    # Pooling by maximum is not smooth, so no rule is exact; more steps come closer.
    tokens = _tokens("ACGTTNACGGATTACA")
    misses = [float(integrated_gradients(model, tokens, None, target, steps=n)[1].abs()) for n in (2, 100)]
    scores, miss = integrated_gradients(model, tokens, None, target, steps=100)
    unknown = torch.full_like(tokens, N)
    chosen = torch.tensor([target])
    with torch.no_grad():
        gained = explained_output(model, model(tokens), chosen) - explained_output(
            model, model(unknown), chosen
        )
    assert float(scores.sum() - gained) == pytest.approx(float(miss), abs=1e-5)
    assert misses[1] < 0.01 * float(scores.abs().sum())
    assert misses[1] < misses[0]
    assert scores[0, 5] == 0


def test_integrated_gradients_are_those_of_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    model = _sharp()
    tokens = torch.cat([_tokens("ACGTTAACGGATTACA"), _tokens("TTTTGGCAACGTCCAA")])
    lengths, chosen = torch.tensor([16, 11]), torch.tensor([2, 0])
    tokens[1, 11:] = PAD

    def forward(weights: Tensor, lengths: Tensor, chosen: Tensor) -> Tensor:
        return explained_output(model, model.forward_embedded(weights, lengths), chosen)

    theirs, delta = captum.IntegratedGradients(forward).attribute(
        model.one_hot(tokens),
        model.one_hot(tokens.masked_fill(tokens != PAD, N)),
        additional_forward_args=(lengths, chosen),
        n_steps=20,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    ours, miss = integrated_gradients(model, tokens, lengths, chosen, steps=20)
    torch.testing.assert_close(ours.double(), theirs.sum(dim=-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(miss.double(), delta, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("strand", ["conjoin", "equivariant"])
def test_scores_turn_with_the_strand(strand: str) -> None:
    model = _sharp(strand=strand)
    tokens = _tokens("ACGTTNACGGATTACA")
    turned = reverse_complement_tokens(tokens)
    for scores, other in (
        (gradient_x_input(model, tokens, None, 1), gradient_x_input(model, turned, None, 1)),
        (integrated_gradients(model, tokens, None, 1)[0], integrated_gradients(model, turned, None, 1)[0]),
    ):
        torch.testing.assert_close(scores, other.flip(1), atol=1e-5, rtol=1e-5)
    effects = in_silico_mutagenesis(model, tokens, None, 1)
    other = in_silico_mutagenesis(model, turned, None, 1)
    torch.testing.assert_close(effects, other.flip(1).flip(2), atol=1e-5, rtol=1e-5)
    given, reverse = outputs_of_strands(model, tokens, None, 1)
    torch.testing.assert_close(given, reverse)
    one_way = _sharp(strand="forward")
    given, reverse = outputs_of_strands(one_way, tokens, None, 1)
    assert (given - reverse).abs() > 0.01


def test_long_sequences_are_recomputed_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _sharp()
    tokens = _tokens(_planted())
    model.head.weight.requires_grad_(False)
    before = gradient_x_input(model, tokens, None, 1)
    monkeypatch.setattr(genomics.attribution, "RECOMPUTE_FROM", 60)
    with differentiating(model, 60):
        assert model.backbone.config.checkpoint_activations
        assert not any(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(gradient_x_input(model, tokens, None, 1), before)
    assert not model.backbone.config.checkpoint_activations
    assert not model.head.weight.requires_grad
    assert model.head.bias.requires_grad


@pytest.mark.gpu
def test_a_million_bases_fit_into_the_memory_of_a_gpu() -> None:
    backbone = BackboneConfig(d_model=256, n_layers=4, direction="bidirectional")
    model = SequenceModel(SequenceModelConfig(backbone=backbone, classes=("a", "b"))).cuda()
    peaks = []
    for length in (2**18, 2**20):
        tokens = model.example_input(1, length, torch.Generator().manual_seed(0)).cuda()
        torch.cuda.reset_peak_memory_stats()
        scores = gradient_x_input(model, tokens, None, 1)
        peaks.append(torch.cuda.max_memory_allocated())
        assert scores.isfinite().all()
        assert (scores != 0).float().mean() > 0.9
    assert peaks[1] < 4.2 * peaks[0]  # four times the bases, and nothing that grows faster
    assert peaks[1] < 50e9


def test_padding_scores_nothing_and_changes_nothing() -> None:
    torch.manual_seed(0)
    model = SequenceModel(small_config())
    long, short = "ACGTACGTACGTTA", "TTGACCA"
    batch = torch.full((2, len(long)), PAD, dtype=torch.int64)
    batch[0], batch[1, : len(short)] = _tokens(long)[0], _tokens(short)[0]
    lengths = torch.tensor([len(long), len(short)])
    together = gradient_x_input(model, batch, lengths, torch.tensor([0, 2]))
    alone = gradient_x_input(model, _tokens(short), None, 2)
    torch.testing.assert_close(together[1, : len(short)], alone[0], atol=1e-5, rtol=1e-4)
    assert (together[1, len(short) :] == 0).all()
    together = integrated_gradients(model, batch, lengths, torch.tensor([0, 2]))
    alone = integrated_gradients(model, _tokens(short), None, 2)
    torch.testing.assert_close(together[0][1, : len(short)], alone[0][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1][1:], alone[1], atol=1e-5, rtol=1e-4)
    assert (together[0][1, len(short) :] == 0).all()
    effects = in_silico_mutagenesis(model, batch, lengths, 2)
    torch.testing.assert_close(
        effects[1:, : len(short)], in_silico_mutagenesis(model, _tokens(short), None, 2)
    )
    assert (effects[1, len(short) :] == 0).all()


def test_model_is_left_as_it_was() -> None:
    model = SequenceModel(small_config()).train()
    gradient_x_input(model, _tokens("ACGT"), None, 0)
    in_silico_mutagenesis(model, _tokens("ACGT"), None, 0)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_unknown_bases_are_not_mutated() -> None:
    model = MotifModel(small_config(classes=("no", "yes")))
    tokens = _tokens(_planted())
    tokens[0, 30] = N
    assert (in_silico_mutagenesis(model, tokens, None, 1)[0, 30] == 0).all()


def test_mistakes_are_named() -> None:
    model = SequenceModel(small_config())
    with pytest.raises(UserError, match="target: expected an index from 0 to 2, got \\[3\\]"):
        gradient_x_input(model, _tokens("ACGT"), None, 3)
    with pytest.raises(UserError, match="steps: expected at least 1, got 0"):
        integrated_gradients(model, _tokens("ACGT"), None, 1, steps=0)
    with pytest.raises(UserError, match="window inside 0 to 4, got 2 to 9"):
        in_silico_mutagenesis(model, _tokens("ACGT"), None, 0, start=2, end=9)
