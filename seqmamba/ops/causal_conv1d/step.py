"""One step of the causal convolution, for generation token by token."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.causal_conv1d.api import causal_conv1d
from seqmamba.ops.causal_conv1d.reference import compute_dtype
from seqmamba.ops.causal_conv1d.registration import causal_conv1d_step_in_place
from seqmamba.ops.dispatch import triton_obstacle
from seqmamba.ops.in_place import may_overwrite
from seqmamba.ops.validation import check_axes, check_shape, check_tensors

_NAME = "causal_conv1d_step"


def causal_conv1d_step(
    state: Float[Tensor, "batch past dim"],
    x: Float[Tensor, "batch dim"],
    weight: Float[Tensor, "dim width"],
    bias: Float[Tensor, " dim"] | None = None,
    *,
    activation: str | None = None,
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch past dim"]]:
    """Advance `causal_conv1d` by one step; by default nothing is changed in place.

    Off the CPU it is the operator itself, which is one kernel there. On an NVIDIA GPU, without gradients and
    inside `updating_states_in_place`, that kernel changes `state` and returns it. On the CPU a step has less
    work than a compiled kernel takes to call, and a few operations of PyTorch do it.

    Args:
        state: The last width-1 inputs, latest last.
        x: Input.
        weight: One filter a channel; the last tap multiplies `x`.
        bias: Added before the activation.
        activation: None or "silu".

    Returns:
        y in x's dtype, and the state after the step in float32 (float64 if any argument is).

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    check_axes(_NAME, "x", x, ("batch", "dim"))
    in_place = _runs_in_place(state, x, weight, bias)
    if x.device.type != "cpu" and not in_place:
        y, state = causal_conv1d(
            x[:, None], weight, bias, activation=activation, initial_state=state, return_final_state=True
        )
        return cast(Tensor, y)[:, 0], state
    check_axes(_NAME, "weight", weight, ("dim", "width"))
    (batch, dim), width = x.shape, weight.shape[1]
    check_shape(_NAME, "weight", weight, {"dim": dim, "width": width})
    check_shape(_NAME, "state", state, {"batch": batch, "width-1": width - 1, "dim": dim})
    if bias is not None:
        check_shape(_NAME, "bias", bias, {"dim": dim})
    check_tensors(_NAME, {"x": x, "state": state, "weight": weight, "bias": bias}, complex_allowed=())
    if activation not in (None, "silu"):
        raise UserError(f'{_NAME}: activation must be None or "silu", got {activation!r}')
    if in_place:
        return causal_conv1d_step_in_place(state, x, weight, bias, activation == "silu"), state

    dtype = compute_dtype(x, weight, bias, state)
    window = torch.cat((state.to(dtype), x.to(dtype)[:, None]), dim=1)
    y = (window * weight.T.to(dtype)).sum(1)
    if bias is not None:
        y = y + bias.to(dtype)
    return (F.silu(y) if activation == "silu" else y).to(x.dtype), window[:, 1:]


def _runs_in_place(state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether the kernel is to change the state, which it can without gradients."""
    if not may_overwrite(state):
        return False
    tensors = (state, x, weight, bias)
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return not differentiable and triton_obstacle(*tensors) is None
