from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from track_cases import CAUSAL, bases, causal, scores_of, tokens_of

import genomics.carried
from genomics.alphabet import encode
from genomics.carried import CarriedScores
from genomics.language_reader import LanguageReader
from seqmamba.backbones import LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import AttentionOptions

LETTERS = bases(400, 5, ((0, 9), (100, 120), (121, 127), (200, 208), (390, 400)))


@pytest.fixture(autouse=True)
def small_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genomics.carried, "GAP", 8)


def carried(model: LanguageModel, chunk: int = 1000) -> CarriedScores:
    return CarriedScores(LanguageReader(model), chunk)


@torch.no_grad()
def by_hand(model: LanguageModel) -> np.ndarray:
    """A new sequence starts behind every run of more than 8 N; runs of up to 8 are read."""
    scores = np.full(len(LETTERS), np.nan)
    for start, end in ((0, 8), (9, 108), (120, 398)):
        logits = model(tokens_of(LETTERS[start:end]))[0, :-1]
        scores[start + 1 : end] = scores_of(logits, LETTERS[start + 1 : end])
    return scores


@pytest.mark.parametrize("chunk", [1, 3, 50, 1000])
def test_gaps_start_a_new_sequence(chunk: int) -> None:
    found = carried(causal(), chunk).feed(encode(LETTERS))[:, 0]
    np.testing.assert_allclose(found, by_hand(causal()), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_the_whole_wherever_they_are_cut(seed: int) -> None:
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, len(LETTERS)), 40, replace=False))
    scores = carried(causal())
    found = np.concatenate([scores.feed(piece) for piece in np.split(encode(LETTERS), cuts)])
    np.testing.assert_allclose(found[:, 0], by_hand(causal()), atol=1e-5)


def test_multi_scale_models_carry_their_state_too() -> None:
    torch.manual_seed(0)
    config = MultiScaleConfig(CAUSAL, pool=(4,))
    model = LanguageModel(LanguageModelConfig(config, vocab_size=12)).eval()
    scores = carried(model, chunk=7)
    found = np.concatenate([scores.feed(piece) for piece in np.split(encode(LETTERS), [33, 34, 250])])
    np.testing.assert_allclose(found[:, 0], by_hand(model), atol=1e-5)


@pytest.mark.parametrize("cut", [3, 50, 105, 115, 124, 204, 395])
def test_saved_state_goes_on_bit_for_bit(tmp_path: Path, cut: int) -> None:
    head, tail = encode(LETTERS[:cut]), encode(LETTERS[cut:])
    first = carried(causal())
    first.feed(head)
    first.save(tmp_path / "state")
    second = carried(causal())
    second.feed(encode("GATTACA"))  # something else before
    second.load(tmp_path / "state")
    np.testing.assert_array_equal(second.feed(tail), first.feed(tail))


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    carried(causal()).save(tmp_path / "state")
    other = causal(replace(CAUSAL, d_model=4, n_layers=1))
    with pytest.raises(UserError, match="does not fit the model"):
        carried(other).load(tmp_path / "state")


def test_a_state_that_grows_is_refused() -> None:
    growing, bounded = (
        replace(CAUSAL, mixer=("mamba", "attention"), attention=AttentionOptions(n_heads=2, window=window))
        for window in (None, 30)
    )
    with pytest.raises(UserError, match=r"remembers every base .* \(--window reads the genome in windows\)"):
        carried(causal(growing))
    found = carried(causal(bounded), 7).feed(encode(LETTERS))[:, 0]
    np.testing.assert_allclose(found, by_hand(causal(bounded)), atol=1e-5)
