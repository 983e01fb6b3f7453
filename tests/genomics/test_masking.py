from __future__ import annotations

import math

import pytest
import torch

from genomics.alphabet import CLS, MASK, PAD, SEP, UNK, A, C, G, N, T
from genomics.masking import MaskingConfig, known_bases, mask_bases
from seqmamba.errors import UserError


def bases(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(A, T + 1, (rows, length), generator=generator, dtype=torch.uint8)


def within(count: int, total: int, share: float) -> bool:
    """Whether a count is within five standard deviations of what it should be."""
    return abs(count - total * share) < 5 * math.sqrt(total * share * (1 - share))


def test_the_shares_are_those_of_bert() -> None:
    tokens = bases(64, 4096)
    masked, chosen = mask_bases(tokens, torch.arange(64), MaskingConfig())
    n, picked = tokens.numel(), int(chosen.sum())
    assert within(picked, n, 0.15)
    assert within(int((masked[chosen] == MASK).sum()), picked, 0.8)
    # a quarter of the random bases are the true one
    assert within(int(((masked != tokens) & (masked != MASK)).sum()), picked, 0.075)
    assert torch.equal(masked[~chosen], tokens[~chosen])
    assert masked.dtype == tokens.dtype


def test_random_bases_are_each_as_likely() -> None:
    tokens = bases(64, 4096)
    masked, _ = mask_bases(tokens, torch.arange(64), MaskingConfig(rate=1.0, hide=0.0, replace=1.0))
    for base in (A, C, G, T):
        assert within(int((masked == base).sum()), tokens.numel(), 0.25)


def test_only_known_bases_are_chosen_and_only_bases_are_put() -> None:
    rest = torch.tensor([CLS, SEP, MASK, PAD, UNK, N], dtype=torch.uint8)
    tokens = torch.where(torch.rand(8, 600) < 0.5, bases(8, 600), rest[torch.randint(6, (8, 600))])
    masked, chosen = mask_bases(tokens, torch.arange(8), MaskingConfig(rate=1.0, hide=0.3, replace=0.7))
    assert torch.equal(chosen, known_bases(tokens))
    assert torch.equal(masked[~chosen], tokens[~chosen])
    assert set(masked[chosen].tolist()) == {MASK, A, C, G, T}


def test_a_batch_of_n_has_nothing_to_guess() -> None:
    tokens = torch.full((2, 50), N, dtype=torch.uint8)
    masked, chosen = mask_bases(tokens, torch.tensor([1, 2]), MaskingConfig(rate=1.0))
    assert not chosen.any()
    assert torch.equal(masked, tokens)


def test_a_mask_depends_on_key_and_position_alone() -> None:
    tokens = bases(4, 300)
    keys = torch.tensor([5, 2**61 + 3, 5, 7])
    whole = mask_bases(tokens, keys, MaskingConfig())
    for row in range(4):
        alone = mask_bases(tokens[row : row + 1, :100], keys[row : row + 1], MaskingConfig())
        assert torch.equal(alone.tokens[0], whole.tokens[row, :100])
    assert torch.equal(whole.chosen[0], whole.chosen[2])  # all are known bases
    assert not torch.equal(whole.chosen[0], whole.chosen[1])


@pytest.mark.gpu
def test_a_gpu_hides_the_same_bases() -> None:
    tokens, keys = bases(8, 1000), torch.arange(8) + 2**60
    here = mask_bases(tokens, keys, MaskingConfig())
    there = mask_bases(tokens.cuda(), keys.cuda(), MaskingConfig())
    assert torch.equal(here.tokens, there.tokens.cpu())
    assert torch.equal(here.chosen, there.chosen.cpu())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "masking.rate: expected a number above 0"),
        ({"hide": 1.5}, r"masking.hide: expected a number in \[0, 1\], got 1.5"),
        ({"hide": 0.8, "replace": 0.3}, "expected hide and replace to sum to 1 at most, got 0.8 and 0.3"),
    ],
)
def test_refuses_impossible_shares(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MaskingConfig(**options)
