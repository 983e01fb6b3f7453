"""Instructions of program.cu listed by steps, the vectors that they read and write, and their encoding."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.token_step.instructions import (
    WORDS,
    Finish,
    Norm,
    Operation,
    Vector,
    lane_shift,
)

_ALIGNED = 4  # floats: vectors are read four at a time
_POINTERS = 9
_FORMAT = f"<12i2f{_POINTERS}q"


class Listing:
    """Instructions for some steps of a batch, one after the other and over again, and the memory they need.

    Args:
        matrix_dtype: Of all matrices: float32 or bfloat16.

    Raises:
        UserError: If it is another dtype.
    """

    def __init__(self, matrix_dtype: torch.dtype) -> None:
        if matrix_dtype not in (torch.float32, torch.bfloat16):
            raise UserError(f"matrix_dtype: expected float32 or bfloat16, got {matrix_dtype}")
        self.matrix_dtype = matrix_dtype
        self.row_floats = 0
        self._instructions: list[tuple[list[int], list[int], float]] = []
        self._held: list[Tensor] = []
        self.before: list[int] = []
        self.after: list[int] = []
        self._steps: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._instructions)

    @property
    def steps(self) -> int:
        """Of different instructions."""
        return len(self._steps)

    def begin_step(self) -> None:
        """Begin another step; what is written from here on belongs to it."""
        self._steps.append([])

    def once(self, written: list[int], write: Callable[[], None]) -> None:
        """Write instructions, or put those in this step that were written in another.

        Args:
            written: Where they are noted; empty at first.
            write: Writes them.
        """
        step = self._steps[-1]
        if written:
            step.extend(written)
            return
        begin = len(step)
        write()
        written.extend(step[begin:])

    def vector(self, length: int) -> Vector:
        """Lay out another vector.

        Args:
            length: Its elements.
        """
        new = Vector(self.row_floats, length)
        self.row_floats += -(-length // _ALIGNED) * _ALIGNED
        return new

    def add(
        self,
        operation: Operation,
        listed: list[int] | None = None,
        *,
        pointers: Sequence[Tensor | None],
        finish: Finish = Finish.KEEP,
        source: Vector | None = None,
        target: Vector | None = None,
        second: int = 0,
        norm: Norm | None = None,
        n_out: int = 0,
        n_in: int = 0,
        count: int = 0,
        loads: int = 1,
        position: int = 0,
    ) -> None:
        """Write one, to this step or another list; see program.cu for what its words mean."""
        for tensor in pointers:
            if tensor is not None:
                if not tensor.is_contiguous():
                    raise UserError(f"program: expected contiguous tensors, got strides {tensor.stride()}")
                self._held.append(tensor)
        addresses = [0 if tensor is None else tensor.data_ptr() for tensor in pointers]
        addresses += [0] * (_POINTERS - len(addresses))
        kind = 0 if norm is None else 1 if norm.bias is None else 2
        numbers = [operation, finish, kind, n_out, n_in, second, count, loads, position, *addresses]
        places = [0 if source is None else source.at, 0 if target is None else target.at]
        (self._steps[-1] if listed is None else listed).append(len(self._instructions))
        self._instructions.append((numbers, places, 0.0 if norm is None else norm.eps))

    def encode(self, rows: int, threads: int) -> Tensor:
        """Return the instructions as program.cu reads them, int32 (instructions, 32), on the CPU.

        Args:
            rows: Sequences that share a cluster, on which the places of the vectors depend.
            threads: Of a cluster, which share out the work.
        """
        encoded = bytearray()
        for numbers, places, eps in self._instructions:
            operation, finish, norm, n_out, n_in, second, count, loads, position, *pointers = numbers
            at = [place * rows for place in places]
            if operation in (Operation.PRODUCT, Operation.SCAN_STEP):
                second *= rows
            if operation == Operation.SCAN_STEP:
                position *= rows
            shift = lane_shift(max(1, n_out), loads, threads)
            words = (operation, finish, norm, n_out, n_in, *at, second, count, shift, position, 0, eps, 0.0)
            encoded += struct.pack(_FORMAT, *words, *pointers)
        return torch.frombuffer(encoded, dtype=torch.int32).view(-1, WORDS)

    def lists(self) -> Tensor:
        """Return which instructions each step has, -1 behind the last, int32 (steps + 2, longest).

        The last two are those before and behind all steps.
        """
        lists = [*self._steps, self.before, self.after]
        longest = _ALIGNED * (max(map(len, lists)) // _ALIGNED + 1)
        return torch.tensor([one + [-1] * (longest - len(one)) for one in lists], dtype=torch.int32)
