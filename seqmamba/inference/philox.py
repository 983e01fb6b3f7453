"""Random numbers that are a function of where they are used, and of nothing else.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3): a block cipher
of a counter under a key. It is whole-number arithmetic, so every device gives the same bits, in any order.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_WORDS = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: _WORDS, key: tuple[int, int]) -> _WORDS:
    """Encipher counters.

    Args:
        counter: Four words of 32 bits, in int64 tensors of shapes that broadcast.
        key: Two words of 32 bits.

    Returns:
        Four words of 32 random bits, in int64 tensors.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 wraps at 2^64, which keeps all 64 bits of these products
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            _high(second) ^ c1 ^ k0,
            second & _WORD,
            _high(first) ^ c3 ^ k1,
            first & _WORD,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3


def uniforms(
    seed: int, rows: Int[Tensor, " batch"], positions: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length"]:
    """Return numbers uniform in [0, 1) of 53 random bits, each set by the seed, its row and its position.

    Args:
        seed: From 0 to 2^64 - 1.
        rows: Which sequence each row is.
        positions: Positions in that sequence.

    Returns:
        float64.
    """
    row = rows[:, None]
    counter = (positions & _WORD, _high(positions), row & _WORD, _high(row))
    first, second, _, _ = philox(counter, (seed & _WORD, seed >> 32))
    return ((first >> 5).double() * 2**26 + (second >> 6).double()) / 2**53


def _high(x: Tensor) -> Tensor:
    """The upper 32 bits of 64; the shift alone would carry the sign along."""
    return (x >> 32) & _WORD
