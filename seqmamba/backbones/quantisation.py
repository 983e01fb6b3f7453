"""Projections of a backbone as int8 numbers with one scale a row, by torchao; all else stays as it is."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

from seqmamba.backbones.isotropic import Backbone
from seqmamba.backbones.multiscale import MultiScaleBackbone
from seqmamba.backbones.quantised import is_quantised, set_int8, torchao
from seqmamba.errors import UserError

Module = TypeVar("Module", bound=nn.Module)
FEWEST_INPUTS = 16
"""A row of fewer numbers stays as it is: its scale would take a good part of what int8 saves."""


def quantise(model: Module) -> Module:
    """Return a copy whose backbone's projections are int8, one scale an output channel, symmetric.

    Activations stay as they are (weight-only quantisation). Stem, head, convolutions, norms and the
    parameters of the state spaces are left alone, and so is a layer that shares its weight with another.

    Args:
        model: Any model with a backbone.

    Raises:
        UserError: If it has no layer to quantise, or torchao is not installed.
    """
    chosen = _projections(model)
    if not chosen:
        raise UserError(
            f"expected a model whose backbone has projections of {FEWEST_INPUTS} or more inputs, got a "
            f"{type(model).__name__} without"
        )
    result = copy.deepcopy(model).eval().requires_grad_(False)
    with torchao() as quantization:
        for name in chosen:
            layer: Any = result.get_submodule(name)
            weight = quantization.Int8Tensor.from_hp(layer.weight.detach(), quantization.PerRow())
            # symmetric: the zero points are zero, and no file keeps them
            block = [1, layer.in_features]
            set_int8(layer, quantization.Int8Tensor(weight.qdata, weight.scale, block, weight.dtype))
    return result


def _projections(model: nn.Module) -> list[str]:
    """Return the names of the layers to quantise."""
    uses: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.in_features >= FEWEST_INPUTS
        and uses[id(layer.weight)] == 1
        and not is_quantised(layer.weight)
        and _in_backbone(model, name)
    ]


def _in_backbone(model: nn.Module, name: str) -> bool:
    path = name.split(".")
    parents = (model.get_submodule(".".join(path[:depth])) for depth in range(len(path)))
    return any(isinstance(parent, Backbone | MultiScaleBackbone) for parent in parents)
