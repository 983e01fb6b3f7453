"""Both directions of one sequence, and how they meet."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seqmamba.distributed import ContextGroup, bidirectional_scan, selective_scan
from seqmamba.nn.config import Combine
from seqmamba.nn.selective import ScanOperands


def scan_both_ways(
    forward: ScanOperands,
    reverse: ScanOperands,
    z: Float[Tensor, "batch length dim"] | None,
    reset: Bool[Tensor, "batch length"] | None,
    impl: str,
    context: ContextGroup | None = None,
) -> Float[Tensor, "batch length dim"]:
    """Scan left to right and right to left and add, in one operator where the implementation is left to it.

    Args:
        forward: Operands of the scan from left to right.
        reverse: Operands of the scan from right to left.
        z: The gate of both.
        reset: True where a new packed sequence starts.
        impl: Implementation of the scans.
        context: The ranks that share out the sequence; see `seqmamba.distributed`.
    """
    if impl == "auto":
        pairs: list[Any] = list(zip(forward, reverse, strict=True))
        u, delta, A, B, C, D, bias = pairs
        both: dict[str, Any] = {"delta_softplus": forward[-1] is not None, "reset": reset, "context": context}
        return bidirectional_scan(u, delta, A, B, C, D, z, bias, **both)
    ys: list[Any] = []
    for (u, delta, A, B, C, D, bias), right_to_left in ((forward, False), (reverse, True)):
        options: dict[str, Any] = {"reverse": right_to_left, "reset": reset, "impl": impl, "context": context}
        y = selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=bias is not None, **options)
        ys.append(y)
    return ys[0] + ys[1]


def combine_directions(
    forward: Float[Tensor, "batch length dim"],
    reverse: Float[Tensor, "batch length dim"],
    combine: Combine,
    gate: Float[Tensor, "batch length dim"] | None = None,
) -> Float[Tensor, "batch length channels"]:
    """Let two directions meet; see `BidirectionalMamba` for the three ways.

    Args:
        forward: Output from left to right.
        reverse: Output from right to left.
        combine: ``add``, ``concat`` or ``gate``.
        gate: For ``gate``: before its sigmoid.
    """
    if combine == "add":
        return forward + reverse
    if combine == "concat":
        return torch.cat((forward, reverse), dim=-1)
    assert gate is not None
    return torch.lerp(reverse, forward, torch.sigmoid(gate).to(forward.dtype))
