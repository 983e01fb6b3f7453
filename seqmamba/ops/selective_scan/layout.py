"""How the CPU kernels cut the work; apart from them so that tracing shapes does not import numba."""

from __future__ import annotations

# Steps between two saved states. They cost 4 state / SEGMENT bytes a channel and step, and what the backward
# recomputes of one segment must stay in the second-level cache.
SEGMENT = 32
_TILE = 64
_LANES = 16  # of a 512-bit vector
_FEW_TASKS = 4


def channel_tiles(batch: int, groups: int, span: int) -> tuple[int, int]:
    """Tile size, and tiles of each group of `span` channels: a function of the shape, never of the threads.

    Wide tiles spread the cost of a step over more channels; narrow ones give small problems tasks to share.
    """
    tile = min(_TILE, -(-span // _LANES) * _LANES)
    while tile > _LANES and batch * groups * -(-span // tile) < _FEW_TASKS:
        tile = -(-tile // 2 // _LANES) * _LANES
    return tile, -(-span // tile)
