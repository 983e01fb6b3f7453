"""AdamW with parameter groups, linear warm-up and a decay that ends above zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from seqmamba.errors import UserError
from seqmamba.training.skippable import PausableLambdaLR, SkippableAdamW


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW and its learning-rate schedule.

    Args:
        lr: Peak learning rate, reached at the end of the warm-up.
        weight_decay: Decoupled weight decay (Loshchilov & Hutter 2019), applied to matrices only.
        betas: Decay rates of the two moment estimates.
        eps: Added to the denominator of the update.
        warmup_fraction: Part of all optimiser steps spent rising linearly to `lr`.
        min_lr_fraction: The schedule ends at this fraction of `lr`.
        schedule: Shape of the decay after the warm-up.
        grad_clip: Largest global L2 norm of the gradient; 0 switches clipping off.
        max_skipped_in_a_row: Steps whose loss or gradient is not finite are skipped; that many in a row end
            the run.
        max_skipped_share: So does an epoch with a larger share of them.

    Raises:
        UserError: When a value is out of range.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    warmup_fraction: float = 0.1
    min_lr_fraction: float = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    grad_clip: float = 1.0
    max_skipped_in_a_row: int = 20
    max_skipped_share: float = 0.5

    def __post_init__(self) -> None:
        _require(self.lr > 0 and math.isfinite(self.lr), "lr", "a positive number", self.lr)
        _require(self.weight_decay >= 0, "weight_decay", "zero or more", self.weight_decay)
        _require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            "betas",
            "two numbers in [0, 1)",
            self.betas,
        )
        _require(self.eps > 0, "eps", "a positive number", self.eps)
        _require(0 <= self.warmup_fraction < 1, "warmup_fraction", "a number in [0, 1)", self.warmup_fraction)
        _require(
            0 <= self.min_lr_fraction <= 1, "min_lr_fraction", "a number in [0, 1]", self.min_lr_fraction
        )
        _require(self.schedule in _DECAYS, "schedule", f"one of {', '.join(_DECAYS)}", self.schedule)
        _require(self.grad_clip >= 0, "grad_clip", "zero (off) or more", self.grad_clip)
        row, share = self.max_skipped_in_a_row, self.max_skipped_share
        _require(row >= 1, "max_skipped_in_a_row", "one or more", row)
        _require(0 <= share <= 1, "max_skipped_share", "a number in [0, 1]", share)


def parameter_groups(model: nn.Module, weight_decay: float, lr: float | None = None) -> list[dict[str, Any]]:
    """Split the trainable parameters into those that decay and those that do not.

    Decay is for matrices. Vectors and scalars (biases, norm weights) and every parameter marked
    ``_no_weight_decay`` (A_log, D and the delta bias of Mamba, where decay would drag the time scales towards
    one value; Gu & Dao 2023, and the `mamba_ssm` code) are left alone. Parameters marked with a ``_max_lr``
    (A, B and delta of S4, which diverge at the rate of the others; Gu et al. 2022, arXiv:2111.00396, appendix
    D) form groups of their own.

    Args:
        model: Module whose parameters are to be optimised.
        weight_decay: Decay of the first group.
        lr: Peak learning rate; that of a group with a smaller largest one is lowered to it.

    Returns:
        Groups in the form `torch.optim` takes, those without a largest rate first, those that decay before
        those that do not; inside, the order of ``model.named_parameters()``.
    """
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = getattr(parameter, "_no_weight_decay", False) or parameter.ndim < 2 or name.endswith(".bias")
        # negative, so that sorting puts no limit first, then the larger ones
        limit = -getattr(parameter, "_max_lr", math.inf)
        members.setdefault((limit, exempt), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for limit, exempt in sorted(members):
        group: dict[str, Any] = {
            "params": members[limit, exempt],
            "weight_decay": 0.0 if exempt else weight_decay,
        }
        if math.isfinite(limit):
            group["lr"] = -limit if lr is None else min(lr, -limit)
        groups.append(group)
    return groups


def lr_factor(config: OptimiserConfig, total_steps: int) -> Callable[[int], float]:
    """Return the multiplier of the peak learning rate as a function of the optimiser step.

    Args:
        config: Schedule settings.
        total_steps: Number of optimiser steps of the whole training; at least 1.

    Returns:
        A pure function of the step (0-based), so that a resumed run follows the same curve.
    """
    warmup = round(config.warmup_fraction * total_steps)
    decay = _DECAYS[config.schedule]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return config.min_lr_fraction + (1.0 - config.min_lr_fraction) * decay(progress)

    return factor


def build_optimiser(
    model: nn.Module, config: OptimiserConfig, total_steps: int
) -> tuple[SkippableAdamW, PausableLambdaLR]:
    """Build AdamW over `parameter_groups` and its per-step schedule.

    Args:
        model: Module to optimise.
        config: Optimiser settings.
        total_steps: Number of optimiser steps of the whole training.

    Returns:
        The optimiser and a scheduler to be stepped after every optimiser step.
    """
    groups = parameter_groups(model, config.weight_decay, config.lr)
    optimiser = SkippableAdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    return optimiser, PausableLambdaLR(optimiser, lr_factor(config, max(1, total_steps)))


def _require(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise UserError(f"optimiser.{name} must be {expected}, got {got!r}")


_DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
    "constant": lambda progress: 1.0,
}
