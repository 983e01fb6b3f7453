"""Running a program on an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqmamba.ops.cuda import runtime
from seqmamba.ops.draw import Draws
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
_HEADER_BYTES = 1024  # program.cu's HEADER
_NO_DRAWING = (None, 0, None, None, None, None, 0, None, 0, 0, None)  # arguments of the kernel
_MOST_STEPS = 256  # of a launch: a display's GPU ends kernels of seconds


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
        """Return what a block needs of shared memory: barriers and the like, vectors and instructions."""
        words = program.row_floats * self.rows + len(program) * WORDS + program.lists().numel()
        return _HEADER_BYTES + 4 * words

    def encode(self, program: Program) -> Tensor:
        """Return a program's code for this shape."""
        return program.encode(self.rows, 32 * self.warps * self.cluster)

    def grid(self, batch: int) -> tuple[int, int, int]:
        """Return the number of blocks."""
        return (-(-batch // self.rows) * self.cluster, 1, 1)


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn in the kernel.

    Attributes:
        temperature: Float64, one number; see `seqmamba.ops.draw`.
        stops: Tokens that end a row, int64.
        pad: What follows them.
    """

    temperature: Tensor
    stops: Tensor
    pad: int


class LoadedProgram:
    """A program on a GPU, ready to run.

    Args:
        program: What to run. It and what it names stay alive with this.
        batch: Sequences of its states.
        device: An NVIDIA GPU.
        shape: How they are spread; by default what suits the batch.
    """

    def __init__(
        self, program: Program, batch: int, device: torch.device, shape: Shape | None = None
    ) -> None:
        clusters = runtime.device_properties(device).capability >= CLUSTERS_CAPABILITY
        self.program, self.batch = program, batch
        self.shape = Shape.of(batch, clusters) if shape is None else shape
        self._code, self._lists = self.shape.encode(program).to(device), program.lists().to(device)
        self._constants = self.shape.constants(program)
        self._shared_bytes = self.shape.shared_bytes(program)
        self._done = torch.zeros(batch, dtype=torch.bool, device=device)

    def step(self, tokens: Tensor, logits: Tensor, phase: int = 0) -> None:
        """Take one step; the states that the program names are changed.

        Args:
            tokens: int64 (batch,), contiguous.
            logits: Float32 (batch, vocabulary), contiguous; written.
            phase: Which of the program's steps.
        """
        self._launch(phase, 1, tokens, self._done, logits, *_NO_DRAWING)

    def draw(
        self,
        tokens: Tensor,
        done: Tensor,
        uniforms: Tensor,
        drawing: Drawing,
        out: Draws,
        phase: int = 0,
        clocks: Tensor | None = None,
    ) -> None:
        """Take steps, and draw a token behind each for the next one.

        Args:
            tokens: The first, int64 (batch,), contiguous; becomes the last one drawn.
            done: Which rows have met a stop token, bool (batch,), contiguous; kept up to date.
            uniforms: Float64 (batch, steps); the numbers of a row lie side by side, as those of `out` do.
            drawing: See `Drawing`.
            out: (batch, steps), all with the same strides; written.
            phase: Which of the program's steps is the first.
            clocks: For a look at where the time goes, int64 (instructions,): the cycles that each took the
                first thread of the first block are added.
        """
        total = uniforms.shape[1]
        for at in range(0, total, _MOST_STEPS):
            numbers, drawn = uniforms[:, at:], [x[:, at:] for x in out]
            self._launch(
                (phase + at) % self.program.steps,
                min(_MOST_STEPS, total - at),
                tokens,
                done,
                None,
                numbers,
                uniforms.stride(0),
                drawing.temperature,
                *drawn,
                out.tokens.stride(0),
                drawing.stops,
                len(drawing.stops),
                drawing.pad,
                clocks,
            )

    def _launch(self, phase: int, steps: int, *arguments: Tensor | int | None) -> None:
        shape, lists = self.shape, self._lists
        code = (self._code, len(self.program), lists, self.program.steps, lists.shape[1])
        memory = (self.batch, self.program.row_floats * shape.rows)
        runtime.launch(
            SOURCE,
            "run_program",
            self._constants,
            shape.grid(self.batch),
            32 * shape.warps,
            self._shared_bytes,
            (*code, *memory, phase, steps, *arguments),
        )


def fits(program: Program, batch: int) -> bool:
    """Tell whether a multiprocessor has the shared memory for a program.

    Args:
        program: Any.
        batch: Sequences.
    """
    return Shape.of(batch).shared_bytes(program) <= _MOST_SHARED_BYTES
