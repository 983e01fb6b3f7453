from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from genomics.alphabet import PAD, A, C, G, N, T
from genomics.datasets.genome_batches import GenomeBatch
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.guess_scores import count_guesses, summarise_guesses
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.masking import MaskingConfig, mask_bases
from genomics.pretraining import Guesses, Objectives, PretrainingConfig, build_model
from genomics.vocabulary import PLANT_CADUCEUS
from seqmamba.backbones import BackboneConfig, LanguageModel
from seqmamba.errors import UserError
from seqmamba.training.segments import BackpropConfig

BOTH = BackboneConfig(d_model=8, n_layers=2, d_state=2, direction="bidirectional", scan_impl="chunked")
LEFT = replace(BOTH, direction="causal")
MASKED = PretrainingConfig(BOTH, masking=MaskingConfig(rate=0.3))
NEXT = PretrainingConfig(LEFT, objective="next_base", strand="forward")


def windows(rows: int = 3, length: int = 40, seed: int = 0, **changes: Any) -> GenomeBatch:
    generator = torch.Generator().manual_seed(seed)
    batch: GenomeBatch = {
        "tokens": torch.randint(A, N + 1, (rows, length), generator=generator, dtype=torch.uint8),
        "lower": torch.rand(rows, length, generator=generator) < 0.3,
        "lengths": None,
        "keys": torch.randint(2**62, (rows,), generator=generator),
        "genome": torch.zeros(rows, dtype=torch.int64),
        "fresh": torch.ones(rows, dtype=torch.bool),
    }
    return batch | changes  # type: ignore[return-value]


def objectives(config: PretrainingConfig) -> tuple[MaskedModel | LanguageModel, Objectives]:
    torch.manual_seed(0)
    model = build_model(config).eval()
    return model, Objectives(model, config)


@pytest.mark.parametrize("config", [MASKED, NEXT, replace(NEXT, strand="conjoin")])
def test_nothing_to_guess_is_no_loss_and_no_nan(config: PretrainingConfig) -> None:
    model, ask = objectives(config)
    batch = windows(tokens=torch.full((3, 40), N, dtype=torch.uint8))
    loss = ask.loss(ask.ask(batch, training=True))
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())
    guesses = ask.ask(batch, training=True)
    broken = guesses._replace(nll=torch.full_like(guesses.nll, math.nan))
    assert ask.loss(broken).item() == 0


def test_the_masked_loss_is_the_weighted_mean_over_the_chosen_bases() -> None:
    model, ask = objectives(MASKED)
    batch = windows()
    hidden, chosen = mask_bases(batch["tokens"], batch["keys"], MASKED.masking)
    truth = batch["tokens"].long()
    nll = F.cross_entropy(model(hidden.long()).transpose(1, 2), truth, reduction="none")
    weights = torch.where(batch["lower"], 0.1, 1.0) * chosen
    guesses = ask.ask(batch, training=True)
    assert torch.equal(guesses.asked, chosen)
    assert ask.loss(guesses).item() == pytest.approx(
        (nll * weights).sum().item() / weights.sum().item(), rel=1e-5
    )


def test_the_next_base_is_asked_from_what_lies_before_it() -> None:
    model, ask = objectives(NEXT)
    batch = windows(lengths=torch.tensor([40, 25, 8]))
    inside = torch.arange(40) < torch.tensor([40, 25, 8])[:, None]
    batch["tokens"] = batch["tokens"].masked_fill(~inside, PAD)
    guesses = ask.ask(batch, training=True)
    tokens = batch["tokens"].long()
    assert torch.equal(guesses.asked, (inside & (tokens <= T) & (tokens >= A))[:, 1:])
    for row, place in ((0, 0), (1, 11), (2, 5)):
        alone = model(tokens[row : row + 1, : place + 1])[0, -1]
        expected = F.cross_entropy(alone, tokens[row, place + 1])
        assert guesses.nll[row, place].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("strand", ["forward", "conjoin"])
