"""The selective scan's operands as its CUDA kernels take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from pathlib import Path

import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.cuda import runtime
from seqmamba.ops.selective_scan.layout import GPU_SAVE_STEPS, KernelShape, Segments, cut_sequence
from seqmamba.ops.selective_scan.registration import input_dtype

_FOLDER = Path(__file__).parent
_INPUT_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


@dataclass(frozen=True)
class ScanOperands:
    """The operands as the kernels take them, and what all kernels must know.

    Attributes:
        u: (batch, length, dim), contiguous; so is delta.
        delta: See u.
        A: (dim, state), float32.
        B: (batch, length, groups, state) of u's dtype; rows may be further apart. So may those of C and z.
        C: See B.
        D: (dim,), float32, or None.
        z: (batch, length, dim), or None.
        bias: (dim,), float32, or None.
        reset: (batch, length) bool, or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        reverse: Scan from right to left.
        multiprocessors: Of the device.
        constants: What every kernel is compiled with; see scan.cuh.
    """

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
        """Sequences."""
        return self.u.shape[0]

    @property
    def length(self) -> int:
        """Steps."""
        return self.u.shape[1]

    @property
    def dim(self) -> int:
        """Channels."""
        return self.u.shape[2]

    @property
    def groups(self) -> int:
        """Groups of B and C."""
        return self.B.shape[2]

    @property
    def n_state(self) -> int:
        """States a channel."""
        return self.A.shape[1]

    @property
    def z_batch(self) -> int:
        """Elements from one sequence of z to the next."""
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
        """How a kernel of this shape cuts the sequence."""
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
        """Launch a kernel of `file` on (x, y) blocks, compiled with more constants."""
        every = {**self.constants, "WARPS": shape.warps, "BLOCKS": shape.blocks, **constants}
        grid = (blocks[0], blocks[1], 1)
        runtime.launch(_FOLDER / file, kernel, every, grid, shape.warps * 32, shared_bytes, arguments)


def prepare(
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
) -> ScanOperands:
    """Bring the operands to one dtype and to strides that the kernels can walk."""
    if u.shape[1] >= 2**31:
        raise UserError(f"selective_scan: the GPU kernels take less than 2^31 steps, got {u.shape[1]}")
    dtype = input_dtype(u, delta, B, C, z)
    return ScanOperands(
        u=u.to(dtype).contiguous(),
        delta=delta.to(dtype).contiguous(),
        A=float32(A),
        B=_rows_of_states(B.to(dtype)),
        C=_rows_of_states(C.to(dtype)),
        D=None if D is None else float32(D),
        z=None if z is None else _rows(z.to(dtype)),
        bias=None if delta_bias is None else float32(delta_bias),
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


def float32(x: Tensor) -> Tensor:
    """`x` in float32, contiguous."""
    return x.to(torch.float32).contiguous()
