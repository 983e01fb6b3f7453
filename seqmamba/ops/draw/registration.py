"""Drawing as a PyTorch operator, on NVIDIA GPUs: the only file of the folder that touches torch.library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.draw.reference import Draws

_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(
    "draw(Tensor logits, Tensor uniforms, float temperature, Tensor(a!) tokens, Tensor(b!) log_probs, "
    "Tensor(c!) sampled_log_probs) -> ()"
)


@torch.library.impl(_LIBRARY, "draw", "CUDA")
def _draw_cuda(*arguments: Any) -> None:
    from seqmamba.ops.draw.triton_gpu import launch  # Triton is there on some systems only

    launch(*arguments)


@torch.library.register_fake("seqmamba::draw", lib=_LIBRARY)
def _draw_fake(*arguments: Any) -> None:
    """It writes into its arguments and returns nothing."""


def draw_registered(logits: Tensor, uniforms: Tensor, temperature: float, out: Draws) -> None:
    """Run the registered operator on the arguments of `draw_reference`."""
    torch.ops.seqmamba.draw(logits, uniforms, temperature, *out)
