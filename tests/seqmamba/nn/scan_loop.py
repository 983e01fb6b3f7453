"""The selective scan written out in PyTorch, over positions in any order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmamba.nn import SelectiveSSM
from seqmamba.nn.selective import Selection


def scan_in_order(
    selection: Selection, u: Tensor, order: Sequence[int], A_log: Tensor | None = None
) -> Tensor:
    """Visit the positions of (batch, length, dim) in that order; each output is at its input's position."""
    n_state = selection.A_log.shape[1]
    low_rank, B, C = selection.x_proj(u).split([selection.delta_rank, n_state, n_state], dim=-1)
    delta = F.softplus(selection.dt_proj(low_rank))
    A = -torch.exp(selection.A_log if A_log is None else A_log)
    h = torch.zeros(len(u), *A.shape, dtype=u.dtype)
    outputs: dict[int, Tensor] = {}
    for t in order:
        step = delta[:, t, :, None]
        h = torch.exp(step * A) * h + step * B[:, t, None] * u[:, t, :, None]
        outputs[t] = (h * C[:, t, None]).sum(-1) + selection.D * u[:, t]
    return torch.stack([outputs[t] for t in sorted(order)], dim=1)


def causal_convolution(ssm: SelectiveSSM, x: Tensor) -> Tensor:
    """The short convolution and its SiLU."""
    pad = ssm.conv1d.kernel_size[0] - 1
    return F.silu(F.conv1d(F.pad(x.mT, (pad, 0)), ssm.conv1d.weight, ssm.conv1d.bias, groups=x.shape[-1])).mT
