"""`bidirectional_scan`: validate, choose an implementation, call it."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.bidirectional_scan.registration import Direction, bidirectional_scan_cuda
from seqmamba.ops.dispatch import Implementation, Options, choose, cuda_obstacle, no_obstacle
from seqmamba.ops.selective_scan import selective_scan
from seqmamba.ops.selective_scan.api import validate
from seqmamba.ops.selective_scan.layout import GPU_STATES

_NAME = "bidirectional_scan"
_Pair = tuple[Tensor, Tensor]


def _fused_obstacle(*tensors: Tensor | None) -> str | None:
    A = tensors[2]
    if A is not None and A.shape[-1] > GPU_STATES:
        return f"it holds up to {GPU_STATES} states and A has {A.shape[-1]}"
    return cuda_obstacle(*tensors)


def _two_scans(
    forward: Direction, reverse: Direction, z: Tensor | None, reset: Tensor | None, delta_softplus: bool
) -> Tensor:
    options: dict[str, Any] = {"z": z, "delta_softplus": delta_softplus, "reset": reset}
    ys: list[Any] = []
    for (u, delta, A, B, C, D, bias), right_to_left in ((forward, False), (reverse, True)):
        ys.append(selective_scan(u, delta, A, B, C, D, delta_bias=bias, reverse=right_to_left, **options))
    return ys[0] + ys[1]


# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "cuda",
        "CUDA C++ kernels; the second scan adds to what the first has written",
        bidirectional_scan_cuda,
        _fused_obstacle,
        hint='use impl="auto" or impl="separate"',
    ),
    Implementation(
        "separate",
        "two calls of selective_scan, whatever it runs on",
        _two_scans,
        no_obstacle,
        hint="",
    ),
)


def bidirectional_scan(
    u: _Pair,
    delta: _Pair,
    A: _Pair,
    B: _Pair,
    C: _Pair,
    D: tuple[Tensor | None, Tensor | None] | None = None,
    z: Float[Tensor, "batch length dim"] | None = None,
    delta_bias: tuple[Tensor | None, Tensor | None] | None = None,
    *,
    delta_softplus: bool = False,
    reset: Bool[Tensor, "batch length"] | None = None,
    impl: str = "auto",
) -> Float[Tensor, "batch length dim"]:
    """Scan left to right and right to left, each with its own operands, add both and gate the sum by silu(z).

    The same as ``selective_scan(u[0], ..., z) + selective_scan(u[1], ..., z, reverse=True)``: the mixing of
    BiMamba (Schiff et al. 2024, https://arxiv.org/abs/2403.03234, section 4.1). On a GPU neither the sum nor
    the gate costs a pass over memory.

    Args:
        u: Inputs of the two directions, (batch, length, dim) each.
        delta: Step sizes, as u.
        A: State matrices, (dim, state) each, real.
        B: Input projections, (batch, length, state) or (batch, length, groups, state) each.
        C: Output projections, as B.
        D: Skip weights, (dim,) each, or None.
        z: The gate of both directions.
        delta_bias: Added to delta, (dim,) each, or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        reset: True where a new packed sequence starts; see `selective_scan`.
        impl: "auto", "cuda" or "separate".

    Returns:
        The sum in the dtype of u[0].

    Raises:
        UserError: A shape, dtype or device does not fit, an argument is no pair, or `impl` cannot run.
    """
    pairs = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    for name, pair in pairs.items():
        if pair is None and name in ("D", "delta_bias"):
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UserError(
                f"{_NAME}: {name} must be a pair (forward, reverse) of tensors, got {type(pair).__name__}"
            )
    directions: list[Direction] = []
    for i in (0, 1):
        b, c = (x[i][:, :, None] if x[i].ndim == 3 else x[i] for x in (B, C))
        skip, bias = (None if pair is None else pair[i] for pair in (D, delta_bias))
        validate(u[i], delta[i], A[i], b, c, skip, z, bias, None, reset)
        directions.append((u[i], delta[i], A[i], b, c, skip, bias))
    if u[0].shape != u[1].shape or A[0].shape != A[1].shape:
        shapes = f"{tuple(u[0].shape)}, {tuple(A[0].shape)} and {tuple(u[1].shape)}, {tuple(A[1].shape)}"
        raise UserError(f"{_NAME}: u and A must have the same shapes in both directions, got {shapes}")
    forward, reverse = directions
    implementation = choose(
        _NAME, IMPLEMENTATIONS, impl, (*forward, *reverse, z), Options(reset=reset is not None)
    )
    return implementation.run(forward, reverse, z, reset, delta_softplus)
