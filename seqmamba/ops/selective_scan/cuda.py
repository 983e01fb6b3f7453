"""The selective scan on NVIDIA GPUs: tensors in, tensors out, around kernels compiled at first use by NVRTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from pathlib import Path

import torch
from torch import Tensor

from seqmamba.ops.cuda import runtime
from seqmamba.ops.selective_scan.layout import (
    GPU_SAVE_STEPS,
    REDUCE,
    KernelShape,
    Segments,
    backward_shape,
    ceil_div,
    cut_sequence,
    forward_shape,
    saved_states,
)

_FOLDER = Path(__file__).parent
_INPUT_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_STAGED_STEPS = {"forward": 8, "reduce": 16}
_SUB_STEPS = 4  # of the backward


@dataclass(frozen=True)
class _Scan:
    """The operands as the kernels take them, and what all kernels must know."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    reset: Tensor | None
    delta_softplus: bool
    reverse: bool
    multiprocessors: int
    constants: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        constants = {
            "INPUT": _INPUT_CODES[self.u.dtype],
            "STATE": self.n_state,
            "DIM": self.dim,
            "GROUPS": self.groups,
            "B_ROW": self.B.stride(1),
            "C_ROW": self.C.stride(1),
            "Z_ROW": 0 if self.z is None else self.z.stride(1),
            "REVERSE": int(self.reverse),
            "SOFTPLUS": int(self.delta_softplus),
            "RESET": int(self.reset is not None),
            "SAVE_STEPS": GPU_SAVE_STEPS,
            "VECTOR": self._vector_bytes(),
        }
        object.__setattr__(self, "constants", constants)

    @property
    def batch(self) -> int:
        return self.u.shape[0]

    @property
    def length(self) -> int:
        return self.u.shape[1]

    @property
    def dim(self) -> int:
        return self.u.shape[2]

    @property
    def groups(self) -> int:
        return self.B.shape[2]

    @property
    def n_state(self) -> int:
        return self.A.shape[1]

    @property
    def z_batch(self) -> int:
        return 0 if self.z is None else self.z.stride(0)

    def _vector_bytes(self) -> int:
        """The widest copy that every row of every tile is aligned to; 0 below what the hardware can copy."""
        size = self.u.element_size()
        sizes = [16, self.dim // self.groups * size, self.u.data_ptr(), self.delta.data_ptr()]
        if self.z is not None:
            sizes += [self.z.stride(1) * size, self.z.stride(0) * size, self.z.data_ptr()]
        width = gcd(*sizes)
        return width if width >= 4 else 0

    def cut(self, shape: KernelShape) -> Segments:
        tiles = shape.tiles(self.groups, self.dim)
        return cut_sequence(self.batch, self.length, tiles, shape.blocks, self.multiprocessors)

    def launch(
        self,
        file: str,
        kernel: str,
        shape: KernelShape,
        blocks: tuple[int, int],
        shared_bytes: int,
        arguments: list[Tensor | int | None],
        **constants: int,
    ) -> None:
        every = {**self.constants, "WARPS": shape.warps, "BLOCKS": shape.blocks, **constants}
        grid = (blocks[0], blocks[1], 1)
        runtime.launch(_FOLDER / file, kernel, every, grid, shape.warps * 32, shared_bytes, arguments)


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
    """
    scan = _prepare(u, delta, A, B, C, D, z, delta_bias, reset, delta_softplus, reverse)
    shape = forward_shape(scan.batch, scan.dim, scan.groups, scan.multiprocessors)
    segments = scan.cut(shape)
    boundary = None if initial_state is None else _float32(initial_state)
    starts = boundary
    if segments.count > 1:
        starts = _carry(scan, segments, scan.u, scan.B, boundary, adjoint=False)
    y = torch.empty_like(scan.u) if add_to is None else add_to
    final = torch.empty(scan.batch, scan.dim, scan.n_state, dtype=torch.float32, device=u.device)
    saved = saved_buffer(scan.u, scan.n_state, save)
    width = _padded(scan.n_state)
    tensors = 2 + (z is not None) + (add_to is not None)
    steps = _STAGED_STEPS["forward"]
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
    add_to: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias, each in its dtype, empty if absent; initial_state.

    `add_to` is the gradient of z from another scan with the same gate, which this one adds to.
    """
    scan = _prepare(u, delta, A, B, C, D, z, delta_bias, reset, delta_softplus, reverse)
    grad_y = grad_y.to(scan.u.dtype).contiguous()
    shape = backward_shape(scan.n_state)
    segments = scan.cut(shape)
    carries = None if grad_final is None else _float32(grad_final)
    if segments.count > 1:
        carries = _carry(scan, segments, grad_y, scan.C, carries, adjoint=True)
    batch, length, dim, n_state, groups = scan.batch, scan.length, scan.dim, scan.n_state, scan.groups
    tiles = shape.tiles(groups, dim)
    parts = batch * segments.count

    def float32(*sizes: int) -> Tensor:
        return torch.empty(*sizes, dtype=torch.float32, device=u.device)

    d_u, d_delta = torch.empty_like(scan.u), torch.empty_like(scan.u)
    d_z = add_to if add_to is not None else torch.empty_like(scan.u) if z is not None else None
    d_A, d_D, d_bias = float32(parts, dim, n_state), float32(parts, dim), float32(parts, dim)
    d_initial = float32(batch, dim, n_state)
    d_B, d_C = torch.empty(2, batch, length, groups, n_state, dtype=scan.u.dtype, device=u.device)
    over = tiles // groups
    sums_B, sums_C = (d_B, d_C) if over == 1 else float32(2, over, batch, length, groups, n_state)
    inputs = [grad_y, scan.u, scan.delta, scan.A, scan.B, scan.C, scan.D, scan.z, scan.bias, scan.reset]
    outputs = [d_u, d_delta, d_A, sums_B, sums_C, d_D, d_z, d_bias, d_initial]
    sizes = [batch, length, segments.count, segments.steps, scan.z_batch, scan.B.stride(0), scan.C.stride(0)]
    scan.launch(
        "backward.cu",
        "scan_backward",
        shape,
        (parts, tiles),
        _backward_shared_bytes(shape, n_state),
        [*inputs, saved, carries, *outputs, *sizes],
        ACCUMULATE=int(add_to is not None),
    )
    if over > 1:
        blocks = (ceil_div(d_B.numel(), shape.warps * 32), 1)
        for sums, gradient in ((sums_B, d_B), (sums_C, d_C)):
            arguments = [sums, gradient, gradient.numel()]
            scan.launch("backward.cu", "scan_sum_tiles", shape, blocks, 0, arguments, ACCUMULATE=int(add_to is not None))
    nothing = u.new_empty(0)
    return (
        d_u.to(u.dtype),
        d_delta.to(delta.dtype),
        d_A.sum(0).to(A.dtype),
        d_B.view(B.shape).to(B.dtype),
        d_C.view(C.shape).to(C.dtype),
        nothing if D is None else d_D.sum(0).to(D.dtype),
        nothing if z is None or d_z is None else d_z.to(z.dtype),
        nothing if delta_bias is None else d_bias.sum(0).to(delta_bias.dtype),
        d_initial,
    )


def saved_buffer(u: Tensor, n_state: int, save: bool) -> Tensor:
    """States for the backward: bfloat16 where the inputs have 16 bits, since they round the gradients as much."""
    batch, length, dim = u.shape
    dtype = torch.float32 if u.dtype == torch.float32 else torch.bfloat16
    return u.new_empty(batch, saved_states(length) if save else 0, dim, n_state, dtype=dtype)


def _carry(
    scan: _Scan, segments: Segments, value: Tensor, projection: Tensor, boundary: Tensor | None, *, adjoint: bool
) -> Tensor:
    """Each segment's start state, or with `adjoint` its last state's gradient: (batch, segments, dim, state)."""
    sums, factors, carries = torch.empty(
        3, scan.batch, segments.count, scan.dim, scan.n_state, dtype=torch.float32, device=value.device
    )
    tensors = 3 if adjoint and scan.z is not None else 2
    steps, warps = _STAGED_STEPS["reduce"], REDUCE.warps
    stage = _padded(scan.n_state) * 4 + tensors * REDUCE.channels * value.element_size()
    shared = 2 * steps * stage + ceil_div(2 * warps, 4) * 16
    arguments = [value, scan.delta, scan.A, projection, scan.z, scan.bias, scan.reset, sums, factors]
    sizes = [scan.length, segments.count, segments.steps, scan.z_batch, projection.stride(0)]
    scan.launch(
        "reduce.cu",
        "scan_reduce",
        REDUCE,
        (scan.batch * (segments.count - 1), REDUCE.tiles(scan.groups, scan.dim)),
        shared,
        [*arguments, *sizes],
        ADJOINT=int(adjoint),
    )
    blocks = (ceil_div(scan.batch * scan.dim * scan.n_state, REDUCE.warps * 32), 1)
    scan.launch(
        "reduce.cu",
        "scan_carry",
        REDUCE,
        blocks,
        0,
        [sums, factors, boundary, carries, scan.batch, segments.count],
        ADJOINT=int(adjoint),
    )
    return carries


def _backward_shared_bytes(shape: KernelShape, n_state: int) -> int:
    split = 2 if n_state > 8 else 1
    width = _padded(n_state)
    rows = GPU_SAVE_STEPS * 2 * width
    starts = GPU_SAVE_STEPS // _SUB_STEPS * 32 * (width // split)
    scratch, pairs = 4 * 4 * (32 + 4), GPU_SAVE_STEPS * (32 // split) * 2
    return 4 * (2 * rows + shape.warps * (rows + starts + scratch + pairs))


def _padded(n_state: int) -> int:
    """Floats a row of B or C takes in shared memory."""
    return 16 if n_state > 8 else 8 if n_state > 4 else 4


def _prepare(
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
) -> _Scan:
    """Bring the operands to one dtype and to strides that the kernels can walk."""
    sequences = [x for x in (u, delta, B, C, z) if x is not None]
    dtype = u.dtype if all(x.dtype == u.dtype for x in sequences) else torch.float32
    return _Scan(
        u=u.to(dtype).contiguous(),
        delta=delta.to(dtype).contiguous(),
        A=_float32(A),
        B=_rows_of_states(B.to(dtype)),
        C=_rows_of_states(C.to(dtype)),
        D=None if D is None else _float32(D),
        z=None if z is None else _rows(z.to(dtype)),
        bias=None if delta_bias is None else _float32(delta_bias),
        reset=None if reset is None else reset.contiguous(),
        delta_softplus=delta_softplus,
        reverse=reverse,
        multiprocessors=runtime.device_properties(u.device).multiprocessors,
    )


def _rows(x: Tensor) -> Tensor:
    """`x` with contiguous channels; a view of a wider tensor stays what it is."""
    return x if x.stride(2) == 1 and x.stride(1) >= x.shape[2] else x.contiguous()


def _rows_of_states(x: Tensor) -> Tensor:
    groups, n_state = x.shape[2:]
    regular = x.stride(3) == 1 and x.stride(2) in ((n_state,) if groups > 1 else (x.stride(2),))
    return x if regular and x.stride(1) >= groups * n_state else x.contiguous()


def _float32(x: Tensor) -> Tensor:
    return x.to(torch.float32).contiguous()
