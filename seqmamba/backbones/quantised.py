"""Models whose linear layers have int8 weights, in and out of files; `quantisation` makes them.

A file keeps, for the weight of a layer, the tensors ``weight`` (out, in) int8
and ``weight_scale`` (out, 1) float32, whose product it is; config.json lists the layers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from seqmamba.errors import UserError

_SCALE = "weight_scale"
_INSTALL = "pip install 'seqmamba[quantise]'"


def int8_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers whose weights are int8."""
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and is_quantised(layer.weight)
    ]


def is_quantised(weight: Tensor) -> bool:
    """Tell whether a tensor stands for others, from which it is computed."""
    return is_traceable_wrapper_subclass(weight)


def stored_tensors(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """Return the tensors to store for a model, each once.

    Args:
        model: A quantised model.
        layers: `int8_layers` of it.
    """
    # Tied parameters have one name here, and one is enough to load them.
    kept = dict(model.named_parameters())
    state = model.state_dict()
    tied = dict(model.named_parameters(remove_duplicate=False)).keys() - kept.keys()
    tensors = {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}
    for name in layers:
        weight: Any = tensors.pop(f"{name}.weight")
        tensors |= {f"{name}.weight": weight.qdata, f"{name}.{_SCALE}": weight.scale}
    return tensors


def take_int8(model: nn.Module, layers: Any, tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Give the layers of a new model their int8 weights, which `load_weights` then finds in place.

    Args:
        model: As its config describes it.
        layers: The names that config.json lists.
        tensors: What the file holds.
        where: The file, for messages.

    Returns:
        The tensors by the model's own names.

    Raises:
        UserError: If a layer is not there, its tensors do not fit, or torchao is not installed.
    """
    modules = dict(model.named_modules())
    if not (isinstance(layers, list) and all(isinstance(modules.get(name), nn.Linear) for name in layers)):
        raise UserError(f"{where}: config.json lists int8 layers that are no linear layers of the model")
    weights = dict(tensors)
    with torchao() as quantization:
        for name in layers:
            layer: Any = modules[name]
            numbers, scale = weights.pop(f"{name}.weight", None), weights.pop(f"{name}.{_SCALE}", None)
            rows, columns = layer.weight.shape
            if not (_is(numbers, torch.int8, (rows, columns)) and _is(scale, torch.float32, (rows, 1))):
                raise UserError(
                    f"{where}: expected {name}.weight int8 ({rows}, {columns}) and {name}.{_SCALE} float32 "
                    f"({rows}, 1)"
                )
            set_int8(layer, quantization.Int8Tensor(numbers, scale, [1, columns], layer.weight.dtype))
            weights[f"{name}.weight"] = layer.weight
    return weights


def set_int8(layer: nn.Linear, weight: Tensor) -> None:
    """Give a layer an int8 weight.

    Args:
        layer: The layer.
        weight: A tensor of torchao.
    """
    layer.weight = nn.Parameter(weight, requires_grad=False)


def _is(tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> bool:
    return tensor is not None and tensor.dtype == dtype and tuple(tensor.shape) == shape


@contextmanager
def torchao() -> Iterator[Any]:
    """Yield `torchao.quantization`, without what it logs on being imported."""
    logger = logging.getLogger("torch.utils._pytree")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from torchao import quantization
    except ImportError as error:
        raise UserError("int8 weights need the package torchao", hint=_INSTALL) from error
    finally:
        logger.setLevel(level)
    yield quantization
