"""The selective scan on NVIDIA GPUs: tensors in, tensors out, around kernels that NVRTC compiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.cuda import runtime
from seqmamba.ops.selective_scan.cuda_carry import Reduced, carry, padded, piece_of, reduce
from seqmamba.ops.selective_scan.cuda_operands import ScanOperands, float32, prepare
from seqmamba.ops.selective_scan.layout import (
    GPU_SAVE_STEPS,
    KernelShape,
    backward_shape,
    ceil_div,
    forward_shape,
)
from seqmamba.ops.selective_scan.registration import saved_buffer

_STAGED_STEPS = 8  # of the forward
_SUB_STEPS = 4  # of the backward


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
    add_to: Tensor | None = None,
    reduced: Reduced | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `selective_scan_reference`, with up to 16 states; the third result serves `backward`.

    Args:
        u: (batch, length, dim); so are delta and z. B, C: (batch, length, groups, state). The rest is as
            `selective_scan_reference` takes it.
        delta: See u.
        A: (dim, state).
        B: See u.
        C: See u.
        D: (dim,) or None.
        z: See u.
        delta_bias: (dim,) or None.
        initial_state: (batch, dim, state) or None.
        reset: (batch, length) bool or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        reverse: Scan from right to left.
        save: Whether to save states for `backward`.
        add_to: y of another scan, which this one adds to and returns in place of a new tensor.
        reduced: What `forward_piece` has found, if it was called.
    """
    scan = prepare(u, delta, A, B, C, D, z, delta_bias, reset, delta_softplus, reverse)
    shape = forward_shape(scan.batch, scan.dim, scan.groups, scan.multiprocessors)
    segments = scan.cut(shape)
    boundary = None if initial_state is None else float32(initial_state)
    starts = boundary
    if segments.count > 1:
        reduced = reduced or reduce(scan, segments, scan.u, scan.B, adjoint=False)
        starts = carry(scan, reduced, boundary, adjoint=False)
    y = torch.empty_like(scan.u) if add_to is None else add_to.to(scan.u.dtype)
    final = torch.empty(scan.batch, scan.dim, scan.n_state, dtype=torch.float32, device=u.device)
    saved = saved_buffer(scan.u, scan.n_state, save, scan.u.dtype)
    width = padded(scan.n_state)
    tensors = 2 + (z is not None) + (add_to is not None)
    steps = _STAGED_STEPS
    shared = 2 * steps * (2 * width * 4 + tensors * shape.channels * y.element_size())
    arguments = [scan.u, scan.delta, scan.A, scan.B, scan.C, scan.D, scan.z, scan.bias, starts, scan.reset]
    sizes = [scan.length, segments.count, segments.steps, scan.z_batch, scan.B.stride(0), scan.C.stride(0)]
    scan.launch(
        "forward.cu",
        "scan_forward",
        shape,
        (scan.batch * segments.count, shape.tiles(scan.groups, scan.dim)),
        shared,
        [*arguments, y, final, saved, *sizes],
        CHANNELS=shape.channels // (shape.warps * 32),
        SAVE=int(save),
        ACCUMULATE=int(add_to is not None),
    )
    return y.to(u.dtype), final, saved


