"""From logits to tokens."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from seqmamba.nn.options import is_number, is_whole, require, require_whole

_LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn: softmax(logits / temperature), cut by top-k, then top-p and min-p, renormalised.

    Args:
        temperature: 1 samples from the model; below 1 favours likely tokens; 0 takes the likeliest, the first
            of equals.
        top_k: Keep the k likeliest tokens (Fan et al. 2018, arXiv:1805.04833, section 5.4).
        top_p: Of those keep the fewest whose probabilities reach this sum (Holtzman et al. 2020,
            arXiv:1904.09751, section 3.1).
        min_p: Keep tokens of at least this probability as a part of the likeliest one's (Nguyen et al. 2024,
            arXiv:2407.01082, section 3).
        seed: A token is set by the logits, this seed, its row and its position; not by the batch it shares,
            by the cut of the work into blocks, or by the device.

    Raises:
        UserError: If a value is out of range.
    """

    _: KW_ONLY
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        warm = is_number(self.temperature) and self.temperature >= 0
        require(warm, "temperature", "a number >= 0", self.temperature)
        if self.top_k is not None:
            require_whole("top_k", self.top_k)
        for name in ("top_p", "min_p"):
            part = getattr(self, name)
            require(part is None or (is_number(part) and 0 < part <= 1), name, "a number in (0, 1]", part)
        in_range = is_whole(self.seed, 0) and self.seed <= _LARGEST_SEED
        require(in_range, "seed", "a whole number from 0 to 2^64 - 1", self.seed)


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


def draw(
    logits: Float[Tensor, "batch vocabulary"], uniforms: Float[Tensor, " batch"], sampling: SamplingConfig
) -> Draws:
    """Draw one token a row by inverting the cumulative distribution, in float64.

    Nothing here waits for the device, so that a CUDA graph can hold it. A NaN among the logits is one
    in the log-probability too.

    Args:
        logits: Any floating dtype; -inf forbids a token.
        uniforms: float64 in [0, 1), one a row.
        sampling: The rules.

    Returns:
        Of shape (batch,).
    """
    logits = logits.double()
    log_sums = logits.logsumexp(dim=-1, keepdim=True)
    if sampling.temperature == 0:
        chosen = logits.argmax(dim=-1, keepdim=True)
        certain = torch.zeros_like(log_sums)
        return _draws(chosen, logits.gather(-1, chosen) - log_sums, certain)
    order = None
    if sampling.top_k is not None or sampling.top_p is not None or sampling.min_p is not None:
        logits, order = logits.sort(dim=-1, descending=True, stable=True)  # stable: equal on every device
        logits = logits[:, : sampling.top_k]
    weights = torch.exp((logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature)
    cumulative = weights.cumsum(dim=-1)
    total = _kept_weight(weights, cumulative, sampling)
    # the first rank whose cumulative weight exceeds the target: never one of weight zero, as uniforms < 1
    rank = (cumulative <= uniforms[:, None] * total).sum(dim=-1, keepdim=True).clamp(max=weights.shape[1] - 1)
    chosen = rank if order is None else order.gather(-1, rank)
    return _draws(
        chosen, logits.gather(-1, rank) - log_sums, torch.log(weights.gather(-1, rank)) - torch.log(total)
    )


def _kept_weight(weights: Tensor, cumulative: Tensor, sampling: SamplingConfig) -> Tensor:
    """The summed weight of what top-p and min-p keep: in sorted order both keep the first ranks."""
    total = cumulative[:, -1:]
    if sampling.top_p is None and sampling.min_p is None:
        return total
    kept = torch.ones_like(weights, dtype=torch.bool)
    if sampling.top_p is not None:
        kept &= F.pad(cumulative[:, :-1], (1, 0)) < sampling.top_p * total
    if sampling.min_p is not None:
        kept &= weights >= sampling.min_p  # the likeliest has weight 1
    return torch.where(kept, cumulative, 0).amax(dim=-1, keepdim=True)


def _draws(chosen: Tensor, log_probs: Tensor, sampled: Tensor) -> Draws:
    return Draws(chosen[:, 0], log_probs[:, 0].float(), sampled[:, 0].float())
