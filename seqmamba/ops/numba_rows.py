"""How the numba kernels bring time steps into scratch memory and back.

Scratch holds one row a step, in processing order, and one lane a channel of the tile that a task works on.
There the loops of a kernel need neither positions in storage nor remainders.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqmamba.ops.numba_math import kernel, prefer_wide_vectors

ZERO = np.float32(0.0)


class Tile(NamedTuple):
    """Neighbouring channels of one batch element."""

    b: int
    d0: int
    lanes: int


@kernel()
def copy_lanes(to: np.ndarray, source: np.ndarray) -> None:
    """Copy the lanes that both rows have."""
    prefer_wide_vectors()
    for j in range(min(to.shape[0], source.shape[0])):
        to[j] = source[j]


@kernel()
def load_steps(
    rows: np.ndarray, source: np.ndarray, start: int, stop: int, tile: Tile, reverse: bool
) -> None:
    """Copy the steps [start, stop) of a (batch, length, dim) array to `rows`, and zero the lanes beyond."""
    length = source.shape[1]
    if tile.lanes < rows.shape[1]:
        rows[: stop - start] = ZERO
    for i in range(stop - start):
        t = length - 1 - start - i if reverse else start + i
        copy_lanes(rows[i], source[tile.b, t, tile.d0 : tile.d0 + tile.lanes])


@kernel()
def store_steps(to: np.ndarray, rows: np.ndarray, start: int, stop: int, tile: Tile, reverse: bool) -> None:
    """Copy the first `rows` to the steps [start, stop) of a (batch, length, dim) array."""
    length = to.shape[1]
    for i in range(stop - start):
        t = length - 1 - start - i if reverse else start + i
        copy_lanes(to[tile.b, t, tile.d0 : tile.d0 + tile.lanes], rows[i])
