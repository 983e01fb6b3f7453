"""What tells one model from another."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(model: nn.Module) -> str:
    """Return a hash of a model's class, options and weights: equal for equal models on any device.

    Args:
        model: Any model; its ``config``, if it has one, is taken by its representation.
    """
    digest = hashlib.sha256(f"{type(model).__name__} {getattr(model, 'config', None)!r}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
