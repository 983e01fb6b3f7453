"""What passes from segment to segment on NVIDIA GPUs, so that all segments run at once; see reduce.cu."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqmamba.ops.selective_scan.cuda_operands import ScanOperands
from seqmamba.ops.selective_scan.layout import Segments, ceil_div, reduce_shape

_STAGED_STEPS = 32


@dataclass(frozen=True)
class Reduced:
    """What segments do to a state, or to the gradient of one: (batch, segments, dim, state) float32 each.

    Attributes:
        sums: What a segment adds to it.
        factors: What is left of it.
    """

    sums: Tensor
    factors: Tensor


def reduce(
    scan: ScanOperands,
    segments: Segments,
    value: Tensor,
    projection: Tensor,
    *,
    adjoint: bool,
    every: bool = False,
) -> Reduced:
    """Reduce each segment, or leave out the one that no other follows.

    Args:
        scan: The operands.
        segments: How the sequence is cut.
        value: u, or for the adjoint the gradient of y.
        projection: B, or C.
        adjoint: Whether the gradients of states pass, from the end to the start.
        every: Whether to reduce the last one too.
    """
    sums, factors = torch.empty(
        2, scan.batch, segments.count, scan.dim, scan.n_state, dtype=torch.float32, device=value.device
    )
    tensors = 3 if adjoint and scan.z is not None else 2
    shape = reduce_shape(scan.n_state)
    stage = padded(scan.n_state) * 4 + tensors * shape.channels * value.element_size()
    shared = _STAGED_STEPS * (2 * stage + shape.channels * 8) + ceil_div(2 * shape.warps, 4) * 16
    arguments = [value, scan.delta, scan.A, projection, scan.z, scan.bias, scan.reset, sums, factors]
    sizes = [scan.length, segments.count, segments.steps, scan.z_batch, projection.stride(0)]
    scan.launch(
        "reduce.cu",
        "scan_reduce",
        shape,
        (scan.batch * (segments.count - (not every)), shape.tiles(scan.groups, scan.dim)),
        shared,
        [*arguments, *sizes],
        ADJOINT=int(adjoint),
        EVERY=int(every),
    )
    return Reduced(sums, factors)


def carry(scan: ScanOperands, reduced: Reduced, boundary: Tensor | None, *, adjoint: bool) -> Tensor:
    """Start state of each segment, or the gradient of its last state: (batch, segments, dim, state)."""
    shape = reduce_shape(scan.n_state)
    carries = torch.empty_like(reduced.sums)
    blocks = (ceil_div(scan.batch * scan.dim * scan.n_state, shape.warps * 32), 1)
    scan.launch(
        "reduce.cu",
        "scan_carry",
        shape,
        blocks,
        0,
        [reduced.sums, reduced.factors, boundary, carries, scan.batch, carries.shape[1]],
        ADJOINT=int(adjoint),
        EVERY=0,
    )
    return carries


def piece_of(scan: ScanOperands, reduced: Reduced, *, adjoint: bool) -> tuple[Tensor, Tensor]:
    """What all segments together add to a state and leave of one, (batch, dim, state) each."""
    last = 0 if adjoint else -1
    entering = carry(scan, reduced, None, adjoint=adjoint)[:, last]
    return reduced.factors[:, last] * entering + reduced.sums[:, last], reduced.factors.prod(dim=1)


def padded(n_state: int) -> int:
    """Floats a row of B or C takes in shared memory."""
    return 16 if n_state > 8 else 8 if n_state > 4 else 4
