"""Low-rank updates of frozen projections (LoRA: Hu et al. 2021, arXiv:2106.09685, section 4.1).

A weight W (out, in) becomes W + alpha / rank * B A, with A (rank, in) drawn as a linear layer's weight and B
(out, rank) zero, so that training starts at W. Only A and B are trained. W + BA is formed before it is used,
which any mixer allows, whether it calls its projection or takes its weight.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_whole

Module = TypeVar("Module", bound=nn.Module)
_WEIGHT = "weight"


class LowRankUpdate(nn.Module):
    """Adds ``scale * up @ down`` to a weight.

    Args:
        weight: The weight; only its shape, dtype and device are used.
        rank: Rank of the update.
        alpha: The update is scaled by ``alpha / rank``.
    """

    def __init__(self, weight: Float[Tensor, "out in"], rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.down = nn.Parameter(weight.new_empty(rank, n_in))
        self.up = nn.Parameter(weight.new_zeros(n_out, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """Return the updated weight, in the weight's own dtype under autocast too."""
        with torch.autocast(weight.device.type, enabled=False):
            return torch.addmm(weight, self.up, self.down, alpha=self.scale)


def add_lora(module: nn.Module, rank: int, alpha: float | None = None) -> list[str]:
    """Freeze a module and give each of its linear layers a trainable low-rank update.

    Layers that are not wider than the rank in both directions stay as they are, and frozen: an update would
    have more parameters than they have.

    Args:
        module: Changed in place.
        rank: Rank of the updates.
        alpha: See `LowRankUpdate`; None means the rank, a scale of 1.

    Returns:
        The names of the layers that got an update.

    Raises:
        UserError: If no layer got one, or a value is out of range.
    """
    require_whole("lora_rank", rank)
    alpha = float(rank) if alpha is None else alpha
    require(is_number(alpha) and alpha > 0, "lora_alpha", "a number > 0", alpha)
    module.requires_grad_(False)
    names = []
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear) and min(layer.weight.shape) > rank:
            parametrize.register_parametrization(layer, _WEIGHT, LowRankUpdate(layer.weight, rank, alpha))
            names.append(name)
    if not names:
        raise UserError(f"lora_rank: expected a rank below the width of some projection, got {rank}")
    return names


def merge_lora(module: Module) -> Module:
    """Return a copy in which every update is part of its weight: an ordinary module again.

    Args:
        module: With updates or without; without any it is returned itself.
    """
    # Not torch's `remove_parametrizations` on a copy: a copy shares its class with the original, which would
    # lose its weight.
    merged: dict[int, Any] = {}
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, _WEIGHT):
            merged[id(layer)] = _plain(layer)
    return copy.deepcopy(module, merged) if merged else module


def _plain(layer: nn.Linear) -> nn.Linear:
    """Return an ordinary layer with the weight that another one uses."""
    weight = layer.weight.detach()
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(weight.clone())
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().clone())
    return plain.train(layer.training)
