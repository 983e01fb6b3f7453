"""Drawing in PyTorch: the specification of the operator, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Draws(NamedTuple):
    """Tokens and how likely they were.

    Attributes:
        tokens: int64.
        log_probs: Natural logarithm of each token's probability under the model, at temperature 1 and uncut;
            float32.
        sampled_log_probs: The same under the distribution it was drawn from.
    """

    tokens: Int[Tensor, "*shape"]
    log_probs: Float[Tensor, "*shape"]
    sampled_log_probs: Float[Tensor, "*shape"]

    @classmethod
    def empty(cls, *shape: int, device: torch.device) -> Draws:
        """Return memory for draws, to be written."""
        log_probs, sampled = (torch.empty(shape, dtype=torch.float32, device=device) for _ in range(2))
        return cls(torch.empty(shape, dtype=torch.int64, device=device), log_probs, sampled)

    def write(self, chosen: Tensor, log_probs: Tensor, sampled: Tensor) -> None:
        """Fill in one column (batch, 1) of each, in whatever precision it was computed."""
        for target, source in zip(self, (chosen, log_probs, sampled), strict=True):
            target.copy_(source[:, 0])


def first_exceeding(
    cumulative: Float[Tensor, "batch ranks"], target: Float[Tensor, "batch 1"]
) -> Int[Tensor, "batch 1"]:
    """Invert a cumulative distribution: the first rank whose cumulative weight exceeds the target.

    It is none of weight zero where the target is less than the whole weight.
    """
    return (cumulative <= target).sum(dim=-1, keepdim=True).clamp(max=cumulative.shape[1] - 1)


def draw_reference(logits: Tensor, uniforms: Tensor, temperature: float, out: Draws) -> None:
    """Draw in float64.

    Args:
        logits: (batch, vocabulary).
        uniforms: (batch,).
        temperature: Not negative.
        out: (batch,), to be filled.
    """
    wide = logits.double()
    shifted = wide - wide.amax(dim=-1, keepdim=True)
    log_sum = shifted.exp().sum(dim=-1, keepdim=True).log()
    if temperature == 0:
        chosen = wide.argmax(dim=-1, keepdim=True)
        out.write(chosen, shifted.gather(-1, chosen) - log_sum, torch.zeros_like(log_sum))
        return
    scaled = shifted / temperature
    cumulative = scaled.exp().cumsum(dim=-1)
    total = cumulative[:, -1:]
    chosen = first_exceeding(cumulative, uniforms[:, None] * total)
    out.write(chosen, shifted.gather(-1, chosen) - log_sum, scaled.gather(-1, chosen) - total.log())
