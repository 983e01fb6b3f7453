"""Outputs and gradients in float64 at the full shape, by algorithms that share nothing with the operators.

The recurrence is cut into about sqrt(length) segments that step side by side, so a million steps cost a few
thousand launches; its adjoint is the same recurrence from right to left. Everything around it is autograd.
Channels are independent but for sums, so the work goes in slices of them that fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.benchmarks.inputs import Arguments, one_direction

Results = dict[str, Tensor]
"""``y`` and the gradient of every argument."""

_STATES = {"cuda": 2**28, "cpu": 2**24}
"""States (batch, length, channels, state) that a slice may have: about ten float64 tensors of that size."""

EPS = 1e-5


def exact_scan(arguments: Arguments, grad_y: Tensor) -> Results:
    """`selective_scan` with softplus."""
    axes = {"u": 2, "delta": 2, "A": 0, "D": 0, "z": 2, "delta_bias": 0}
    return _by_slices(arguments, grad_y, axes, 2, _states_a_channel(arguments), _gated_scan)


def exact_bidirectional(arguments: Arguments, grad_y: Tensor) -> Results:
    """`bidirectional_scan` with softplus."""
    axes = {"u": 2, "delta": 2, "A": 0, "D": 0, "delta_bias": 0}
    paired = {f"{name}_{way}": axis for name, axis in axes.items() for way in ("forward", "reverse")}

    def both(leaves: Arguments) -> Tensor:
        forward, reverse = one_direction(leaves, "forward"), one_direction(leaves, "reverse")
        sequences = ("u", "delta", "B", "C")
        flipped = {name: x.flip(1) if name in sequences else x for name, x in reverse.items()}
        return (_scan(**forward) + _scan(**flipped).flip(1)) * F.silu(leaves["z"])

    states = 2 * _states_a_channel(one_direction(arguments, "forward"))
    return _by_slices(arguments, grad_y, {**paired, "z": 2}, 2, states, both)


def exact_ssd(arguments: Arguments, grad_y: Tensor) -> Results:
    """`ssd` with softplus and one group, as a scan whose channels share their head's A and delta."""
    head_dim, state = arguments["x"].shape[3], arguments["B"].shape[3]
    shared = ("delta", "D", "delta_bias")
    spread = {name: arguments[name].repeat_interleave(head_dim, -1) for name in shared}
    spread |= {"u": arguments["x"].flatten(2), "z": arguments["z"].flatten(2)}
    spread |= {name: arguments[name][:, :, 0] for name in ("B", "C")}
    spread["A"] = arguments["A"].repeat_interleave(head_dim)[:, None].expand(-1, state)
    found = exact_scan(spread, grad_y.flatten(2))
    # what channels share gets the sum of their gradients
    results = {name: found[name].unflatten(-1, (-1, head_dim)).sum(-1) for name in shared}
    results["A"] = found["A"].view(-1, head_dim * state).sum(-1)
    results |= {name: found[name][:, :, None] for name in ("B", "C")}
    sequences = {"x": "u", "z": "z", "y": "y"}
    return results | {name: found[source].view(grad_y.shape) for name, source in sequences.items()}


def exact_conv(arguments: Arguments, grad_y: Tensor) -> Results:
    """`causal_conv1d` with SiLU: a sum of shifted products."""
    batch, length, _ = arguments["x"].shape

    def convolve(leaves: Arguments) -> Tensor:
        width = leaves["weight"].shape[1]
        padded = F.pad(leaves["x"], (0, 0, width - 1, 0))
        taps = (padded[:, k : k + length] * leaves["weight"][:, k] for k in range(width))
        return F.silu(sum(taps, leaves["bias"]))

    return _by_slices(arguments, grad_y, {"x": 2, "weight": 0, "bias": 0}, 2, batch * length, convolve)


def exact_norm(arguments: Arguments, grad_y: Tensor) -> Results:
    """`rms_norm` of x + residual, in slices of the sequence."""
    batch, _, dim = arguments["x"].shape

    def normalise(leaves: Arguments) -> Tensor:
        total = leaves["x"] + leaves["residual"]
        return total * torch.rsqrt(total.square().mean(-1, keepdim=True) + EPS) * leaves["weight"]

    return _by_slices(arguments, grad_y, {"x": 1, "residual": 1}, 1, batch * dim, normalise)


