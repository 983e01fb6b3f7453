"""Draws against a brute-force reference in NumPy, and what the random numbers depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqmamba.errors import UserError
from seqmamba.inference import Draws, SamplingConfig, draw
from seqmamba.inference.philox import philox, uniforms

VOCABULARY = 12
RULES = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 4},
    {"top_k": 100},
    {"top_p": 0.05},
    {"top_p": 0.6},
    {"top_p": 1.0},
    {"min_p": 0.2},
    {"min_p": 1.0},
    {"temperature": 0.7, "top_k": 6, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 8, "top_p": 0.9, "min_p": 0.1},
]


def reference(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """Probabilities of one row, filtered token by token."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    order = sorted(range(len(weights)), key=lambda token: (-weights[token], token))[:top_k]
    total = weights[order].sum()
    kept, mass = [], 0.0
    for token in order:
        enough = top_p is not None and mass >= top_p * total
        too_rare = min_p is not None and weights[token] < min_p * weights[order[0]]
        if not enough and not too_rare:
            kept.append(token)
        mass += weights[token]
    probabilities = np.zeros_like(weights)
    probabilities[kept] = weights[kept] / weights[kept].sum()
    return probabilities


def logits_of(rows, seed=0):
    return 2 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def numbers_of(rows, seed=0):
    return uniforms(seed, torch.arange(rows), torch.zeros(rows, 1, dtype=torch.int64))[:, 0]


def test_philox_gives_the_published_words():
    """The known answers of the authors' own test suite (Random123, kat_vectors)."""
    full = 0xFFFFFFFF
    cases = [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((full,) * 4, (full, full), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ]
    for counter, key, expected in cases:
        words = philox(tuple(torch.tensor(word) for word in counter), key)
        assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_numbers_depend_on_seed_row_and_position_only():
    rows, positions = torch.tensor([3, 0, 2**40]), torch.tensor([[5, 6], [2**33, 0], [5, 6]])
    whole = uniforms(2**64 - 1, rows, positions)
    for row in range(3):
        for column in range(2):
            one = uniforms(2**64 - 1, rows[row : row + 1], positions[row : row + 1, column : column + 1])
            assert torch.equal(one[0, 0], whole[row, column])
    assert whole.unique().numel() == 6
    assert not torch.equal(whole, uniforms(2**64 - 2, rows, positions))


def test_numbers_are_uniform_and_uncorrelated():
    numbers = uniforms(7, torch.arange(200), torch.arange(500).expand(200, 500)).numpy()
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 149  # chi-square, 99 degrees of freedom, p = 0.001
    centred = numbers - numbers.mean()
    for other in (np.roll(centred, 1, axis=0), np.roll(centred, 1, axis=1)):
        assert abs((centred * other).mean()) < 4 * numbers.var() / np.sqrt(numbers.size)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_draws_follow_the_reference_distribution(rules):
    """At equally spaced numbers every token comes up as often as its probability says, to one draw."""
    sampling, points = SamplingConfig(**rules), 20_000
    numbers = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    for row in logits_of(4):
        expected = reference(row.numpy(), **rules)
        draws = draw(row.expand(points, -1), numbers, sampling)
        counts = np.bincount(draws.tokens.numpy(), minlength=VOCABULARY)
        np.testing.assert_allclose(counts / points, expected, atol=1.01 / points)
        plain = np.log(reference(row.numpy()))[draws.tokens]
        np.testing.assert_allclose(draws.log_probs, plain, atol=1e-5)
        np.testing.assert_allclose(draws.sampled_log_probs, np.log(expected[draws.tokens]), atol=1e-5)


@pytest.mark.parametrize("rules", [{}, {"temperature": 0.7, "top_k": 6, "top_p": 0.8}], ids=str)
def test_seeded_draws_pass_a_chi_square_test(rules):
    draws_made = 20_000
    for seed, row in enumerate(logits_of(3, seed=5)):
        expected = reference(row.numpy(), **rules) * draws_made
        tokens = draw(
            row.expand(draws_made, -1), numbers_of(draws_made, seed), SamplingConfig(**rules)
        ).tokens
        counts = np.bincount(tokens.numpy(), minlength=VOCABULARY)
        possible = expected > 0
        assert counts[~possible].sum() == 0
        distance = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
        assert distance < 31.3  # chi-square, 11 degrees of freedom, p = 0.001


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_a_draw_does_not_depend_on_its_batch(rules):
    logits, numbers = logits_of(9), numbers_of(9)
    together = draw(logits, numbers, SamplingConfig(**rules))
    for row in range(9):
        alone = draw(logits[row : row + 1], numbers[row : row + 1], SamplingConfig(**rules))
        assert alone.tokens[0] == together.tokens[row]


@pytest.mark.parametrize("rules", [{"temperature": 0.0}, *RULES], ids=str)
def test_draws_go_where_they_are_asked_to(rules):
    logits, numbers = logits_of(5).requires_grad_(), numbers_of(5)
    whole = Draws(*(torch.full((5, 3), -7).to(x.dtype) for x in Draws.empty(1, device=logits.device)))
    out = Draws(*(x[:, 1] for x in whole))
    assert draw(logits, numbers, SamplingConfig(**rules), out=out) is out
    for x, wanted in zip(whole, draw(logits, numbers, SamplingConfig(**rules)), strict=True):
        assert torch.equal(x[:, 1], wanted)
        assert (x[:, [0, 2]] == -7).all()
        assert not x.requires_grad


@pytest.mark.parametrize("rules", [{}, {"temperature": 0.0}, {"top_k": 3}], ids=str)
def test_huge_logits_share_their_probability(rules):
    draws = draw(torch.full((1, 4), 1e30), torch.tensor([0.5]), SamplingConfig(**rules))
    torch.testing.assert_close(draws.log_probs, torch.full((1,), 0.25).log())


def test_temperature_zero_takes_the_first_of_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0], [2.0, -1.0, 2.0, 2.0]])
    draws = draw(logits, torch.tensor([0.999, 0.999]), SamplingConfig(temperature=0.0))
    assert draws.tokens.tolist() == [1, 0]
    assert draws.sampled_log_probs.tolist() == [0, 0]
    torch.testing.assert_close(draws.log_probs, logits.log_softmax(-1)[[0, 1], [1, 0]])


