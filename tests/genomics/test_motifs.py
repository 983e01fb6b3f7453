"""Motif experiments through tangermeme, and our models as its plain modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from motif_model import MOTIF, MotifModel, small_config
from torch import Tensor
from track_cases import BOTH_WAYS, classifier

import genomics.motifs
from genomics.alphabet import N, encode
from genomics.attribution import gradient_x_input, integrated_gradients
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.motifs import ablate_stretch, marginalize_motifs, one_hot_bases
from genomics.mutagenesis import in_silico_mutagenesis
from genomics.one_hot_module import OneHotModule
from genomics.vocabulary import PLANT_CADUCEUS, Vocabulary
from seqmamba.errors import UserError


def backgrounds(n: int = 12, length: int = 60) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(7, 11, (n, length)))


def with_embedding(vocabulary: Vocabulary | None, classes: tuple[str, ...]) -> SequenceModel:
    """A model with a convolution in front, or with the embedding of a language model."""
    torch.manual_seed(0)
    config = SequenceModelConfig(
        BOTH_WAYS, classes=classes, stem_width=3, embedding=vocabulary, pooling="mean"
    )
    return SequenceModel(config).eval()


@pytest.mark.parametrize("vocabulary", [None, PLANT_CADUCEUS])
def test_the_module_answers_as_the_model_does_and_nothing_is_an_n(vocabulary: Vocabulary | None) -> None:
    model = with_embedding(vocabulary, ("a", "b", "c"))
    tokens = backgrounds(5, 40)
    tokens[1, 7:12] = N
    module = OneHotModule(model)
    inputs = one_hot_bases(tokens)
    assert inputs.shape == (5, 4, 40)
    assert inputs[1, :, 7:12].sum() == 0
    with torch.no_grad():
        logits = model(tokens)
        own = module(inputs)
        expected = logits - torch.stack(
            [torch.logsumexp(logits[:, [j for j in range(3) if j != i]], 1) for i in range(3)], 1
        )
        torch.testing.assert_close(own, expected)
        torch.testing.assert_close(OneHotModule(model, 1)(inputs), own[:, 1:2])
    with pytest.raises(UserError, match="target: expected an index"):
        OneHotModule(model, 3)


@pytest.mark.parametrize("vocabulary", [None, PLANT_CADUCEUS])
def test_integrated_gradients_begin_at_n_as_the_model_reads_it(vocabulary: Vocabulary | None) -> None:
    model = with_embedding(vocabulary, ("no", "yes"))
    tokens = backgrounds(3, 40)
    tokens[1, 7:12] = N
    scores, miss = integrated_gradients(model, tokens, None, 1, steps=64)
    assert (scores[1, 7:12] == 0).all()
    with torch.no_grad():
        logits, unknown = model(tokens), model(torch.full_like(tokens, N))
    gained = (logits[:, 1] - logits[:, 0]) - (unknown[:, 1] - unknown[:, 0])
    torch.testing.assert_close(scores.sum(1) - gained, miss, atol=1e-4, rtol=1e-4)
    assert (miss.abs() < 1e-3 * scores.abs().sum(1)).all()


def test_the_gradient_times_the_input_is_the_centred_one() -> None:
    model = classifier()
    tokens = backgrounds(2, 40)
    inputs = one_hot_bases(tokens).float().requires_grad_()
    (gradient,) = torch.autograd.grad(OneHotModule(model, 1)(inputs).sum(), inputs)
    scores = (gradient * inputs).sum(1)
    torch.testing.assert_close(
        scores.detach(), gradient_x_input(model, tokens, None, 1), atol=1e-6, rtol=1e-4
    )


def test_a_planted_motif_counts_and_a_shuffled_one_does_not() -> None:
    pytest.importorskip("tangermeme")
    model = MotifModel(small_config(classes=("no", "yes")))
    other = "GGCCGGCCG"
    found = marginalize_motifs(
        model, backgrounds(), {"motif": MOTIF.lower(), "other": other, "held": _probabilities(MOTIF)}, 1
    )
    assert found["motif"].mean.low > 2 > 1 > abs(found["other"].mean.value)
    assert found["held"].mean == found["motif"].mean
    # By hand: the motif in the middle, as tangermeme has it.
    tokens = backgrounds()
    planted = tokens.clone()
    start = 60 // 2 - len(MOTIF) // 2
    planted[:, start : start + len(MOTIF)] = torch.from_numpy(encode(MOTIF).astype(np.int64))
    with torch.no_grad():
        change = (model(planted) - model(tokens))[:, 1]
    np.testing.assert_allclose(found["motif"].changes, change, atol=1e-4)
    gone = ablate_stretch(model, planted, start, start + len(MOTIF), 1, shuffles=5)
    aside = ablate_stretch(model, planted, 0, len(MOTIF), 1, shuffles=5)
    assert gone.mean.high < -2 < -0.5 < aside.mean.value
    assert gone.changes.shape == (12,)


def test_saturation_mutagenesis_of_tangermeme_is_ours() -> None:
    saturation = pytest.importorskip("tangermeme.saturation_mutagenesis")
    model = classifier()
    tokens = backgrounds(2, 24)
    raw = saturation.saturation_mutagenesis(
        OneHotModule(model, 1), one_hot_bases(tokens), raw_outputs=True, device="cpu", fast=False
    )
    changes = (raw.y_hat[..., 0] - raw.y0[:, None, None, 0]).transpose(1, 2)
    ours = in_silico_mutagenesis(model, tokens, None, 1)
    torch.testing.assert_close(changes, ours, atol=1e-5, rtol=1e-4)


def test_captum_explains_the_module_as_we_do() -> None:
    captum = pytest.importorskip("captum.attr")
    model = classifier()
    tokens = backgrounds(2, 30)
    inputs = one_hot_bases(tokens).float()
    theirs = captum.IntegratedGradients(OneHotModule(model, 1)).attribute(
        inputs, torch.zeros_like(inputs), target=0, n_steps=16
    )
    ours, _ = integrated_gradients(model, tokens, None, 1, steps=16)
    torch.testing.assert_close(theirs.sum(1).float(), ours, atol=1e-6, rtol=1e-3)


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()

    def missing(module: str) -> None:
        raise ImportError

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(UserError, match="motif experiments need tangermeme") as error:
        marginalize_motifs(model, backgrounds(), {"m": "ACGT"}, 1)
    assert error.value.hint == "pip install 'seqmamba[interpret]'"
    monkeypatch.setattr(genomics.motifs, "_tangermeme", lambda module: None)
    with pytest.raises(UserError, match="motif m: 4 letters do not fit into 3 bases"):
        marginalize_motifs(model, backgrounds(2, 3), {"m": "ACGT"}, 1)
    with pytest.raises(UserError, match=r"expected probabilities of shape \(4, width\)"):
        marginalize_motifs(model, backgrounds(2, 9), {"m": torch.zeros(3, 5)}, 1)
    with pytest.raises(UserError, match="window inside 0 to 9, got 5 to 10"):
        ablate_stretch(model, backgrounds(2, 9), 5, 10, 1)


def _probabilities(letters: str) -> Tensor:
    matrix = torch.full((4, len(letters)), 0.1)
    matrix[["ACGT".index(letter) for letter in letters], torch.arange(len(letters))] = 0.7
    return matrix
