"""The step of the selective scan as a PyTorch operator, on NVIDIA GPUs, for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(
    "selective_state_step(Tensor state, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, "
    "Tensor? z, Tensor? delta_bias, bool delta_softplus, bool A_is_log=False) -> (Tensor, Tensor)"
)


@torch.library.impl(_LIBRARY, "selective_state_step", "CUDA")
def _step_cuda(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.selective_scan.triton_gpu_step import step  # Triton is there on some systems only

    return step(*arguments)


@torch.library.register_fake("seqmamba::selective_state_step", lib=_LIBRARY)
def _step_fake(state: Tensor, u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), state.new_empty(state.shape, dtype=torch.float32)


def selective_state_step_registered(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run the registered operator; the arguments are those of `selective_state_step`, in their order."""
    return torch.ops.seqmamba.selective_state_step(*arguments)
