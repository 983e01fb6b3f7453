"""Programs: instructions of program.cu, the vectors that they read and write, and their encoding."""

from __future__ import annotations

import struct
from collections.abc import Sequence

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


class Program:
    """Instructions for one step of a batch, and the memory they need.

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

    def __len__(self) -> int:
        return len(self._instructions)

    def vector(self, length: int) -> Vector:
        """Lay out another vector.

        Args:
            length: Its elements.
        """
        new = Vector(self.row_floats, length)
        self.row_floats += -(-length // _ALIGNED) * _ALIGNED
        return new

    def embed(self, table: Tensor, target: Vector) -> None:
        """Look up the rows of the tokens.

        Args:
            table: (tokens, length), of the matrices' dtype.
            target: Where they go.
        """
        self._require_matrix(table)
        self._add(Operation.EMBED, n_out=target.length, target=target, pointers=(table,))

    def load_window(self, window: Tensor, source: Vector, frame: Vector) -> None:
        """Put the positions of a window and the new one side by side.

        Args:
            window: Float32 (batch, positions - 1, length), oldest first.
            source: The new position.
            frame: All of them, in a row.
        """
        self._window(Operation.LOAD_WINDOW, window, frame, source)

    def shift_window(self, window: Tensor, frame: Vector) -> None:
        """Move a window one position on, to the last ones of a frame that `load_window` made.

        Args:
            window: See `load_window`; changed.
            frame: See `load_window`.
        """
        self._window(Operation.SHIFT_WINDOW, window, frame)

    def add_held(self, held: Tensor, position: int, target: Vector) -> None:
        """Add one of the positions that are held in device memory.

        Args:
            held: Float32 (batch, positions, length).
            position: Which.
            target: What it is added to.
        """
        _, count, dim = held.shape
        self._add(
            Operation.ADD_HELD,
            n_out=dim,
            target=target,
            count=count,
            position=position,
            pointers=(*[None] * 6, held),
        )

    def product(
        self,
        matrix: Tensor,
        bias: Tensor | None,
        source: Vector,
        target: Vector | Tensor | None,
        *,
        norm: Norm | None = None,
        finish: Finish = Finish.KEEP,
    ) -> None:
        """Multiply a matrix and a vector; see `Finish` for what follows.

        Args:
            matrix: (outputs, length of the source), of the matrices' dtype; twice the outputs for a pair.
            bias: Float32, one a row of the matrix.
            source: The vector.
            target: Where the result goes: a vector, float32 (batch, outputs) in device memory, or ``None``
                for the logits.
            norm: Applied to the vector first.
            finish: What becomes of the result.
        """
        self._require_matrix(matrix, source.length)
        n_out = len(matrix) // (2 if finish in (Finish.GATE_ADD, Finish.SILU_GATE) else 1)
        kept, out = (target, None) if isinstance(target, tuple) else (None, target)
        pointers = (matrix, bias, *_norm_pointers(norm), None, None, None, out)
        self._add(
            Operation.PRODUCT,
            finish=Finish.OUT if kept is None else finish,
            n_out=n_out,
            n_in=source.length,
            source=source,
            target=kept,
            norm=norm,
            loads=source.length // 4,
            pointers=pointers,
        )

    def convolved_product(
        self,
        matrix: Tensor,
        bias: Tensor | None,
        source: Vector,
        target: Vector,
        gate: Vector,
        *,
        norm: Norm,
        weight: Tensor,
        weight_bias: Tensor | None,
        state: Tensor,
    ) -> None:
        """Multiply, take a step of the causal convolution and SiLU with the first half, keep the second.

        Args:
            matrix: (2 outputs, length of the source), of the matrices' dtype.
            bias: Float32 (2 outputs,), or none.
            source: The vector.
            target: The convolved half.
            gate: The other half.
            norm: Applied to the vector first.
            weight: Float32 (outputs, width).
            weight_bias: Float32 (outputs,), or none.
            state: Inputs of the convolution so far, float32 (batch, width - 1, outputs); changed.
        """
        self._require_matrix(matrix, source.length)
        self._add(
            Operation.PRODUCT,
            finish=Finish.CONVOLVE,
            n_out=target.length,
            n_in=source.length,
            source=source,
            target=target,
            second=gate.at,
            norm=norm,
            count=weight.shape[1],
            loads=source.length // 4,
            pointers=(matrix, bias, *_norm_pointers(norm), weight, weight_bias, state),
        )

    def lti_step(
        self,
        transition: Tensor,
        drive: Tensor,
        readout: Tensor,
        skip: Tensor,
        state: Tensor,
        source: Vector,
        target: Vector,
        norm: Norm,
    ) -> None:
        """Advance a diagonal time-invariant system; see `seqmamba.ops.lti_state_step`, with GELU.

        Args:
            transition: Complex64 (dim, state).
            drive: Likewise.
            readout: Likewise.
            skip: Float32 (dim,).
            state: Complex64 (batch, dim, state); changed.
            source: The input.
            target: The output.
            norm: Applied to the input first.
        """
        dim, count = transition.shape
        pointers = (transition, drive, *_norm_pointers(norm), readout, skip, state)
        self._add(
            Operation.LTI_STEP,
            n_out=dim,
            n_in=dim,
            source=source,
            target=target,
            norm=norm,
            count=count,
            loads=count,
            pointers=pointers,
        )

    def scan_step(
        self,
        A_log: Tensor,
        skip: Tensor,
        delta_matrix: Tensor,
        delta_bias: Tensor,
        state: Tensor,
        source: Vector,
        selection: Vector,
        gate: Vector,
        target: Vector,
    ) -> None:
        """Advance a selective scan; see `seqmamba.ops.selective_state_step`.

        Args:
            A_log: Float32 (dim, state).
            skip: D, float32 (dim,).
            delta_matrix: (dim, rank), of the matrices' dtype.
            delta_bias: Float32 (dim,).
            state: Float32 (batch, dim, state); changed.
            source: The input.
            selection: What delta is made of, B and C.
            gate: z.
            target: The output.
        """
        self._require_matrix(delta_matrix)
        dim, count = A_log.shape
        self._add(
            Operation.SCAN_STEP,
            n_out=dim,
            n_in=delta_matrix.shape[1],
            source=source,
            target=target,
            second=gate.at,
            position=selection.at,
            count=count,
            loads=count,
            pointers=(A_log, skip, delta_matrix, delta_bias, None, None, state),
        )

    def encode(self, rows: int, threads: int) -> Tensor:
        """Return the instructions as program.cu reads them, int32 (instructions, 32), on the CPU.

        Args:
            rows: Sequences that share a cluster, on which the places of the vectors depend.
            threads: Of a cluster, which share out the work.
        """
        encoded = bytearray()
        for numbers, places, eps in self._instructions:
            at = [places_row * rows for places_row in places]
            operation, finish, norm, n_out, n_in, count, loads, position, *pointers = numbers
            position = position * rows if operation == Operation.SCAN_STEP else position
            shift = lane_shift(max(1, n_out), loads, threads)
            words = (operation, finish, norm, n_out, n_in, *at, count, shift, position, 0, eps, 0.0)
            encoded += struct.pack(_FORMAT, *words, *pointers)
        return torch.frombuffer(encoded, dtype=torch.int32).view(-1, WORDS)

    def _window(
        self, operation: Operation, window: Tensor, frame: Vector, source: Vector | None = None
    ) -> None:
        count, dim = window.shape[1] + 1, window.shape[2]
        pointers = (*[None] * 6, window)
        self._add(operation, n_out=dim, count=count, source=source, target=frame, pointers=pointers)

    def _require_matrix(self, matrix: Tensor, length: int | None = None) -> None:
        if matrix.dtype != self.matrix_dtype or (length is not None and matrix.shape[1] != length):
            raise UserError(
                f"program: expected a matrix of {self.matrix_dtype} for a vector of {length}, "
                f"got {matrix.dtype} {tuple(matrix.shape)}"
            )

    def _add(
        self,
        operation: Operation,
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
        for tensor in pointers:
            if tensor is not None:
                if not tensor.is_contiguous():
                    raise UserError(f"program: expected contiguous tensors, got strides {tensor.stride()}")
                self._held.append(tensor)
        addresses = [0 if tensor is None else tensor.data_ptr() for tensor in pointers]
        addresses += [0] * (_POINTERS - len(addresses))
        kind = 0 if norm is None else 1 if norm.bias is None else 2
        numbers = [operation, finish, kind, n_out, n_in, count, loads, position, *addresses]
        places = [0 if source is None else source.at, 0 if target is None else target.at, second]
        self._instructions.append((numbers, places, 0.0 if norm is None else norm.eps))


def _norm_pointers(norm: Norm | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if norm is None else (norm.weight, norm.bias)
