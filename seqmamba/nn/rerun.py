"""A part of a model that runs without a graph first, and again when its gradient is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def rerun(run: Callable[[], Tensor], parameters: Iterable[Tensor]) -> Tensor:
    """Return ``run()``, and hold nothing of how it came about: the backward pass runs it once more.

    `torch.utils.checkpoint` does that for parts whose inner graph is small. Here the second run is a pass of
    its own, so what it saves can be recomputed or moved to the host in turn; and parameters get their
    gradients through the graph, as DistributedDataParallel needs it.

    Args:
        run: Computes a tensor from the parameters alone; random numbers and autocast are those of the first
            run.
        parameters: What gradients are wanted of.
    """
    return _Rerun.apply(run, *(each for each in parameters if each.requires_grad))


class _Rerun(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Callable[[], Tensor], *parameters: Tensor) -> Tensor:
        device = parameters[0].device
        ctx.run, ctx.device = run, device
        ctx.save_for_backward(*parameters)
        ctx.random = torch.get_rng_state(), _device_state(device)
        kind = device.type
        ctx.autocast = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }
        return run()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parameters, devices = ctx.saved_tensors, [ctx.device] if ctx.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.enable_grad(), torch.autocast(**ctx.autocast):
            torch.set_rng_state(ctx.random[0])
            if devices:
                torch.cuda.set_rng_state(ctx.random[1], ctx.device)
            result = ctx.run()
        return (None, *torch.autograd.grad(result, parameters, gradient, allow_unused=True))


def _device_state(device: torch.device) -> Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None
