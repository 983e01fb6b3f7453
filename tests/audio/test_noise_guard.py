import math

import pytest
import torch
from waveform_models import small_model

from audio.noise_guard import (
    GuardConfig,
    GuardedGeneration,
    Setback,
    is_noise,
    root_mean_square,
    spectral_flatness,
)
from seqmamba.errors import UserError
from seqmamba.inference import SamplingConfig, begin, generate


def tone(length=4000, period=25.0):
    return torch.sin(2 * math.pi * torch.arange(length) / period)[None]


def test_flatness_tells_noise_from_a_tone_at_any_loudness():
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    assert spectral_flatness(noise) > 0.9
    torch.testing.assert_close(spectral_flatness(noise * 1e-3), spectral_flatness(noise))
    assert spectral_flatness(tone()) < 0.01
    assert spectral_flatness(noise.cumsum(dim=1)) < 0.2  # brown noise


@pytest.mark.parametrize("length", [1, 2, 3, 100])
def test_flatness_of_what_is_shorter_than_a_frame_is_a_number_from_0_to_1(length):
    flatness = spectral_flatness(torch.rand(2, length, generator=torch.Generator().manual_seed(0)))
    assert flatness.shape == (2,)
    assert ((flatness >= 0) & (flatness <= 1)).all()


def test_root_mean_square_of_a_sine_is_one_over_root_two():
    torch.testing.assert_close(root_mean_square(tone()), torch.tensor([0.5**0.5]), rtol=1e-3, atol=0)


def test_noise_needs_all_three_signs():
    noise = 0.3 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    clueless, sure = torch.full((1, 4000), 7.5), torch.full((1, 4000), 2.0)
    config = GuardConfig()
    assert is_noise(noise, clueless, 8, config).item()
    assert not is_noise(noise, sure, 8, config).item()
    assert not is_noise(tone(), clueless, 8, config).item()
    assert not is_noise(noise * 0.01, clueless, 8, config).item()


def test_without_noise_the_guard_changes_nothing():
    model = small_model(scale=5.0).network
    plain = generate(model, torch.full((3, 1), 128), n_tokens=50, sampling=SamplingConfig(seed=3))
    start = begin(model, torch.full((3, 1), 128))
    guarded = GuardedGeneration(
        model, start, SamplingConfig(seed=3), lambda s: torch.zeros(3) > 0, GuardConfig(history=2)
    )
    blocks = list(guarded.blocks(50, 8))
    assert [block.tokens.shape[1] for block in blocks] == [8] * 6 + [2]
    assert torch.equal(torch.cat([block.tokens for block in blocks], dim=1), plain)
    assert guarded.restarts == 0


class Dislike:
    """Calls a block noise if its mean token is above a limit."""

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, stretch):
        return stretch.tokens.float().mean(dim=1) > self.limit


def run_guarded(judge, *, seed=0, max_restarts=200, rows=4):
    model = small_model(scale=5.0).network
    start = begin(model, torch.full((rows, 1), 128))
    config = GuardConfig(history=3, max_restarts=max_restarts)
    guarded = GuardedGeneration(model, start, SamplingConfig(seed=seed), judge, config)
    stretches = list(guarded.blocks(40, 4))
    return (
        model,
        guarded,
        torch.cat([s.tokens for s in stretches], 1),
        torch.cat([s.log_probs for s in stretches], 1),
    )


def test_what_is_noise_is_replaced_and_the_rest_goes_on_from_it():
    judge = Dislike(150)
    model, guarded, tokens, log_probs = run_guarded(judge)
    assert guarded.restarts > 0
    assert not guarded.given_up.any()
    assert sum(back.tries for back in guarded.setbacks) == guarded.restarts
    assert all(back.replaced and back.token % 4 == 0 for back in guarded.setbacks)
    assert tokens.unfold(1, 4, 4).float().mean(dim=-1).max() <= 150
    # the tokens that are there are those that the model drew: their probabilities follow from each other
    logits = model(torch.cat((torch.full((4, 1), 128), tokens[:, :-1]), dim=1))
    expected = logits.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(log_probs, expected, rtol=1e-3, atol=1e-3)


def test_sequences_without_noise_are_as_without_a_guard():
    _, _, plain, _ = run_guarded(lambda s: torch.zeros(4) > 0)
    worst = plain.unfold(1, 4, 4).float().mean(dim=-1).amax(dim=1)
    limit = worst.sort().values[1].item()
    quiet = worst <= limit
    _, guarded, tokens, _ = run_guarded(Dislike(limit))
    assert guarded.restarts > 0
    assert torch.equal(tokens[quiet], plain[quiet])
    assert not torch.equal(tokens[~quiet], plain[~quiet])


def test_the_same_seed_restarts_the_same_way():
    first, second = run_guarded(Dislike(150)), run_guarded(Dislike(150))
    assert first[1].restarts == second[1].restarts
    assert torch.equal(first[2], second[2])
    assert not torch.equal(run_guarded(Dislike(150), seed=1)[2], first[2])


def test_after_too_many_tries_a_sequence_is_left_alone_and_named():
    _, guarded, tokens, _ = run_guarded(
        lambda s: torch.tensor([True, False])[: len(s.tokens)], max_restarts=3, rows=2
    )
    assert guarded.given_up.tolist() == [True, False]
    assert guarded.restarts == 3
    assert guarded.setbacks == [Setback(row=0, token=0, tries=3, replaced=False)]
    assert tokens.shape == (2, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_rms": 2}, "min_rms: expected a number from 0 to 1, got 2"),
        ({"min_flatness": math.nan}, "min_flatness: expected a number from 0 to 1"),
        ({"history": 0}, "history: expected a whole number >= 1, got 0"),
    ],
)
def test_limits_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        GuardConfig(**options)
