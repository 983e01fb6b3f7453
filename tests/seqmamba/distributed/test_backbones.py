"""Backbones and pooling over ranks: losses, states and all gradients are those of one process."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor

from seqmamba.backbones import Backbone, BackboneConfig, MultiScaleBackbone, MultiScaleConfig
from seqmamba.distributed import ContextGroup, own_piece
from seqmamba.errors import UserError
from seqmamba.nn import AttentionOptions, GridOptions, Mamba2Options, S4Options, pool, reset_from_lengths
from seqmamba.nn.context import spread_context
from seqmamba.nn.mixers import MIXERS
from seqmamba.nn.pooling import AttentionPool
from seqmamba.nn.state import map_state

BATCH, WIDTH = 2, 16
LENGTHS = [40, 71]  # the second pads the first; neither 2 nor 4 divides it
SMALL: dict[str, Any] = {
    "d_model": WIDTH,
    "n_layers": 2,
    "d_state": 4,
    "mamba2": Mamba2Options(d_state=8, head_dim=8, chunk_size=16),
    "s4": S4Options(d_state=8),
    "attention": AttentionOptions(n_heads=2),
}
BOTH = ("causal", "bidirectional")
CASES: dict[str, dict[str, Any]] = {
    **{
        f"{mixer} {direction}": {"mixer": mixer, "direction": direction}
        for mixer in ("mamba", "mamba2", "s4", "attention", "lstm", "gru")
        for direction in BOTH
    },
    **{
        f"low rank {direction}": {"mixer": "s4", "direction": direction, "s4": S4Options(8, form="dplr")}
        for direction in BOTH
    },
    "vision": {"mixer": "vision_mamba", "direction": "bidirectional"},
    "gate": {"direction": "bidirectional", "combine": "gate"},
    "concat": {"mixer": "mamba2", "direction": "bidirectional", "combine": "concat"},
    "complex": {"complex_state": True},
    "window": {"mixer": "attention", "attention": AttentionOptions(n_heads=2, window=9)},
    "wide window": {
        "mixer": "attention",
        "direction": "bidirectional",
        "attention": AttentionOptions(n_heads=2, window=30),
    },
    "attention with a convolution": {
        "mixer": "attention",
        "attention": AttentionOptions(n_heads=4, n_kv_heads=2, d_conv=4),
    },
    "shared attention": {"mixer": ("mamba", "shared_attention")},
    "hybrid": {"mixer": ("mamba", "attention+mlp", "s4", "mamba2"), "n_layers": 4},
    "recomputed": {"direction": "bidirectional", "checkpoint_activations": True},
}
GRID = {"mixer": "cross_scan", "direction": "bidirectional", "grid": GridOptions(width=6)}


def backbone_of(options: dict[str, Any], dtype: torch.dtype) -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneConfig(**{**SMALL, **options})).to(dtype)


def features(length: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(BATCH, length, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def resets(kind: str, length: int) -> Tensor | None:
    if kind == "whole":
        return None
    if kind == "padded":
        return reset_from_lengths(torch.tensor(LENGTHS), length)
    reset = torch.zeros(BATCH, length, dtype=torch.bool)
    reset[0, [0, 11, length // 2, length // 2 + 1, length - 3]] = True
    reset[1, [length // 4, 3 * length // 4]] = True
    return reset


def run(
    options: dict[str, Any], dtype: torch.dtype, kind: str, length: int, context: ContextGroup | None
) -> dict[str, Tensor]:
    """The loss of this rank's share, and its gradients; with a causal backbone its state counts too."""
    backbone = backbone_of(options, dtype)
    spread_context(backbone, context)
    x = features(length, dtype).requires_grad_()
    reset = resets(kind, length)
    piece = None if reset is None else own_piece(context, reset)
    weight = own_piece(context, torch.linspace(1, 2, length, dtype=dtype)[None, :, None])
    carries = backbone.config.direction == "causal"
    found: dict[str, Tensor] = {}
    if not carries:
        y = backbone(own_piece(context, x), reset=piece)
        loss = (y.square() * weight).mean() * y.shape[1]
    else:
        # a state from before, and one that goes on: both are every rank's
        earlier = features(7, dtype)
        spread_context(backbone, None)
        state = backbone(earlier, return_state=True)[1]
        spread_context(backbone, context)
        y, state = backbone(own_piece(context, x), reset=piece, state=state, return_state=True)
        loss = (y.square() * weight).mean() * y.shape[1]
        size = 1 if context is None else context.size
        tensors: list[Tensor] = []
        map_state(lambda t: tensors.append(t) or t, state)
        for number, tensor in enumerate(tensors):
            if tensor.is_floating_point() or tensor.is_complex():
                loss = loss + tensor.abs().square().mean() / size
            found[f"state {number}"] = tensor.detach()
    loss.backward()
    found |= {"y": y.detach(), "loss": loss.detach(), "d_x": x.grad}
    for name, parameter in backbone.named_parameters():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return found


