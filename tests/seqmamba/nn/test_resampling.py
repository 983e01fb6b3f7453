from __future__ import annotations

import pytest
import torch

from seqmamba.nn.resampling import DownPool, UpPool

FACTOR = 3


def pools(dtype=torch.float64):
    torch.manual_seed(0)
    return DownPool(4, 6, FACTOR).to(dtype), UpPool(6, 4, FACTOR).to(dtype)


def test_frames_are_neighbours_side_by_side():
    down, _ = pools()
    x = torch.randn(2, 9, 4, dtype=torch.float64)
    frames = down(x)
    assert frames.shape == (2, 3, 6)
    for index in range(3):
        inputs = torch.cat([x[:, FACTOR * index + offset] for offset in range(FACTOR)], dim=-1)
        torch.testing.assert_close(frames[:, index], down.linear(inputs))


def test_every_frame_is_spread_over_its_own_positions_or_those_of_the_next():
    _, up = pools()
    frames = torch.randn(2, 3, 6, dtype=torch.float64)
    own = torch.stack([up.linear(frames[:, i // FACTOR]).chunk(FACTOR, -1)[i % FACTOR] for i in range(9)], 1)
    torch.testing.assert_close(up(frames, causal=False), own)
    shifted = up(frames, causal=True)
    torch.testing.assert_close(shifted[:, FACTOR:], own[:, :-FACTOR])
    assert shifted[:, :FACTOR].eq(0).all()


def test_the_shift_does_not_cross_the_border_of_packed_sequences():
    _, up = pools()
    frames = torch.randn(1, 4, 6, dtype=torch.float64)
    starts = torch.tensor([[True, False, True, False]])
    packed = up(frames, causal=True, starts=starts)
    separate = [up(part, causal=True) for part in frames.split(2, dim=1)]
    torch.testing.assert_close(packed, torch.cat(separate, dim=1))


@pytest.mark.parametrize("chunks", [[1] * 10, [2, 2, 2, 2, 2], [3, 3, 4], [7, 1, 2], [1, 9], [10]])
def test_streams_are_the_whole(chunks):
    down, up = pools()
    x = torch.randn(2, sum(chunks), 4, dtype=torch.float64)
    window, held, phase = down.init_window(2), up.init_held(2), 0
    outputs, pooled = [], []
    for chunk in x.split(chunks, dim=1):
        frames, window = down.stream(chunk, window, phase)
        spread, held = up.stream(frames, chunk.shape[1], held, phase)
        phase = (phase + chunk.shape[1]) % FACTOR
        outputs.append(spread)
        pooled += [] if frames is None else [frames]
    filled = down(torch.cat((x, torch.zeros(2, 2, 4)), dim=1))  # 12 positions
    torch.testing.assert_close(torch.cat(pooled, dim=1), filled[:, :3])
    torch.testing.assert_close(torch.cat(outputs, dim=1), up(filled, causal=True)[:, :10])
    for kept in (window, held):  # no view that keeps a long chunk in memory
        assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_no_frame_before_one_is_complete():
    down, _ = pools()
    frames, window = down.stream(torch.ones(1, 1, 4, dtype=torch.float64), down.init_window(1), 1)
    assert frames is None
    assert window[0, :, 0].tolist() == [0, 1]


def test_narrow_layers_keep_the_stream_in_float32():
    down, up = pools(torch.bfloat16)
    assert down.init_window(1).dtype == up.init_held(1).dtype == torch.float32
    frames = down(torch.randn(1, 6, 4))
    assert frames.dtype == up(frames, causal=True).dtype == torch.float32
