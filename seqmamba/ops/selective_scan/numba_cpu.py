"""The selective scan on the CPU: tensors in, tensors out, around the numba kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.ops.numba_math import LOG2_E
from seqmamba.ops.numba_threads import channels, float32, run_tasks, sequence_starts
from seqmamba.ops.selective_scan.layout import SEGMENT, channel_tiles
from seqmamba.ops.selective_scan.numba_kernels import Gradients, Inputs, Options, scan_backward, scan_forward


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `selective_scan_reference` in float32; the third result serves `backward`."""
    (batch, length, dim), n_state = u.shape, A.shape[1]
    inputs = _inputs(u, delta, A, B, C, D, z, delta_bias, reset, reverse)
    options, tasks = _options(u, B, z, delta_softplus, reverse)
    segments = -(-length // SEGMENT) if save else 0
    initial = (
        u.new_zeros(batch, dim, n_state, dtype=torch.float32) if initial_state is None else initial_state
    )
    y = torch.empty(batch, length, dim)
    final, saved = torch.empty(batch, dim, n_state), torch.empty(batch, segments, n_state, dim)
    run_tasks(
        scan_forward,
        tasks,
        inputs,
        options,
        float32(initial).numpy(),
        y.numpy(),
        final.numpy(),
        saved.numpy(),
    )
    return y.to(u.dtype), final, saved.view(-1)


def backward(
    grad_y: Tensor,
    grad_final: Tensor,
    saved: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias, each in its dtype, empty if absent; initial_state."""
    (batch, length, dim), (groups, n_state) = u.shape, B.shape[2:]
    inputs = _inputs(u, delta, A, B, C, D, z, delta_bias, reset, reverse)
    options, tasks = _options(u, B, z, delta_softplus, reverse)
    tiles = tasks // (batch * groups)
    grads = (
        torch.empty(batch, length, dim),
        torch.empty(batch, length, dim),
        torch.empty(batch, dim, n_state),
        torch.empty(tiles, batch, length, groups * n_state),
        torch.empty(tiles, batch, length, groups * n_state),
        torch.empty(batch, dim),
        torch.empty((0, 0, 0) if z is None else (batch, length, dim)),
        torch.empty(batch, dim),
        torch.empty(batch, dim, n_state),
    )
    arrays = Gradients(*(grad.numpy() for grad in grads))
    states = saved.view(batch, -1, n_state, dim)
    given = (states.numpy(), float32(grad_y).numpy(), float32(grad_final).numpy())
    run_tasks(scan_backward, tasks, inputs, options, *given, arrays)
    d_u, d_delta, d_A, d_B, d_C, d_D, d_z, d_bias, d_initial = grads
    return (
        d_u.to(u.dtype),
        d_delta.to(delta.dtype),
        d_A.sum(0).to(A.dtype),
        d_B.sum(0).view(B.shape).to(B.dtype),
        d_C.sum(0).view(C.shape).to(C.dtype),
        u.new_empty(0) if D is None else d_D.sum(0).to(D.dtype),
        u.new_empty(0) if z is None else d_z.to(z.dtype),
        u.new_empty(0) if delta_bias is None else d_bias.sum(0).to(delta_bias.dtype),
        d_initial,
    )


def _inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
) -> Inputs:
    """The kernels' view of the operands."""
    batch, length, dim = u.shape
    return Inputs(
        u=float32(u).numpy(),
        delta=float32(delta).numpy(),
        A=(float32(A) * float(LOG2_E)).numpy(),
        B=float32(B).flatten(2).numpy(),
        C=float32(C).flatten(2).numpy(),
        D=channels(D, dim).numpy(),
        z=(torch.empty(0, 0, 0) if z is None else float32(z)).numpy(),
        delta_bias=channels(delta_bias, dim).numpy(),
        starts=sequence_starts(batch, length, reset, reverse).numpy(),
    )


def _options(
    u: Tensor, B: Tensor, z: Tensor | None, delta_softplus: bool, reverse: bool
) -> tuple[Options, int]:
    """The kernels' options, and the number of tasks."""
    (batch, _, dim), groups = u.shape, B.shape[2]
    tile, tiles = channel_tiles(batch, groups, dim // groups)
    options = Options(z is not None, delta_softplus, reverse, tile, SEGMENT)
    return options, batch * groups * tiles
