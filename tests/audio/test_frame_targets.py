from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from audio.frame_targets import FrameTargetConfig, FrameTargets, draw_codebooks, most_mels
from audio.spectrograms import standardised
from seqmamba.errors import UserError

RATE, FRAME = 8000, 160


def noise(count: int = 3, length: int = 4000) -> torch.Tensor:
    return 0.1 * torch.randn(count, length, 1, generator=torch.Generator().manual_seed(0))


def test_a_code_is_the_nearest_vector_to_the_projected_frame() -> None:
    config = FrameTargetConfig(codebooks=2, codes=20, dim=5, standardise="band")
    targets, lengths = FrameTargets(config, FRAME, RATE), torch.tensor([4000, 3900, 1000])
    codes = targets(noise(), lengths)
    rows = targets.log_mel(noise(), lengths)
    x = standardised(rows.x, rows.lengths, each_band=True)
    assert codes.shape == (3, 25, 2)
    for book in range(2):
        projected = F.normalize(x @ targets.projections[book], dim=-1)
        distance = torch.cdist(projected.flatten(0, 1), targets.vectors[book]).unflatten(0, (3, 25))
        assert torch.equal(codes[:2, :, book], distance[:2].argmin(dim=-1))
    assert torch.equal(targets(noise(), lengths), FrameTargets(config, FRAME, RATE)(noise(), lengths))
    assert not torch.equal(
        codes, FrameTargets(FrameTargetConfig(codebooks=2, codes=20, seed=1), FRAME, RATE)(noise(), lengths)
    )


def test_codebooks_are_drawn_alike_wherever_a_model_is_built() -> None:
    """Lightning builds models with their device as the default one; the generator is the CPU's."""
    expected = draw_codebooks(FrameTargetConfig(seed=3))
    with torch.device("meta"):
        found = draw_codebooks(FrameTargetConfig(seed=3))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_nothing_of_the_targets_is_trained_and_all_of_them_is_saved() -> None:
    targets = FrameTargets(FrameTargetConfig(), FRAME, RATE)
    assert not list(targets.parameters())
    assert set(targets.state_dict()) == {"projections", "vectors"}


def test_loudness_and_with_bands_a_channel_s_colour_change_no_target() -> None:
    lengths = torch.full((3,), 4000)
    coloured = torch.nn.functional.pad(noise(), (0, 0, 1, 0))
    coloured = coloured[:, 1:] - 0.9 * coloured[:, :-1]  # much less bass
    for kind in ("band", "whole"):
        targets = FrameTargets(FrameTargetConfig("log_mel", standardise=kind), FRAME, RATE)  # type: ignore[arg-type]
        x = targets(noise(), lengths)
        torch.testing.assert_close(targets(5 * noise(), lengths), x, rtol=0, atol=2e-2)
        moved = (targets(coloured, lengths) - x).abs().mean()
        assert (moved < 0.15) == (kind == "band")
        if kind == "band":
            assert x.mean(dim=1).abs().max() < 1e-4
            assert (x.std(dim=1, correction=0) - 1).abs().max() < 1e-2


def test_losses_are_means_over_codebooks_and_bands() -> None:
    targets = FrameTargets(FrameTargetConfig(codebooks=2, codes=8), FRAME, RATE)
    truth = targets(noise(), torch.full((3,), 4000))
    flat = torch.zeros(3, 25, targets.outputs)
    torch.testing.assert_close(targets.losses(flat, truth), torch.full((3, 25), math.log(8)))
    sure = 50 * F.one_hot(truth, 8).float().flatten(2)
    assert targets.losses(sure, truth).max() < 1e-6
    half = sure.clone()
    half[..., 8:] = 0
    torch.testing.assert_close(targets.losses(half, truth), torch.full((3, 25), math.log(8) / 2))
    energies = FrameTargets(FrameTargetConfig("log_mel"), FRAME, RATE)
    x = energies(noise(), torch.full((3,), 4000))
    torch.testing.assert_close(energies.losses(x + 2, x), torch.full((3, 25), 4.0))


@pytest.mark.parametrize("rate", [1000, 4000, 8000, 16_000, 44_100])
def test_every_rate_has_room_for_the_filters_that_are_chosen(rate: int) -> None:
    mels = most_mels(rate)
    assert FrameTargets(FrameTargetConfig(mels=mels), rate // 125, rate).outputs > 0
    assert mels == 40 or rate < 4000


def test_refuses_impossible_targets() -> None:
    with pytest.raises(UserError, match=r"targets.kind: expected one of codes, log_mel"):
        FrameTargetConfig("words")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"targets.codes: expected a whole number >= 2, got 1"):
        FrameTargetConfig(codes=1)
    with pytest.raises(UserError, match="mels: expected fewer filters"):
        FrameTargets(FrameTargetConfig(mels=300), FRAME, RATE)
