"""Caduceus from its equations, step by step in float64, and random checkpoints under published names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
CADUCEUS_COMPLEMENT = [0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11]
PLANT_COMPLEMENT = [0, 1, 2, 6, 5, 4, 3]


def published_config(complement: list[int] = CADUCEUS_COMPLEMENT, **changes: Any) -> dict[str, Any]:
    """Content of a config.json as on the hub: string keys, in the order of their text."""
    rows = -(-len(complement) // 8) * 8
    padded = [*complement, *range(len(complement), rows)]
    return {
        "architectures": ["CaduceusForMaskedLM"],
        "auto_map": {"AutoModelForMaskedLM": "modeling_caduceus.CaduceusForMaskedLM"},
        "bidirectional": True,
        "bidirectional_strategy": "add",
        "bidirectional_weight_tie": True,
        "complement_map": {key: padded[int(key)] for key in sorted(map(str, range(rows)))},
        "d_model": 10,
        "fused_add_norm": True,
        "initializer_cfg": {"initializer_range": 0.02, "rescale_prenorm_residual": True},
        "model_type": "caduceus",
        "n_layer": 4,
        "norm_epsilon": 1e-5,
        "pad_vocab_size_multiple": 8,
        "rcps": True,
        "residual_in_fp32": False,
        "rms_norm": True,
        "ssm_cfg": {
            "bias": False,
            "conv_bias": True,
            "d_conv": 4,
            "d_state": 3,
            "dt_init": "random",
            "dt_init_floor": 1e-4,
            "dt_max": 0.1,
            "dt_min": 1e-3,
            "dt_rank": "auto",
            "dt_scale": 1.0,
            "expand": 2,
            "use_fast_path": True,
        },
        "torch_dtype": "float32",
        "vocab_size": rows,
    } | changes


def published_weights(config: dict[str, Any], seed: int = 0) -> Weights:
    """Random float32 tensors of every published name; of tied ones the first only."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale + shift

    dim, rcps, ssm = config["d_model"], config["rcps"], config["ssm_cfg"]
    inner, state, rank = 2 * dim, ssm["d_state"], math.ceil(dim / 16)
    bare = "" if config["fused_add_norm"] or not rcps else ".submodule"
    embeddings = "caduceus.backbone.embeddings.word_embeddings"
    weights = {f"{embeddings}{'.embedding' if rcps else ''}.weight": draw(config["vocab_size"], dim)}
    if rcps:
        complement = torch.tensor([other for _, other in numbered(config["complement_map"])])
        weights |= {f"{embeddings}.complement_map": complement, "lm_head.complement_map": complement}
    norms = [f"layers.{i}.norm{bare}" for i in range(config["n_layer"])] + [f"norm_f{bare}"]
    for norm in norms:
        weights[f"caduceus.backbone.{norm}.weight"] = draw(dim, scale=0.3, shift=1.0)
        if not config["rms_norm"]:
            weights[f"caduceus.backbone.{norm}.bias"] = draw(dim, scale=0.3)
    for i in range(config["n_layer"]):
        mixer = f"caduceus.backbone.layers.{i}.mixer{'.submodule' if rcps else ''}"
        shared = {
            "in_proj.weight": draw(2 * inner, dim, scale=0.5),
            "out_proj.weight": draw(dim, inner, scale=0.5),
        }
        if ssm["bias"]:
            shared |= {"in_proj.bias": draw(2 * inner, scale=0.3), "out_proj.bias": draw(dim, scale=0.3)}
        weights |= {f"{mixer}.mamba_fwd.{name}": tensor for name, tensor in shared.items()}
        for direction in ("mamba_fwd", "mamba_rev"):
            own = {
                "conv1d.weight": draw(inner, 1, 4, scale=0.5),
                "conv1d.bias": draw(inner, scale=0.3),
                "x_proj.weight": draw(rank + 2 * state, inner, scale=0.4),
                "dt_proj.weight": draw(inner, rank),
                "dt_proj.bias": draw(inner, scale=0.5, shift=-1.0),
                "A_log": draw(inner, state, scale=0.4),
                "D": draw(inner, scale=0.3, shift=1.0),
            }
            weights |= {f"{mixer}.{direction}.{name}": tensor for name, tensor in own.items()}
    return weights


