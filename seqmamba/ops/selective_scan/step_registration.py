"""The step of the selective scan as PyTorch operators, on NVIDIA GPUs, for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.in_place import may_overwrite

_OPERANDS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "bool delta_softplus, bool A_is_log=False"
)
_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(f"selective_state_step(Tensor state, {_OPERANDS}) -> (Tensor, Tensor)")
_LIBRARY.define(f"selective_state_step_in_place(Tensor(a!) state, {_OPERANDS}) -> Tensor")


@torch.library.impl(_LIBRARY, "selective_state_step", "CUDA")
def _step_cuda(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.selective_scan.triton_gpu_step import step  # Triton is there on some systems only

    return step(*arguments)


@torch.library.impl(_LIBRARY, "selective_state_step_in_place", "CUDA")
def _step_in_place_cuda(*arguments: Any) -> Tensor:
    from seqmamba.ops.selective_scan.triton_gpu_step import step_in_place

    return step_in_place(*arguments)


@torch.library.register_fake("seqmamba::selective_state_step", lib=_LIBRARY)
def _step_fake(state: Tensor, u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), state.new_empty(state.shape, dtype=torch.float32)


@torch.library.register_fake("seqmamba::selective_state_step_in_place", lib=_LIBRARY)
def _step_in_place_fake(state: Tensor, u: Tensor, *rest: Any) -> Tensor:
    return u.new_empty(u.shape)


def selective_state_step_registered(state: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """Run a registered operator: y, and the state after the step, which may be `state` itself, changed.

    The arguments are those of `selective_state_step`, in their order.
    """
    if may_overwrite(state):
        return torch.ops.seqmamba.selective_state_step_in_place(state, *operands), state
    return torch.ops.seqmamba.selective_state_step(state, *operands)