def every_run(
    context: ContextGroup, cases: dict[str, Any], dtype: torch.dtype, kinds: tuple[str, ...], length: int
) -> list[dict[str, Tensor]]:
    return [run(options, dtype, kind, length, context) for options in cases.values() for kind in kinds]


def assert_same(ranks: list[Any], expected: dict[str, Tensor], tolerance: float, what: str) -> None:
    for part, value in expected.items():
        found = [rank[part] for rank in ranks]
        say = partial("{}: {}: {}".format, what, part)
        if part.startswith("state"):
            for each in found:
                torch.testing.assert_close(each, value, rtol=tolerance, atol=tolerance, msg=say)
            continue
        joined = torch.cat(found, dim=1) if part == "y" else sum(found)
        scale = float(value.abs().max().clamp_min(1))
        torch.testing.assert_close(joined, value, rtol=tolerance, atol=tolerance * scale, msg=say)


def test_no_mixer_is_left_out() -> None:
    options = [{"mixer": "mamba", "direction": "causal", **case} for case in (*CASES.values(), GRID)]
    compared = {(case["mixer"], case["direction"]) for case in options}
    assert {(name, direction) for name, offers in MIXERS.items() for direction in offers} <= compared


@pytest.mark.parametrize(("size", "kinds"), [(2, ("whole", "padded")), (4, ("packed",))])
def test_every_mixer_and_direction_equals_one_process(size: int, kinds: tuple[str, ...]) -> None:
    length = LENGTHS[1]
    ranks = run_on_ranks(size, every_run, CASES, torch.float64, kinds, length)
    at = 0
    for name, options in CASES.items():
        for kind in kinds:
            expected = run(options, torch.float64, kind, length, None)
            assert_same([rank[at] for rank in ranks], expected, 1e-10, f"{name}, {kind}")
            at += 1


def test_grids_are_gathered() -> None:
    ranks = run_on_ranks(2, every_run, {"grid": GRID}, torch.float64, ("whole",), 66)
    expected = run(GRID, torch.float64, "whole", 66, None)
    assert_same([rank[0] for rank in ranks], expected, 1e-10, "grid")


def test_float32_is_within_its_rounding() -> None:
    cases = {name: CASES[name] for name in ("mamba bidirectional", "hybrid", "mamba2 bidirectional")}
    ranks = run_on_ranks(2, every_run, cases, torch.float32, ("padded",), LENGTHS[1])
    for at, (name, options) in enumerate(cases.items()):
        expected = run(options, torch.float32, "padded", LENGTHS[1], None)
        assert_same([rank[at] for rank in ranks], expected, 1e-5, name)


def pooled(context: ContextGroup | None) -> dict[str, Tensor]:
    found = {}
    for lengths in (None, torch.tensor(LENGTHS)):
        for mode in ("mean", "max", "last", "attention"):
            x = features(LENGTHS[1], torch.float64).requires_grad_()
            torch.manual_seed(2)
            attention = AttentionPool(WIDTH).double()
            spread_context(attention, context)
            piece = own_piece(context, x)
            given = piece if lengths is None else piece.masked_fill(_padding(context, lengths), torch.nan)
            vector = attention(piece, lengths) if mode == "attention" else pool(given, lengths, mode, context)
            loss = vector.square().sum() / (1 if context is None else context.size)
            loss.backward()
            kind = f"{mode} {lengths is None}"
            found |= {f"state {kind}": vector.detach(), f"d_x {kind}": x.grad}
            for name, parameter in attention.named_parameters():
                if parameter.grad is not None:
                    found[f"{kind} {name}"] = parameter.grad
    return found


def _padding(context: ContextGroup | None, lengths: Tensor) -> Tensor:
    return own_piece(context, torch.arange(LENGTHS[1]) >= lengths[:, None])[..., None]


def test_pooling_sees_all_pieces() -> None:
    ranks = run_on_ranks(4, pooled)
    assert_same(ranks, pooled(None), 1e-10, "pooling")


def refuse(context: ContextGroup) -> str:
    config = MultiScaleConfig(BackboneConfig(WIDTH, n_layers=1), pool=(2,))
    with pytest.raises(UserError) as refused:
        spread_context(MultiScaleBackbone(config), context)
    return refused.value.message


def test_stacks_of_several_scales_are_refused() -> None:
    assert "MultiScaleBackbone needs whole sequences" in run_on_ranks(2, refuse)[0]
