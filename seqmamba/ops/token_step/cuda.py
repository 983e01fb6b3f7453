"""Running a program on an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqmamba.ops.cuda import runtime
from seqmamba.ops.token_step.instructions import WORDS
from seqmamba.ops.token_step.program import Program

SOURCE = Path(__file__).with_name("program.cu")
CLUSTERS_CAPABILITY = (9, 0)
"""The first that has clusters; before it a block works alone."""

_LARGEST = 8  # blocks of a cluster that every such GPU can place, and rows that registers suffice for
_BLOCKS = 128  # at a time, of about 132 multiprocessors
_WARPS = 16
_WARPS_OF_MANY_ROWS = 12  # whose threads need more registers
_MOST_SHARED_BYTES = 200 * 1024


@dataclass(frozen=True)
class Shape:
    """How a batch is spread over a GPU.

    Attributes:
        cluster: Blocks that work on the same rows.
        rows: Rows that they share.
        warps: Warps of a block.
    """

    cluster: int
    rows: int
    warps: int = _WARPS

    @classmethod
    def of(cls, batch: int, clusters: bool = True) -> Shape:
        """Choose the most blocks a cluster, then the fewest rows, that run all at once.

        Args:
            batch: Sequences.
            clusters: Whether the GPU has clusters.
        """
        cluster, rows = _LARGEST if clusters else 1, 1
        while cluster > 1 and batch * cluster > _BLOCKS:
            cluster //= 2
        while rows < _LARGEST and -(-batch // rows) > _BLOCKS:
            rows *= 2
        return cls(cluster, rows, _WARPS if rows < _LARGEST else _WARPS_OF_MANY_ROWS)

    def constants(self, program: Program) -> dict[str, int]:
        """Return the constants of program.cu's compilation."""
        weights = int(program.matrix_dtype == torch.bfloat16)
        return {"CLUSTER": self.cluster, "ROWS": self.rows, "WEIGHTS": weights, "WARPS": self.warps}

    def shared_bytes(self, program: Program) -> int:
        """Return what a block needs of shared memory: vectors and instructions."""
        return 4 * (program.row_floats * self.rows + len(program) * WORDS)

    def encode(self, program: Program) -> Tensor:
        """Return a program's code for this shape."""
        return program.encode(self.rows, 32 * self.warps * self.cluster)

    def grid(self, batch: int) -> tuple[int, int, int]:
        """Return the number of blocks."""
        return (-(-batch // self.rows) * self.cluster, 1, 1)


class LoadedProgram:
    """A program on a GPU, ready to run.

    Args:
        program: What to run. It and what it names stay alive with this.
        batch: Sequences of its states.
        device: An NVIDIA GPU.
    """

    def __init__(self, program: Program, batch: int, device: torch.device) -> None:
        clusters = runtime.device_properties(device).capability >= CLUSTERS_CAPABILITY
        self.program, self.batch = program, batch
        self.shape = Shape.of(batch, clusters)
        self._code: Tensor = self.shape.encode(program).to(device)

    def __call__(self, tokens: Tensor, logits: Tensor) -> None:
        """Take the step; the states that the program names are changed.

        Args:
            tokens: int64 (batch,), contiguous.
            logits: Float32 (batch, vocabulary), contiguous; written.
        """
        shape = self.shape
        own = (self._code, len(self.program), self.batch, self.program.row_floats * shape.rows)
        runtime.launch(
            SOURCE,
            "run_program",
            shape.constants(self.program),
            shape.grid(self.batch),
            32 * shape.warps,
            shape.shared_bytes(self.program),
            (tokens, logits, *own),
        )


def fits(program: Program, batch: int) -> bool:
    """Tell whether a multiprocessor has the shared memory for a program.

    Args:
        program: Any.
        batch: Sequences.
    """
    return Shape.of(batch).shared_bytes(program) <= _MOST_SHARED_BYTES
