"""How the CPU kernels cut the work; apart from them so that tracing shapes does not import numba."""

from __future__ import annotations

from dataclasses import dataclass

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


# The GPU kernels. They hold up to 16 states a channel in registers.
GPU_STATES = 16
# Steps from one state saved for the backward to the next: 16 bfloat16 states cost 2 * 16 / 24 bytes a channel
# and step.
GPU_SAVE_STEPS = 24
_WARP = 32
_SHORTEST_SEGMENT = 192  # below, what passes between segments costs more than idle multiprocessors


@dataclass(frozen=True)
class KernelShape:
    """How one kernel cuts the channels.

    Attributes:
        warps: Warps a block.
        blocks: Blocks a multiprocessor, which the registers and shared memory suffice for.
        channels: Channels a block covers.
    """

    warps: int
    blocks: int
    channels: int

    def tiles(self, groups: int, dim: int) -> int:
        """Blocks that cover all channels; none crosses a group of B and C."""
        return groups * ceil_div(dim // groups, self.channels)


@dataclass(frozen=True)
class Segments:
    """How a kernel cuts the sequence.

    Attributes:
        count: Segments that run side by side.
        steps: Steps of each but the last, which may have fewer.
    """

    count: int
    steps: int


FORWARD = KernelShape(warps=2, blocks=6, channels=2 * _WARP * 2)
FORWARD_NARROW = KernelShape(warps=4, blocks=4, channels=4 * _WARP)


def reduce_shape(n_state: int) -> KernelShape:
    """A warp of the reduce kernel takes four states."""
    quads = 4 if n_state > 8 else 2 if n_state > 4 else 1
    return KernelShape(warps=4, blocks=2 if quads == 1 else 6, channels=4 * _WARP // quads)


def backward_shape(n_state: int, lean: bool) -> KernelShape:
    """The backward kernel takes two lanes a channel above 8 states.

    Args:
        n_state: States a channel.
        lean: Whether 168 registers a thread and a third of a multiprocessor's shared memory suffice.
    """
    split = 2 if n_state > 8 else 1
    return KernelShape(warps=4, blocks=3 if lean and split == 2 else 2, channels=4 * _WARP // split)


def forward_shape(batch: int, dim: int, groups: int, multiprocessors: int) -> KernelShape:
    """Two channels a lane share what they read; one a lane where that fills the chip with whole sequences."""
    if batch * FORWARD_NARROW.tiles(groups, dim) >= multiprocessors and (
        batch * FORWARD.tiles(groups, dim) < FORWARD.blocks * multiprocessors
    ):
        return FORWARD_NARROW
    return FORWARD


def cut_sequence(batch: int, length: int, tiles: int, blocks: int, multiprocessors: int) -> Segments:
    """Cut the sequence so that one wave of blocks fills the chip; whole if batch and channels fill it alone.

    Args:
        batch: Sequences.
        length: Steps.
        tiles: Blocks that cover all channels of one sequence.
        blocks: Blocks a multiprocessor can hold.
        multiprocessors: Of the device.

    Returns:
        Segments of a multiple of `GPU_SAVE_STEPS` steps.
    """
    wanted = max(blocks * multiprocessors // (batch * tiles), 1)
    if wanted < 3 and batch * tiles >= multiprocessors:
        wanted = 1  # two segments do not pay for what passes between them
    steps = max(ceil_div(length, wanted), min(_SHORTEST_SEGMENT, length))
    steps = ceil_div(steps, GPU_SAVE_STEPS) * GPU_SAVE_STEPS
    return Segments(ceil_div(length, steps), steps)


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)