def _states_a_channel(arguments: Arguments) -> int:
    batch, length, *_ = arguments["delta"].shape
    return batch * length * arguments["B"].shape[-1]


def _by_slices(
    arguments: Arguments,
    grad_y: Tensor,
    axes: dict[str, int],
    y_axis: int,
    states: int,
    function: Callable[[Arguments], Tensor],
) -> Results:
    """Differentiate a function in float64, slice by slice.

    Args:
        arguments: Of the operator.
        grad_y: Gradient of its result.
        axes: For each argument that is cut, the axis; the gradients of the others are summed.
        y_axis: The axis along which the result is cut.
        states: Work of one index of the cut axis, in numbers.
        function: Gives the result from float64 leaves.

    Returns:
        The results in float32, which holds them to more digits than any tolerance here.
    """
    size = grad_y.shape[y_axis]
    step = max(1, _STATES[grad_y.device.type] // states)
    results: Results = {name: torch.zeros_like(x, dtype=torch.float64) for name, x in arguments.items()
                        if name not in axes}  # fmt: skip
    results |= {name: torch.zeros_like(arguments[name], dtype=torch.float32) for name in axes}
    results["y"] = torch.zeros_like(grad_y, dtype=torch.float32)
    for start in range(0, size, step):
        count = min(step, size - start)
        leaves = {
            name: (x.narrow(axes[name], start, count) if name in axes else x)
            .detach().to(torch.float64, copy=True).requires_grad_()
            for name, x in arguments.items()
        }  # fmt: skip
        with torch.enable_grad():
            y = function(leaves)
        given = grad_y.narrow(y_axis, start, count).double()
        grads = torch.autograd.grad(y, list(leaves.values()), given)
        results["y"].narrow(y_axis, start, count).copy_(y.detach())
        for name, grad in zip(leaves, grads, strict=True):
            if name in axes:
                results[name].narrow(axes[name], start, count).copy_(grad)
            else:
                results[name] += grad
    return {name: x.float() for name, x in results.items()}


def _gated_scan(leaves: Arguments) -> Tensor:
    return _scan(**{name: x for name, x in leaves.items() if name != "z"}) * F.silu(leaves["z"])


def _scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """Equation 2 of the Mamba paper, without the gate."""
    step = F.softplus(delta + delta_bias)
    decay = torch.exp(step[..., None] * A)
    h = _Recurrence.apply(decay, (step * u)[..., None] * B[:, :, None])
    return (h * C[:, :, None]).sum(-1) + D * u


class _Recurrence(torch.autograd.Function):
    """h_t = decay_t h_{t-1} + x_t along axis 1, from zero."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor) -> Tensor:
        h = _solve(decay, x)
        ctx.save_for_backward(decay, h)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        decay, h = ctx.saved_tensors
        following = torch.zeros_like(decay)
        following[:, :-1] = decay[:, 1:]
        # lambda_t = grad_t + decay_{t+1} lambda_{t+1}: the same recurrence from right to left
        adjoint = _solve(following.flip(1), grad.flip(1)).flip(1)
        grad_decay = following.zero_()
        torch.mul(adjoint[:, 1:], h[:, :-1], out=grad_decay[:, 1:])
        return grad_decay, adjoint


def _solve(decay: Tensor, x: Tensor) -> Tensor:
    """All h_t: each segment's end from zero, then the true starts, then every step from these."""
    length = x.shape[1]
    steps = 1 << (length.bit_length() // 2)
    padding = -length % steps
    if padding:
        decay, x = (F.pad(t, (0, 0, 0, 0, 0, padding)) for t in (decay, x))
    decay, x = (t.reshape(t.shape[0], -1, steps, *t.shape[2:]) for t in (decay, x))
    end, product = x[:, :, 0].clone(), decay[:, :, 0].clone()
    for t in range(1, steps):
        end = torch.addcmul(x[:, :, t], decay[:, :, t], end)
        product *= decay[:, :, t]
    start = torch.zeros_like(end)
    for segment in range(1, end.shape[1]):
        torch.addcmul(
            end[:, segment - 1], product[:, segment - 1], start[:, segment - 1], out=start[:, segment]
        )
    h = torch.empty_like(x)
    for t in range(steps):
        start = torch.addcmul(x[:, :, t], decay[:, :, t], start, out=h[:, :, t])
    return h.flatten(1, 2)[:, :length]
