"""What tells one model from another."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def fingerprint(model: nn.Module) -> str:
    """Return a hash of a model's class, options and weights: equal for equal models on any device.

    Args:
        model: Any model; its ``config``, if it has one, is taken by its representation.
    """
    digest = hashlib.sha256(f"{type(model).__name__} {getattr(model, 'config', None)!r}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        for stored in _stored(tensor):
            numbers: Any = stored.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(numbers)
    return digest.hexdigest()[:16]


def _stored(tensor: Tensor) -> list[Tensor]:
    """Return the tensor, or of a quantised one those that it stands for."""
    whole: Any = tensor
    if not is_traceable_wrapper_subclass(whole):
        return [tensor]
    names, _ = whole.__tensor_flatten__()
    return [getattr(whole, name) for name in names]
