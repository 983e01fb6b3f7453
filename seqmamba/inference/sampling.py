"""From logits to tokens."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from seqmamba import ops
from seqmamba.nn.options import is_number, is_whole, require, require_whole
from seqmamba.ops.draw import Draws, first_exceeding

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

    @property
    def cuts(self) -> bool:
        """Whether the unlikely tokens are cut off."""
        return self.top_k is not None or self.top_p is not None or self.min_p is not None


@torch.no_grad()
def draw(
    logits: Float[Tensor, "batch vocabulary"],
    uniforms: Float[Tensor, " batch"],
    sampling: SamplingConfig,
    out: Draws | None = None,
) -> Draws:
    """Draw one token a row by inverting the cumulative distribution, in float64.

    Nothing here waits for the device, so that a CUDA graph can hold it. What is not cut takes one kernel on
    an NVIDIA GPU; top-k, top-p and min-p sort. A NaN among the logits is one in the log-probability too.

    Args:
        logits: Any floating dtype; -inf forbids a token.
        uniforms: float64 in [0, 1), one a row.
        sampling: The rules.
        out: Memory (batch,) to write to; new by default.

    Returns:
        Of shape (batch,): ``out``, if given. No gradient flows.
    """
    if sampling.temperature == 0 or not sampling.cuts:
        return ops.draw(logits, uniforms, sampling.temperature, out=out)
    wide, order = logits.double().sort(dim=-1, descending=True, stable=True)  # stable: equal on every device
    shifted = wide - wide[:, :1]  # a NaN sorts first
    log_sum = shifted.exp().sum(dim=-1, keepdim=True).log()
    shifted = shifted[:, : sampling.top_k]
    scaled = shifted / sampling.temperature
    weights = scaled.exp()
    cumulative = weights.cumsum(dim=-1)
    total = _kept_weight(weights, cumulative, sampling)
    rank = first_exceeding(cumulative, uniforms[:, None] * total)
    sampled = scaled.gather(-1, rank) - total.log()
    out = Draws.empty(len(logits), device=logits.device) if out is None else out
    out.write(order.gather(-1, rank), shifted.gather(-1, rank) - log_sum, sampled)
    return out


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