def numbered(complement_map: dict[str, int]) -> list[tuple[int, int]]:
    return sorted((int(token), other) for token, other in complement_map.items())


def mamba(x: Tensor, w: Weights, rank: int) -> Tensor:
    """One direction (Gu & Dao 2023, algorithm 2), a step at a time. ``x`` is (length, dim)."""
    state = w["A_log"].shape[1]
    projected = x @ w["in_proj.weight"].T + w.get("in_proj.bias", 0.0)
    inner, z = projected.chunk(2, dim=-1)
    taps = w["conv1d.weight"][:, 0]
    past = F.pad(inner, (0, 0, 3, 0))
    h, out = torch.zeros(inner.shape[1], state, dtype=x.dtype), []
    for t in range(len(x)):
        u = F.silu((past[t : t + 4] * taps.T).sum(dim=0) + w["conv1d.bias"])
        low, B, C = (w["x_proj.weight"] @ u).split([rank, state, state])
        delta = F.softplus(w["dt_proj.weight"] @ low + w["dt_proj.bias"])
        h = torch.exp(-delta[:, None] * torch.exp(w["A_log"])) * h + (delta * u)[:, None] * B
        y = (h @ C + w["D"] * u) * F.silu(z[t])
        out.append(w["out_proj.weight"] @ y + w.get("out_proj.bias", 0.0))
    return torch.stack(out)


def norm(x: Tensor, weights: Weights, name: str, config: dict[str, Any]) -> Tensor:
    weight, eps = weights[f"{name}.weight"], config["norm_epsilon"]
    if config["rms_norm"]:
        return x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight
    return F.layer_norm(x, weight.shape, weight, weights[f"{name}.bias"], eps)


def rc(x: Tensor) -> Tensor:
    """Turn (length, channels) round both ways."""
    return x.flip(0, 1)


class Reference:
    """The published model: the hidden states behind its last norm, and its logits, of one sequence."""

    def __init__(self, config: dict[str, Any], weights: Weights) -> None:
        self.config = config
        short = {name.removeprefix("caduceus.").removeprefix("backbone."): t for name, t in weights.items()}
        # Wrappers and halves are spelled out below, so their names are of no use.
        self.w = {
            name.replace(".submodule", "").replace(".embedding.", "."): tensor.double()
            for name, tensor in short.items()
        }
        self.complement = [other for _, other in numbered(config["complement_map"])]
        self.embedding = self.w["embeddings.word_embeddings.weight"]

    def branch(self, i: int) -> Callable[[Tensor], Tensor]:
        """Norm, then both directions of the mixer, which share their projections."""
        prefix = f"layers.{i}.mixer."
        parts = {
            direction: {
                name.removeprefix(f"{prefix}{direction}."): tensor
                for name, tensor in self.w.items()
                if name.startswith(f"{prefix}{direction}.")
            }
            for direction in ("mamba_fwd", "mamba_rev")
        }
        rank = parts["mamba_fwd"]["dt_proj.weight"].shape[1]

        def run(x: Tensor) -> Tensor:
            x = norm(x, self.w, f"layers.{i}.norm", self.config)
            forward = mamba(x, parts["mamba_fwd"], rank)
            reverse = mamba(x.flip(0), parts["mamba_fwd"] | parts["mamba_rev"], rank)
            return forward + reverse.flip(0)

        return run

    def __call__(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        blocks = [self.branch(i) for i in range(self.config["n_layer"])]
        u = self.embedding[tokens]
        if not self.config["rcps"]:
            for block in blocks:
                u = u + block(u)
            hidden = norm(u, self.w, "norm_f", self.config)
            return hidden, hidden @ self.w.get("lm_head.weight", self.embedding).T
        other_strand = torch.tensor(self.complement)[tokens].flip(0)
        v = rc(self.embedding[other_strand])
        for block in blocks:
            if self.config["fused_add_norm"]:
                u, v = v, u
            u, v = u + block(u), v + rc(block(rc(v)))
        first = norm(u, self.w, "norm_f", self.config)
        second = rc(norm(rc(v), self.w, "norm_f", self.config))
        logits = first @ self.embedding.T + second.flip(1) @ self.embedding[self.complement].T
        return torch.cat((first, second), dim=1), logits