def test_small_temperatures_approach_the_likeliest():
    logits = logits_of(50)
    for temperature in (1e-3, 1e-30, 1e-300):
        draws = draw(logits, numbers_of(50), SamplingConfig(temperature=temperature))
        assert torch.equal(draws.tokens, logits.argmax(-1))
        assert draws.log_probs.isfinite().all()


def test_equal_logits_keep_the_smallest_token_ids():
    """The order of ties is that of the ids, so that devices agree."""
    logits = torch.zeros(1000, 6)
    tokens = draw(logits, numbers_of(1000), SamplingConfig(top_k=2)).tokens
    assert tokens.unique().tolist() == [0, 1]


@pytest.mark.parametrize("rules", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.01}], ids=str)
def test_forbidden_tokens_never_come(rules):
    logits = torch.full((4, 5), -torch.inf)
    logits[:, 3] = 0.0
    numbers = torch.tensor([0.0, 0.5, 1 - 2**-53, 1e-300], dtype=torch.float64)
    draws = draw(logits, numbers, SamplingConfig(**rules))
    assert draws.tokens.tolist() == [3, 3, 3, 3]
    assert draws.log_probs.tolist() == draws.sampled_log_probs.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("rules", [{}, {"temperature": 0.0}, {"top_k": 2}], ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_show_in_the_log_probability(rules, value):
    logits = torch.zeros(1, 4)
    logits[0, 2] = value
    draws = draw(logits, torch.tensor([0.5]), SamplingConfig(**rules))
    assert 0 <= int(draws.tokens) < 4
    assert not draws.log_probs.isfinite().any()


def test_half_precision_logits_are_read_exactly():
    logits = logits_of(20).bfloat16()
    assert torch.equal(
        draw(logits, numbers_of(20), SamplingConfig()).tokens,
        draw(logits.double(), numbers_of(20), SamplingConfig()).tokens,
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"temperature": -0.1}, "temperature: expected a number >= 0, got -0.1"),
        ({"temperature": float("nan")}, "temperature: expected a number >= 0, got nan"),
        ({"top_k": 0}, "top_k: expected a whole number >= 1, got 0"),
        ({"top_k": 2.0}, "top_k: expected a whole number >= 1, got 2.0"),
        ({"top_p": 0}, r"top_p: expected a number in \(0, 1\], got 0"),
        ({"top_p": 1.01}, r"top_p: expected a number in \(0, 1\], got 1.01"),
        ({"min_p": -0.5}, r"min_p: expected a number in \(0, 1\], got -0.5"),
        ({"seed": -1}, r"seed: expected a whole number from 0 to 2\^64 - 1, got -1"),
        ({"seed": 2**64}, "seed: expected a whole number from 0 to"),
    ],
)
def test_rules_out_of_range(rules, message):
    with pytest.raises(UserError, match=message):
        SamplingConfig(**rules)


@pytest.mark.gpu
@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("vocabulary", [VOCABULARY, 256, 50_280])
def test_a_gpu_draws_the_same(rules, vocabulary):
    logits = 2 * torch.randn(64, vocabulary, generator=torch.Generator().manual_seed(1))
    here = draw(logits, numbers_of(64), SamplingConfig(**rules))
    rows, positions = torch.arange(64, device="cuda"), torch.zeros(64, 1, dtype=torch.int64, device="cuda")
    numbers = uniforms(0, rows, positions)[:, 0]
    assert torch.equal(numbers.cpu(), numbers_of(64))
    there = draw(logits.cuda(), numbers, SamplingConfig(**rules))
    assert torch.equal(there.tokens.cpu(), here.tokens)
    torch.testing.assert_close(there.log_probs.cpu(), here.log_probs)
    torch.testing.assert_close(there.sampled_log_probs.cpu(), here.sampled_log_probs)
