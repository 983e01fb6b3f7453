"""How the GPU kernels cut the work: constants and pure functions of shapes and the device, in one place.

A block is the run of steps whose scores C B^T a program holds at once. A segment is the run of blocks that
one program walks, carrying the state in registers. A tile of channels is the part of a head that a program
takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

LARGEST_HEAD_DIM = 256
LARGEST_STATE = 256
_SMALLEST = 16  # rows, columns and depth of a matrix instruction's operands
_WALKS_PER_MULTIPROCESSOR = 4
_SHORTEST_SEGMENT = 16  # blocks; below, a segment's start costs more than walking it alone saves
_LONGEST_SEGMENT = 1024
_GRADIENTS_PER_MULTIPROCESSOR = 4


@dataclass(frozen=True)
class Tiles:
    """Sizes of one kernel.

    Attributes:
        block: Steps of a block.
        channels: Channels of a tile, a power of two.
        state: n_state rounded up to a power of two.
        warps: Warps of a program.
        stages: Depth of the pipeline of loads.
    """

    block: int
    channels: int
    state: int
    warps: int
    stages: int


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size` and fills a matrix instruction."""
    return max(_SMALLEST, 1 << (size - 1).bit_length())


def block_size(dtype: torch.dtype) -> int:
    """Steps of a block, the same in every kernel, for operands of `dtype`."""
    return 32 if dtype == torch.float32 else 64


def output_tiles(head_dim: int, n_state: int, dtype: torch.dtype) -> Tiles:
    """Sizes of the kernel of the output."""
    state, wide = power_of_two(n_state), dtype == torch.float32
    channels = min(power_of_two(head_dim), 32 if wide and state > 64 else 64)
    if wide:
        return Tiles(block_size(dtype), channels, state, 4, 1 if state > 128 else 2)
    return Tiles(block_size(dtype), channels, state, 4 if state <= 128 else 8, 2)


def replay_tiles(head_dim: int, n_state: int, dtype: torch.dtype) -> Tiles:
    """Sizes of the kernel that walks the sequence again for the backward."""
    sizes = output_tiles(head_dim, n_state, dtype)
    # it holds more than the output's: with few warps it spills whole tiles on capability 8
    return replace(sizes, warps=8) if sizes.state > 64 else sizes


def walk_tiles(head_dim: int, n_state: int, dtype: torch.dtype) -> Tiles:
    """Sizes of the kernels that carry states, or their adjoints, and nothing else."""
    state, wide = power_of_two(n_state), dtype == torch.float32
    channels = min(power_of_two(head_dim), 32 if wide and state > 64 else 64)
    if wide:
        return Tiles(block_size(dtype), channels, state, 4, 2)
    return Tiles(block_size(dtype), channels, state, 4 if state <= 128 else 8, 3 if state <= 128 else 2)


def gradient_tiles(head_dim: int, n_state: int, dtype: torch.dtype) -> Tiles:
    """Sizes of the kernel that takes each block on its own."""
    state, wide = power_of_two(n_state), dtype == torch.float32
    channels = min(power_of_two(head_dim), 32 if wide or state > 128 else 64)
    if wide:
        return Tiles(block_size(dtype), channels, state, 4 if state <= 64 else 8, 1)
    return Tiles(block_size(dtype), channels, state, 8, 2 if state <= 64 else 1)


def segment_blocks(walks: int, blocks: int, multiprocessors: int) -> int:
    """Blocks of a segment, so that `walks` independent recurrences of `blocks` blocks fill the device."""
    wanted = -(-_WALKS_PER_MULTIPROCESSOR * multiprocessors // walks)
    if wanted <= 1 and blocks <= _LONGEST_SEGMENT:
        return blocks
    return min(max(-(-blocks // wanted), _SHORTEST_SEGMENT), _LONGEST_SEGMENT)


def head_splits(programs: int, heads: int, multiprocessors: int) -> int:
    """In how many parts, a divisor of `heads`, the heads of a group are shared out in the backward kernel.

    Each part adds its own sum over heads of the gradients of B and C, which are then added up in order.
    """
    wanted = -(-_GRADIENTS_PER_MULTIPROCESSOR * multiprocessors // programs)
    return next(parts for parts in range(1, heads + 1) if heads % parts == 0 and parts >= min(wanted, heads))


def multiprocessors(device: torch.device) -> int:
    """Of an NVIDIA GPU; one for the CPU, where Triton's interpreter runs the kernels."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
