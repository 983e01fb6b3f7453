"""Programs: what the instructions of program.cu are for."""

from __future__ import annotations

from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.token_step.encoding import Listing
from seqmamba.ops.token_step.instructions import Finish, Norm, Operation, Vector


class Program(Listing):
    """A listing that is written operation by operation."""

    def hold(self, state: Tensor, vector: Vector, offset: int = 0) -> None:
        """Load a state into a vector before the first step of a launch, and store it behind the last.

        Args:
            state: Float32 (batch, ...); changed.
            vector: Where it lies in between.
            offset: Elements of the vector in front of it.
        """
        for operation, listed in ((Operation.LOAD, self.before), (Operation.STORE, self.after)):
            self.add(
                operation,
                listed,
                n_out=state[0].numel(),
                n_in=vector.length,
                target=vector,
                position=offset,
                pointers=(*[None] * 6, state),
            )

    def embed(self, table: Tensor, target: Vector) -> None:
        """Look up the rows of the tokens.

        Args:
            table: (tokens, length), of the matrices' dtype.
            target: Where they go.
        """
        self._require_matrix(table)
        length = target.length
        self.add(Operation.EMBED, n_out=length, n_in=length, target=target, pointers=(table,))

    def push(self, source: Vector, frame: Vector) -> None:
        """Move the positions of a frame one on, and put a new one behind them.

        Args:
            source: The new one.
            frame: Several positions in a row, oldest first.
        """
        count = frame.length // source.length
        self.add(
            Operation.PUSH,
            n_out=source.length,
            n_in=frame.length,
            source=source,
            target=frame,
            count=count,
            pointers=(),
        )

    def add_held(self, held: Vector, position: int, target: Vector) -> None:
        """Add one of several positions that lie in a row.

        Args:
            held: The positions.
            position: Which.
            target: What it is added to.
        """
        self.add(
            Operation.ADD_HELD,
            n_out=target.length,
            n_in=target.length,
            source=held,
            target=target,
            second=position,
            count=held.length // target.length,
            pointers=(),
        )

    def draw(self, logits: Vector) -> None:
        """Draw the next tokens, or write the logits to device memory: the launch says which.

        Args:
            logits: The logits.
        """
        self.add(Operation.DRAW, n_in=logits.length, source=logits, pointers=())

    def product(
        self,
        matrix: Tensor,
        bias: Tensor | None,
        source: Vector,
        target: Vector,
        *,
        norm: Norm | None = None,
        finish: Finish = Finish.KEEP,
    ) -> None:
        """Multiply a matrix and a vector; see `Finish` for what follows.

        Args:
            matrix: (outputs, length of the source), of the matrices' dtype; twice the outputs for a pair.
            bias: Float32, one a row of the matrix.
            source: The vector.
            target: Where the result goes.
            norm: Applied to the vector first.
            finish: What becomes of the result.
        """
        self._require_matrix(matrix, source.length)
        n_out = len(matrix) // (2 if finish in (Finish.GATE_ADD, Finish.SILU_GATE) else 1)
        self.add(
            Operation.PRODUCT,
            finish=finish,
            n_out=n_out,
            n_in=source.length,
            source=source,
            target=target,
            norm=norm,
            loads=source.length // 4,
            pointers=(matrix, bias, *_norm_pointers(norm)),
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
        self.add(
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
        self.add(
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
        self.add(
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

    def _require_matrix(self, matrix: Tensor, length: int | None = None) -> None:
        if matrix.dtype != self.matrix_dtype or (length is not None and matrix.shape[1] != length):
            raise UserError(
                f"program: expected a matrix of {self.matrix_dtype} for a vector of {length}, "
                f"got {matrix.dtype} {tuple(matrix.shape)}"
            )


def _norm_pointers(norm: Norm | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if norm is None else (norm.weight, norm.bias)
