"""Arguments for `ssd`, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def ssd_arguments(
    batch: int = 2,
    length: int = 37,
    heads: int = 4,
    head_dim: int = 5,
    state: int = 3,
    groups: int = 2,
    *,
    every: bool = True,
    wide_skip: bool = True,
) -> dict[str, Tensor]:
    """All tensor arguments of `ssd`, or with every=False only those it needs."""
    generator = torch.Generator().manual_seed(1000 * length + heads)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    arguments = {
        "x": normal(batch, length, heads, head_dim),
        "delta": normal(batch, length, heads) - 2 if every else normal(batch, length, heads).abs() * 0.3,
        "A": -(normal(heads).abs() * 3 + 0.1),
        "B": normal(batch, length, groups, state),
        "C": normal(batch, length, groups, state),
    }
    if every:
        arguments |= {
            "D": normal(heads, head_dim) if wide_skip else normal(heads),
            "z": normal(batch, length, heads, head_dim),
            "delta_bias": normal(heads) * 0.1,
            "initial_state": normal(batch, heads, head_dim, state),
        }
    return arguments


def steps_of(arguments: dict[str, Tensor], part: slice | int) -> dict[str, Tensor]:
    """The arguments of some steps of the sequence."""
    sequences = ("x", "delta", "B", "C", "z")
    return {name: x[:, part] if name in sequences else x for name, x in arguments.items()}
