"""Both directions of one sequence, added."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from seqmamba.ops import bidirectional_scan, selective_scan

Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""u, delta before its bias, A, B, C, D and the bias of delta, as `SelectiveSSM.select` makes them."""


def scan_both_ways(
    forward: Operands,
    reverse: Operands,
    z: Float[Tensor, "batch length dim"] | None,
    reset: Bool[Tensor, "batch length"] | None,
    impl: str,
) -> Float[Tensor, "batch length dim"]:
    """Scan left to right and right to left and add, in one operator where the implementation is left to it.

    Args:
        forward: Operands of the scan from left to right.
        reverse: Operands of the scan from right to left.
        z: The gate of both.
        reset: True where a new packed sequence starts.
        impl: Implementation of the scans.
    """
    if impl == "auto":
        u, delta, A, B, C, D, bias = zip(forward, reverse, strict=True)
        return bidirectional_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True, reset=reset)
    y = [
        selective_scan(*most, z, bias, delta_softplus=True, reverse=right_to_left, reset=reset, impl=impl)
        for (*most, bias), right_to_left in ((forward, False), (reverse, True))
    ]
    return y[0] + y[1]
