"""How the scan's kernels cut channels and sequences, and what a training step keeps of a scan."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scan_cases import machine_of, record_launches

from seqmamba.ops import selective_scan
from seqmamba.ops.selective_scan import registration
from seqmamba.ops.selective_scan.layout import (
    FORWARD,
    FORWARD_NARROW,
    GPU_SAVE_STEPS,
    GPU_STATES,
    ceil_div,
    cut_sequence,
    forward_shape,
    reduce_shape,
)

SIZES = {
    "batch": st.integers(1, 600),
    "length": st.integers(1, 3_000_000),
    "tiles": st.integers(1, 64),
    "blocks": st.integers(1, 8),
    "multiprocessors": st.integers(1, 200),
}


@given(**SIZES)
def test_segments_cover_the_sequence(
    batch: int, length: int, tiles: int, blocks: int, multiprocessors: int
) -> None:
    segments = cut_sequence(batch, length, tiles, blocks, multiprocessors)
    assert segments.steps % GPU_SAVE_STEPS == 0
    assert (segments.count - 1) * segments.steps < length <= segments.count * segments.steps
    if segments.count > 1:  # all run at once
        assert batch * tiles * segments.count <= blocks * multiprocessors


@given(**SIZES, longer=st.integers(0, 1_000_000))
def test_a_longer_sequence_is_not_cut_into_fewer_blocks_of_fewer_steps(
    batch: int, length: int, tiles: int, blocks: int, multiprocessors: int, longer: int
) -> None:
    short = cut_sequence(batch, length, tiles, blocks, multiprocessors)
    long = cut_sequence(batch, length + longer, tiles, blocks, multiprocessors)
    assert long.steps >= short.steps


@given(**SIZES, more=st.integers(0, 100))
def test_more_sequences_are_cut_less(
    batch: int, length: int, tiles: int, blocks: int, multiprocessors: int, more: int
) -> None:
    few = cut_sequence(batch, length, tiles, blocks, multiprocessors)
    assert cut_sequence(batch + more, length, tiles, blocks, multiprocessors).count <= few.count


@pytest.mark.parametrize("batch", [132, 200, 1000])
def test_sequences_that_fill_the_chip_stay_whole(batch: int) -> None:
    assert cut_sequence(batch, 10**6, tiles=3, blocks=3, multiprocessors=132).count == 1


def test_one_long_sequence_is_cut_so_that_the_chip_is_full() -> None:
    for length in (10**5, 10**6, 10**7):
        segments = cut_sequence(1, length, tiles=2, blocks=3, multiprocessors=132)
        assert segments.count > 0.9 * (3 * 132 // 2)
    assert cut_sequence(1, GPU_SAVE_STEPS, tiles=1, blocks=3, multiprocessors=132).count == 1


@pytest.mark.parametrize("multiprocessors", [1, 16, 132])
@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize("dim", [1, 48, 256, 512, 2048])
@pytest.mark.parametrize("batch", [1, 8, 64, 512])
def test_narrow_tiles_only_where_wide_ones_leave_the_chip_idle(
    batch: int, dim: int, groups: int, multiprocessors: int
) -> None:
    dim *= groups
    shape = forward_shape(batch, dim, groups, multiprocessors)
    assert shape in (FORWARD, FORWARD_NARROW)
    if shape == FORWARD_NARROW:
        assert batch * FORWARD.tiles(groups, dim) < FORWARD.blocks * multiprocessors
        assert batch * FORWARD_NARROW.tiles(groups, dim) >= multiprocessors


@pytest.mark.parametrize("n_state", range(1, GPU_STATES + 1))
def test_tiles_cover_every_channel_once(n_state: int) -> None:
    for shape in (FORWARD, FORWARD_NARROW, reduce_shape(n_state)):
        assert shape.channels % 32 == 0
        for groups, span in ((1, 1), (1, 130), (3, 17), (2, 512)):
            tiles = shape.tiles(groups, groups * span)
            assert tiles % groups == 0
            assert (tiles // groups - 1) * shape.channels < span <= tiles // groups * shape.channels


@given(st.integers(0, 10**15), st.integers(1, 10**6))
def test_ceil_div(a: int, b: int) -> None:
    assert (ceil_div(a, b) - 1) * b < a <= ceil_div(a, b) * b


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("dim", [256, 512])
def test_what_a_training_step_keeps_is_small_beside_its_inputs(dtype: torch.dtype, dim: int) -> None:
    """The states saved for the backward, and the parts of gradients of B and C that its blocks write."""
    batch, length, n_state = 2, 2048, 16
    u = torch.zeros(batch, length, dim, dtype=dtype).requires_grad_()
    B = torch.zeros(batch, length, n_state, dtype=dtype).requires_grad_()
    with pytest.MonkeyPatch.context() as patch, machine_of("cpu", patch) as machine:
        launches = record_launches(patch)
        machine.multiprocessors = 132
        selective_scan(u, u, torch.zeros(dim, n_state), B, B, z=u, impl="cuda").sum().backward()
    (tiles,) = (launch.grid[1] for launch in launches if launch.kernel == "scan_backward")
    parts = 2 * tiles * B.nbytes if tiles > 1 else 0
    saved = registration.saved_buffer(u, n_state, True, dtype)
    assert saved.dtype == (torch.float32 if dtype == torch.float32 else torch.bfloat16)
    inputs = 3 * u.nbytes + 2 * B.nbytes  # u, delta, z, B, C
    assert saved.nbytes + parts < 0.4 * inputs
    assert registration.saved_buffer(u, n_state, False, dtype).numel() == 0
