from __future__ import annotations

import math

import pytest
import torch

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.inference import ModeReport, Stream, compare_modes, run_chunked, run_stepwise, run_whole
from seqmamba.nn import pack

LENGTH = 40


def make(impl="auto", **options):
    """A causal backbone whose state fades slowly, so that a lost state shows."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(d_model=16, n_layers=3, d_state=8, scan_impl=impl, **options))
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith("A_log"):
                parameter.sub_(3)
            if name.endswith("out_proj.weight"):
                parameter.mul_(3)
    return backbone


@pytest.fixture(scope="module")
def sequence():
    return torch.randn(2, LENGTH, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("impl", ["auto", "reference", "chunked", "numba"])
def test_whole_chunked_and_stepwise_agree(impl, sequence):
    report = compare_modes(make(impl), sequence)
    assert report.worst <= 1e-5
    assert report.scale > 1


def test_any_single_cut(sequence):
    backbone = make()
    whole = run_whole(backbone, sequence)
    for cut in range(1, LENGTH):
        torch.testing.assert_close(run_chunked(backbone, sequence, [cut]), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cuts", [[1, 2, 3, 4], [1, 3, 6, 10, 15, 21, 28, 36], [38, 39], [13, 14, 30]])
def test_many_cuts(cuts, sequence):
    backbone = make()
    expected = run_whole(backbone, sequence)
    torch.testing.assert_close(run_chunked(backbone, sequence, cuts), expected, atol=1e-5, rtol=0)


def test_double_precision_agrees_to_rounding(sequence):
    report = compare_modes(make().double(), sequence.double())
    assert report.worst < 1e-13


def test_a_dropped_state_would_show(sequence):
    backbone = make()
    restarted = torch.cat([backbone(sequence[:, :20]), backbone(sequence[:, 20:])], dim=1)
    assert (restarted - run_whole(backbone, sequence)).abs().max() > 1e-2


@pytest.mark.parametrize("cut", [5, 6, 7, 8, 9, 20])
def test_packed_sequences_cut_anywhere(cut):
    """A reset just before, on or after the cut; the convolution reaches back over both."""
    backbone = make()
    sequences = [torch.randn(length, 16) for length in (7, 1, 12)]
    x, reset = pack(sequences)
    separate = torch.cat([backbone(s[None]) for s in sequences], dim=1)
    first, state = backbone(x[:, :cut], reset=reset[:, :cut], return_state=True)
    if cut < x.shape[1]:
        second = backbone(x[:, cut:], reset=reset[:, cut:], state=state)
        first = torch.cat([first, second], dim=1)
    torch.testing.assert_close(first, separate, atol=1e-5, rtol=0)


def test_stream_counts_and_restarts(sequence):
    stream = Stream(make(), batch_size=2)
    first = stream.feed(sequence[:, :7])
    stream.feed(sequence[:, 7:8])
    assert stream.position == 8
    assert not first.requires_grad
    stream.restart()
    assert stream.position == 0
    assert torch.equal(stream.feed(sequence[:, :7]), first)


def test_state_size_does_not_grow(sequence):
    stream = Stream(make(), batch_size=2)
    sizes = set()
    for t in range(5):
        stream.feed(sequence[:, t : t + 1])
        sizes.add(tuple(t.shape for layer in stream.state.layers for t in layer))
    assert len(sizes) == 1


def test_stepping_leaves_no_graph(sequence):
    backbone = make()
    assert not run_stepwise(backbone, sequence[:, :3]).requires_grad
    _, state = backbone(sequence, return_state=True)
    assert state.layers[0].scan.requires_grad
    assert not any(t.requires_grad for layer in state.detach().layers for t in layer)


def test_compare_modes_restores_the_training_mode(sequence):
    backbone = make(dropout=0.5)
    assert compare_modes(backbone, sequence, [3]).worst <= 1e-5
    assert backbone.training


@pytest.mark.parametrize("cuts", [[0], [LENGTH], [5, 5], [6, 5], [-1]])
def test_bad_cuts(cuts, sequence):
    with pytest.raises(UserError, match=r"cuts: expected increasing positions between 1 and 39, got \["):
        run_chunked(make(), sequence, cuts)


def test_bidirectional_backbone_has_one_mode(sequence):
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        compare_modes(make(direction="bidirectional"), sequence)


def test_short_sequences():
    for length in (2, 3, 4, 5):
        assert compare_modes(make(), torch.randn(1, length, 16)).worst <= 1e-5


def test_a_difference_that_is_no_number_is_the_worst():
    assert math.isnan(ModeReport(chunked=0.0, stepwise=math.nan, scale=1.0).worst)
    assert math.isnan(ModeReport(chunked=math.nan, stepwise=0.0, scale=1.0).worst)
    assert ModeReport(chunked=2.0, stepwise=1.0, scale=1.0).worst == 2.0
