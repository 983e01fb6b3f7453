"""The step of a diagonal system as PyTorch operators, on NVIDIA GPUs, for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.in_place import may_overwrite

_OPERANDS = "Tensor u, Tensor transition, Tensor drive, Tensor C, Tensor? D, bool gelu"
_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(f"lti_state_step(Tensor state, {_OPERANDS}) -> (Tensor, Tensor)")
_LIBRARY.define(f"lti_state_step_in_place(Tensor(a!) state, {_OPERANDS}) -> Tensor")


@torch.library.impl(_LIBRARY, "lti_state_step", "CUDA")
def _step_cuda(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.lti.triton_gpu_step import step  # Triton is there on some systems only

    return step(*arguments)


@torch.library.impl(_LIBRARY, "lti_state_step_in_place", "CUDA")
def _step_in_place_cuda(*arguments: Any) -> Tensor:
    from seqmamba.ops.lti.triton_gpu_step import step_in_place

    return step_in_place(*arguments)


@torch.library.register_fake("seqmamba::lti_state_step", lib=_LIBRARY)
def _step_fake(state: Tensor, u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), state.new_empty(state.shape, dtype=torch.complex64)


@torch.library.register_fake("seqmamba::lti_state_step_in_place", lib=_LIBRARY)
def _step_in_place_fake(state: Tensor, u: Tensor, *rest: Any) -> Tensor:
    return u.new_empty(u.shape)


def lti_state_step_registered(state: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """Run a registered operator: y, and the state after the step, which may be `state` itself, changed."""
    if may_overwrite(state):
        return torch.ops.seqmamba.lti_state_step_in_place(state, *operands), state
    return torch.ops.seqmamba.lti_state_step(state, *operands)
