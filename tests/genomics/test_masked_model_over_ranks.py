"""Language models over DNA whose windows ranks share out: losses, logits and gradients of one process."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor

from genomics.alphabet import PAD, A, T
from genomics.datasets.genome_batches import GenomeBatch
from genomics.guess_scores import count_guesses
from genomics.pretraining import Objectives, PretrainingConfig, build_model
from seqmamba.backbones import BackboneConfig
from seqmamba.distributed import ContextGroup, own_piece
from seqmamba.errors import UserError
from seqmamba.training.segments import BackpropConfig

LENGTHS = (90, 57)
SMALL: dict[str, Any] = {"d_model": 16, "n_layers": 2, "d_state": 4}
CASES = {
    f"{objective} {strand}": (objective, strand)
    for objective, strands in {
        "masked": ("equivariant", "conjoin", "augment", "forward"),
        "next_base": ("conjoin", "forward"),
    }.items()
    for strand in strands
}


def batch_of(length: int, padded: bool) -> GenomeBatch:
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(A, T + 1, (2, length), generator=draw).to(torch.uint8)
    lengths = torch.tensor(LENGTHS) if padded else None
    if lengths is not None:
        tokens[torch.arange(length) >= lengths[:, None]] = PAD
    return {
        "tokens": tokens,
        "lower": torch.rand(2, length, generator=draw) < 0.3,
        "lengths": lengths,
        "keys": torch.tensor([12345, 67890]),
        "genome": torch.zeros(2, dtype=torch.long),
        "fresh": torch.ones(2, dtype=torch.bool),
    }


def learn(context: ContextGroup | None, objective: str, strand: str, padded: bool) -> dict[str, Tensor]:
    """The loss and its gradients as the training takes them, and what a validation counts."""
    torch.manual_seed(0)
    direction = "causal" if objective == "next_base" else "bidirectional"
    config = PretrainingConfig(
        backbone=BackboneConfig(**SMALL, direction=direction), objective=objective, strand=strand
    )
    model = build_model(config).double()
    objectives = Objectives(model, config)
    objectives.share(context)
    batch = batch_of(LENGTHS[0], padded)
    guesses = objectives.ask(batch, training=True)
    loss = objectives.loss(guesses)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    with torch.no_grad():
        counts = count_guesses(objectives.ask(batch, training=False), 1)
        if objective == "masked":
            tokens, lengths = batch["tokens"].long(), batch["lengths"]
            found["logits"] = model(own_piece(context, tokens), lengths)
            found["embedding of windows"] = model.embed(own_piece(context, tokens), lengths)
    return {**found, "loss": loss.detach(), "counts": counts}


def every_case(context: ContextGroup | None) -> dict[str, dict[str, Tensor]]:
    return {
        f"{name} {padded}": learn(context, *case, padded)
        for name, case in CASES.items()
        for padded in (False, True)
        if not (padded and case[0] == "next_base")
    }


@pytest.mark.parametrize("size", [2, 4])
def test_every_objective_equals_one_process(size: int) -> None:
    ranks, expected = run_on_ranks(size, every_case), every_case(None)
    for name, parts in expected.items():
        for part, value in parts.items():
            found = [rank[name][part] for rank in ranks]
            say = partial("{}: {}: {}".format, name, part)
            if part == "logits":
                joined = torch.cat(found, dim=1)
                real = torch.arange(LENGTHS[0]) < torch.tensor(LENGTHS)[:, None]
                keep = real if name.endswith("True") else torch.ones_like(real)
                joined, value = joined[keep], value[keep]
            elif part == "embedding of windows":
                joined = found[-1]
            else:
                joined = sum(found) if part == "counts" else sum(found) / size
            torch.testing.assert_close(joined, value, rtol=1e-6, atol=1e-6, msg=say)


def refuse(context: ContextGroup) -> str:
    config = PretrainingConfig(
        BackboneConfig(**SMALL), "next_base", "forward", backprop=BackpropConfig(length=8)
    )
    with pytest.raises(UserError) as refused:
        Objectives(build_model(config), config).share(context)
    short = torch.zeros(1, 20)
    with pytest.raises(UserError) as too_short:
        own_piece(context, short)
    return f"{refused.value.message}; {too_short.value.message}"


def test_what_cannot_be_shared_out_is_refused() -> None:
    for message in run_on_ranks(2, refuse):
        assert "expected length null and carry false" in message
        assert "at least 16 positions a rank, that is 32, got 20" in message