def backward(
    grad_y: Tensor,
    grad_final: Tensor | None,
    y: Tensor,
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
    *,
    gate_gradient: bool = True,
    add_to: Tensor | None = None,
    reduced: Reduced | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias, each in its dtype, empty if absent; initial_state.

    Where several scans share a gate, `y` is their sum, and one of them computes the gate's gradient of all:
    the others are told not to. float16 is an exception, see `undoes_gate`: there `add_to` is the gradient of
    z from another scan, which this one adds to. `reduced` is what `backward_piece` has found, if called.
    """
    scan = prepare(u, delta, A, B, C, D, z, delta_bias, reset, delta_softplus, reverse)
    grad_y, gated_y = grad_y.to(scan.u.dtype).contiguous(), y.to(scan.u.dtype).contiguous()
    shape = backward_shape(scan.n_state, _is_lean(scan))
    segments = scan.cut(shape)
    carries = None if grad_final is None else float32(grad_final)
    if segments.count > 1:
        reduced = reduced or reduce(scan, segments, grad_y, scan.C, adjoint=True)
        carries = carry(scan, reduced, carries, adjoint=True)
    batch, length, dim, n_state, groups = scan.batch, scan.length, scan.dim, scan.n_state, scan.groups
    tiles = shape.tiles(groups, dim)
    parts = batch * segments.count

    def sums(*sizes: int) -> Tensor:
        return torch.empty(*sizes, dtype=torch.float32, device=u.device)

    d_u, d_delta = torch.empty_like(scan.u), torch.empty_like(scan.u)
    d_z = None
    if z is not None and gate_gradient:
        d_z = torch.empty_like(scan.u) if add_to is None else add_to.to(scan.u.dtype)
    d_A, d_D, d_bias = sums(parts, dim, n_state), sums(parts, dim), sums(parts, dim)
    d_initial = sums(batch, dim, n_state)
    d_B, d_C = (scan.u.new_empty(batch, length, groups, n_state) for _ in range(2))
    over = tiles // groups
    tiles_B, tiles_C = (
        (d_B, d_C) if over == 1 else torch.empty(2, over, *d_B.shape, dtype=d_B.dtype, device=u.device)
    )
    constants = {"GATE_GRADIENT": int(gate_gradient), "ACCUMULATE": int(add_to is not None)}
    operands = [scan.u, scan.delta, scan.A, scan.B, scan.C, scan.D, scan.z, scan.bias, scan.reset]
    outputs = [d_u, d_delta, d_A, tiles_B, tiles_C, d_D, d_z, d_bias, d_initial]
    sizes = [batch, length, segments.count, segments.steps, scan.z_batch, scan.B.stride(0), scan.C.stride(0)]
    scan.launch(
        "backward.cu",
        "scan_backward",
        shape,
        (parts, tiles),
        _backward_shared_bytes(shape, n_state),
        [grad_y, gated_y, *operands, saved, carries, *outputs, *sizes],
        **constants,
    )
    if over > 1:
        for sums_of, gradient in ((tiles_B, d_B), (tiles_C, d_C)):
            _sum_tiles(scan, shape, sums_of, gradient, constants)
    return (
        d_u.to(u.dtype),
        d_delta.to(delta.dtype),
        d_A.sum(0).to(A.dtype),
        d_B.view(B.shape).to(B.dtype),
        d_C.view(C.shape).to(C.dtype),
        u.new_empty(0) if D is None else d_D.sum(0).to(D.dtype),
        u.new_empty(0) if z is None or d_z is None else d_z.to(z.dtype),
        u.new_empty(0) if delta_bias is None else d_bias.sum(0).to(delta_bias.dtype),
        d_initial,
    )


def forward_piece(*operands: Any) -> tuple[Tensor, Tensor, Reduced]:
    """Find out what a scan makes of the state before it, ahead of `forward`, and at a fraction of its price.

    Args:
        *operands: u to reverse, as `forward` takes them, but without the initial state.

    Returns:
        The final state from a zero initial one, and what is left of another initial one, both (batch, dim,
        state) float32; and what `forward` can use of it.
    """
    scan = prepare(*operands)
    segments = scan.cut(forward_shape(scan.batch, scan.dim, scan.groups, scan.multiprocessors))
    reduced = reduce(scan, segments, scan.u, scan.B, adjoint=False, every=True)
    return *piece_of(scan, reduced, adjoint=False), reduced


def backward_piece(grad_y: Tensor, *operands: Any) -> tuple[Tensor, Reduced]:
    """Find the gradient of the initial state where that of the final state is zero, ahead of `backward`.

    Args:
        grad_y: (batch, length, dim).
        *operands: As `forward_piece` takes them.

    Returns:
        The gradient (batch, dim, state) float32, and what `backward` can use of it.
    """
    scan = prepare(*operands)
    segments = scan.cut(backward_shape(scan.n_state, _is_lean(scan)))
    grad_y = grad_y.to(scan.u.dtype).contiguous()
    reduced = reduce(scan, segments, grad_y, scan.C, adjoint=True, every=True)
    return piece_of(scan, reduced, adjoint=True)[0], reduced


def _sum_tiles(
    scan: ScanOperands, shape: KernelShape, tiles: Tensor, gradient: Tensor, constants: dict[str, int]
) -> None:
    """Add up the tiles of a group, in their order, into the gradient of B or C."""
    blocks = (ceil_div(gradient.numel(), shape.warps * 32), 1)
    arguments: list[Tensor | int | None] = [tiles, gradient, gradient.numel()]
    scan.launch("backward.cu", "scan_sum_tiles", shape, blocks, 0, arguments, **constants)


def undoes_gate(dtype: torch.dtype) -> bool:
    """Whether `backward` takes y before its gate from the gated y; float16 rounds too much for that."""
    return dtype != torch.float16


def _is_lean(scan: ScanOperands) -> bool:
    """Whether three blocks of the backward fit a multiprocessor: bfloat16, gated, without resets."""
    three = 3 * (_backward_shared_bytes(backward_shape(scan.n_state, lean=True), scan.n_state) + 1024)
    fits = runtime.device_properties(scan.u.device).shared_bytes_per_multiprocessor >= three
    return fits and scan.u.dtype == torch.bfloat16 and scan.z is not None and scan.reset is None


def _backward_shared_bytes(shape: KernelShape, n_state: int) -> int:
    split = 2 if n_state > 8 else 1
    width = padded(n_state)
    rows = GPU_SAVE_STEPS * 2 * width
    start = 32 * (width // split)
    starts = (GPU_SAVE_STEPS // _SUB_STEPS - 1) * start + 4 * 4 * (32 + 4)
    slots = GPU_SAVE_STEPS * (32 // split) * 4 + 32 * 4
    return 4 * (2 * rows + shape.warps * (rows + starts + slots))
