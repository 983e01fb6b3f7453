"""Normalisation of each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.nn.initialisers import protect
from seqmamba.nn.precision import at_least_float32
from seqmamba.ops import rms_norm

NormKind = Literal["rms", "layer"]


def unit_rms(x: Float[Tensor, "*shape dim"], eps: float) -> Float[Tensor, "*shape dim"]:
    """Scale each position to unit root mean square, in float32 or wider, without a weight.

    Args:
        x: Any floating dtype, which the result keeps.
        eps: Added to the mean square.
    """
    return F.rms_norm(at_least_float32(x), x.shape[-1:], eps=eps).to(x.dtype)


class RMSNorm(nn.Module):
    """Scale each position to unit root mean square, then by a learned weight (Zhang & Sennrich 2019).

    The arithmetic is float32 or wider whatever the input; the result has the weight's dtype, which is what
    the linear layer behind it expects. The weight gets no weight decay.

    Args:
        dim: Channels.
        eps: Added to the mean square.
        groups: Runs of ``dim / groups`` channels that are scaled each by itself.
    """

    def __init__(self, dim: int, eps: float = 1e-5, groups: int = 1) -> None:
        super().__init__()
        self.eps = eps
        self.groups = groups
        self.weight = protect(nn.Parameter(torch.ones(dim)))

    def forward(
        self,
        x: Float[Tensor, "*shape dim"],
        branch: Float[Tensor, "*shape dim"] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Normalise the last axis.

        Args:
            x: Any floating dtype; with a branch the residual stream, float32 or float64.
            branch: What is added to x first, in the same pass over memory on a GPU.
            dtype: Dtype of the result; the weight's by default.

        Returns:
            The normalised tensor; with a branch also the sum, in the dtype of x.
        """
        if self.groups > 1:
            return _sum_first(self._normalise_groups, x, branch, dtype)
        if branch is None:
            return rms_norm(x, self.weight, self.eps, dtype=dtype)
        return rms_norm(branch, self.weight, self.eps, residual=x, dtype=dtype)

    def _normalise_groups(self, x: Tensor, dtype: torch.dtype | None) -> Tensor:
        scaled = unit_rms(at_least_float32(x).unflatten(-1, (self.groups, -1)), self.eps).flatten(-2)
        return (scaled * self.weight).to(dtype or self.weight.dtype)

    def extra_repr(self) -> str:
        """Show the size when printed."""
        groups = "" if self.groups == 1 else f", groups={self.groups}"
        return f"{self.weight.shape[0]}, eps={self.eps}{groups}"


class LayerNorm(nn.Module):
    """Centre and scale each position, then a learned weight and bias (Ba et al. 2016, arXiv:1607.06450).

    Called as `RMSNorm` is, and as careful with the dtype.

    Args:
        dim: Channels.
        eps: Added to the variance.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = protect(nn.Parameter(torch.ones(dim)))
        self.bias = protect(nn.Parameter(torch.zeros(dim)))

    def forward(
        self,
        x: Float[Tensor, "*shape dim"],
        branch: Float[Tensor, "*shape dim"] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Normalise the last axis; see `RMSNorm.forward`."""
        return _sum_first(self._normalise, x, branch, dtype)

    def _normalise(self, x: Tensor, dtype: torch.dtype | None) -> Tensor:
        wide = at_least_float32(x)
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(wide, weight.shape, weight, bias, self.eps).to(dtype or self.weight.dtype)


def _sum_first(
    normalise: Callable[[Tensor, torch.dtype | None], Tensor],
    x: Tensor,
    branch: Tensor | None,
    dtype: torch.dtype | None,
) -> Any:
    if branch is None:
        return normalise(x, dtype)
    total = x + branch
    return normalise(total, dtype), total


NORMS: dict[str, type[RMSNorm] | type[LayerNorm]] = {"rms": RMSNorm, "layer": LayerNorm}
