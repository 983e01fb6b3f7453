"""What the instructions of program.cu are made of.

A vector is a stretch of shared memory with one row for each sequence of the batch. An instruction reads
vectors, weights and states, and writes one vector, a state, or both. Weights and states are named by their
addresses, so a program holds on to them and is good for as long as they stay where they are. A state lies
in device memory where each of its numbers has one thread that reads and writes it, and else in a vector, from
the first step of a launch to the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

WORDS = 32  # of 4 bytes, an instruction
MOST_LANES = 32
LEAST_LANES = 8  # as many as there may be blocks in a cluster, or rows
WIDEST_CONVOLUTION = 8


class Operation(IntEnum):
    """What an instruction does; the numbers are program.cu's."""

    EMBED = 0
    LOAD = 1
    STORE = 2
    PUSH = 3
    ADD_HELD = 4
    PRODUCT = 5
    LTI_STEP = 6
    SCAN_STEP = 7
    DRAW = 8


class Finish(IntEnum):
    """What becomes of a product, or of a pair of products a and b, whose matrix has the rows of b behind a's.

    ``KEEP`` a; ``ADD`` a to what the target holds; ``GATE_ADD`` a * sigmoid(b) likewise; ``SILU_GATE`` keeps
    a * silu(b); ``CONVOLVE`` keeps the convolution's step on a, and b in a second vector.
    """

    KEEP = 0
    ADD = 1
    GATE_ADD = 2
    SILU_GATE = 3
    CONVOLVE = 4


class Vector(NamedTuple):
    """A vector in shared memory.

    Attributes:
        at: Floats in front of it, a row.
        length: Its elements.
    """

    at: int
    length: int


@dataclass(frozen=True)
class Norm:
    """A normalisation in front of a product or a state's step.

    Attributes:
        weight: Float32 (length,).
        bias: Likewise, for a layer norm; ``None`` for a root mean square norm.
        eps: Added to the variance or mean square.
    """

    weight: Tensor
    bias: Tensor | None
    eps: float


def lane_shift(results: int, loads: int, threads: int) -> int:
    """Return how many lanes share one result, as a power of two.

    Few lanes have little to add up among themselves, many leave no thread without work.

    Args:
        results: How many there are.
        loads: That the lanes of one share.
        threads: Of all blocks that work together.

    Returns:
        The exponent.
    """
    lanes = LEAST_LANES
    while 2 * lanes <= min(loads, MOST_LANES, threads // results):
        lanes *= 2
    return lanes.bit_length() - 1