@pytest.mark.parametrize("length", [1, 7, 39, 1000])
def test_the_loss_in_segments_is_that_of_the_window(strand: Any, length: int) -> None:
    config = replace(NEXT, strand=strand, backprop=BackpropConfig(length))
    model, ask = objectives(config)
    batch = windows(lengths=torch.tensor([40, 25, 31]))
    batch["tokens"] = batch["tokens"].masked_fill(torch.arange(40) >= batch["lengths"][:, None], PAD)  # type: ignore[index]
    whole = ask.loss(ask.ask(batch, training=True))
    whole.backward()
    expected = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()
    found = ask.loss_in_segments(batch).loss
    found.backward()
    assert found.item() == pytest.approx(whole.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lengths", [None, torch.tensor([40, 21, 9])])
def test_conjoined_windows_are_read_on_both_strands(lengths: torch.Tensor | None) -> None:
    model, ask = objectives(replace(NEXT, strand="conjoin"))
    forward = Objectives(model, NEXT)
    batch = windows(lengths=lengths)
    if lengths is not None:
        batch["tokens"] = batch["tokens"].masked_fill(torch.arange(40) >= lengths[:, None], PAD)
    turned = windows(
        lengths=lengths,
        tokens=reverse_complement_tokens(batch["tokens"], lengths),
        lower=mirror(batch["lower"], lengths),
    )
    for training in (True, False):
        both = ask.ask(batch, training=training)
        parts = [forward.ask(strand, training=training) for strand in (batch, turned)]
        for name in Guesses._fields:
            assert torch.allclose(getattr(both, name), torch.cat([getattr(p, name) for p in parts]))


def test_augmentation_turns_half_of_the_windows_in_training_only() -> None:
    _, ask = objectives(replace(MASKED, strand="augment"))
    batch = windows(rows=400, length=10)
    still = ask.ask(batch, training=False)
    assert torch.equal(still.truth, batch["tokens"])
    drawn = ask.ask(batch, training=True)
    turned = (drawn.truth != batch["tokens"]).any(dim=1)
    assert 150 < int(turned.sum()) < 250
    expected = reverse_complement_tokens(batch["tokens"])[turned]
    assert torch.equal(drawn.truth[turned], expected)
    assert torch.equal(drawn.lower[turned], batch["lower"][turned].flip(1))
    again = ask.ask(batch, training=True)
    assert torch.equal(drawn.truth, again.truth)


def test_an_equivariant_model_guesses_alike_on_both_strands() -> None:
    model, _ = objectives(MASKED)
    assert isinstance(model, MaskedModel)
    hidden, _ = mask_bases(windows()["tokens"], windows()["keys"], MASKED.masking)
    here = model(hidden.long())
    there = model(reverse_complement_tokens(hidden.long()))
    assert torch.allclose(here, mirror(there)[..., model.complement], atol=1e-5)


def test_another_vocabulary_is_asked_for_the_same_bases(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MaskedModel(MaskedModelConfig(BOTH, vocabulary=PLANT_CADUCEUS))
    model.save_pretrained(tmp_path)
    config = replace(MASKED, init_from=str(tmp_path))
    taken = build_model(config)
    assert taken.training
    batch = windows()
    guesses = Objectives(taken, config).ask(batch, training=False)
    hidden, _ = mask_bases(batch["tokens"], batch["keys"], MASKED.masking)
    own = torch.from_numpy(PLANT_CADUCEUS.from_alphabet(hidden.numpy())).long()
    truth = torch.from_numpy(PLANT_CADUCEUS.from_alphabet(batch["tokens"].numpy())).long()
    expected = F.cross_entropy(model(own).transpose(1, 2), truth, reduction="none")
    assert torch.allclose(guesses.nll, expected, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("config", [MASKED, replace(NEXT, strand="conjoin")])
def test_a_gpu_guesses_what_a_cpu_guesses(config: PretrainingConfig) -> None:
    config = replace(config, backbone=replace(config.backbone, scan_impl="auto"))
    model, ask = objectives(config)
    batch = windows(rows=8, length=300)
    here = ask.ask(batch, training=True)
    model.cuda()
    moved = {
        name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }
    there = ask.ask(moved, training=True)  # type: ignore[arg-type]
    assert torch.equal(here.asked, there.asked.cpu())
    assert torch.equal(here.truth, there.truth.cpu())
    assert torch.allclose(here.nll, there.nll.cpu(), rtol=1e-3, atol=1e-3)
    assert torch.allclose(count_guesses(here, 1), count_guesses(there, 1).cpu(), rtol=1e-3, atol=2)


def test_scores_are_counted_by_base_case_and_genome() -> None:
    truth = torch.tensor([[A, C, G, T], [A, A, N, T]])
    guesses = Guesses(
        nll=torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, math.nan, 7.0]]),
        right=torch.tensor([[True, False, True, False], [True, True, True, False]]),
        asked=torch.tensor([[True, True, True, False], [True, True, False, True]]),
        truth=truth,
        lower=torch.tensor([[False, True, False, False], [False, True, False, False]]),
        genome=torch.tensor([0, 1]),
    )
    sums = count_guesses(guesses, 2)
    assert sums[..., 2].sum() == 6
    scores = summarise_guesses(sums.numpy(), 0.1, ("x", "y"))
    assert scores["loss"] == pytest.approx((1 + 3 + 5 + 7 + 0.1 * (2 + 6)) / 4.2)
    assert scores["perplexity"] == pytest.approx(math.exp(24 / 6))
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["perplexity_A"] == pytest.approx(math.exp(12 / 3))
    assert scores["accuracy_T"] == 0
    assert scores["perplexity_repeat"] == pytest.approx(math.exp(8 / 2))
    assert scores["accuracy_unique"] == pytest.approx(3 / 4)
    assert scores["perplexity_x"] == pytest.approx(math.exp(6 / 3))
    assert scores["accuracy_y"] == pytest.approx(2 / 3)
    nothing = count_guesses(guesses._replace(asked=torch.zeros(2, 4, dtype=torch.bool)), 2)
    assert summarise_guesses(nothing.numpy(), 0.1, ("x", "y")) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "next_base", "backbone": LEFT}, "cannot be equivariant"),
        (
            {"backbone": LEFT},
            "direction: expected bidirectional for the objective masked, got causal",
        ),
        ({"backbone": BOTH, "objective": "next_base", "strand": "augment"}, "expected causal for"),
        ({"repeat_weight": -1.0}, "repeat_weight: expected a number of 0 or more, got -1.0"),
        ({"objective": "last"}, "objective: expected one of masked, next_base, got 'last'"),
    ],
)
def test_refuses_what_does_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PretrainingConfig(**options)


def test_refuses_to_go_on_with_a_model_for_another_objective(tmp_path: Path) -> None:
    build_model(NEXT).save_pretrained(tmp_path / "next")
    with pytest.raises(UserError, match="guesses the next base, which does not fit objective masked"):
        build_model(replace(MASKED, init_from=str(tmp_path / "next")))
    build_model(MASKED).save_pretrained(tmp_path / "masked")
    with pytest.raises(UserError, match="is equivariant, which does not fit strand forward"):
        build_model(replace(MASKED, strand="forward", init_from=str(tmp_path / "masked")))


def test_a_window_of_one_base_has_no_next_one() -> None:
    config = PretrainingConfig(
        BackboneConfig(8, 1), objective="next_base", strand="forward", backprop=BackpropConfig(length=4)
    )
    ask = Objectives(build_model(config), config)
    with pytest.raises(UserError, match="expected 2 bases or more to guess the next one, got 1"):
        ask.loss_in_segments(windows(length=1))
