"""Reverse complements of batches, and predictions that do not depend on the strand that was sequenced.

A double-stranded site can be written as either strand, so f(x) and f(rc(x)) should agree. Averaging a
function over the group {identity, reverse complement} makes it invariant, and Caduceus (Schiff et al. 2024,
arXiv:2403.03234) uses that in two ways:

* Caduceus-Ph, post-hoc conjoining: train on random strands, average both strands at test time;
* Caduceus-PS, parameter sharing: both strands pass through the same weights, in training too. Its blocks
  never mix the two strand halves, so the whole stack equals one shared stack applied to x and to rc(x).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from genomics.alphabet import COMPLEMENT

APART_FROM = 131_072
"""Bases of a batch from which on `conjoin` reads the strands one after the other."""


def complement_table(device: torch.device) -> Int[Tensor, " vocabulary"]:
    """Return the token id of the complement of every token id, on ``device``; it is not to be changed."""
    if torch.compiler.is_compiling():
        return torch.from_numpy(COMPLEMENT.copy()).long().to(device)
    return _kept_complement_table(device)


@lru_cache
def _kept_complement_table(device: torch.device) -> Int[Tensor, " vocabulary"]:
    """Make the table once a device: copying it there makes the host wait for the device."""
    with torch.inference_mode(False):  # a tensor of inference mode could not take part in training
        return torch.from_numpy(COMPLEMENT.copy()).long().to(device)


def mirror_positions(
    batch: int, length: int, lengths: Int[Tensor, " batch"] | None, device: torch.device
) -> Int[Tensor, "batch length"]:
    """Return, for every position, the position that a reversal of the true sequence moves there.

    Right padding maps to itself: position t of n bases comes from n - 1 - t when t < n, else from t.

    Args:
        batch: Number of sequences.
        length: Padded length.
        lengths: True lengths, or None when every sequence fills the batch.
        device: Where to put the result.
    """
    positions = torch.arange(length, device=device).expand(batch, length)
    if lengths is None:
        return length - 1 - positions
    true_lengths = lengths.to(device).unsqueeze(1)
    return torch.where(positions < true_lengths, true_lengths - 1 - positions, positions)


def mirror(
    rows: Shaped[Tensor, "batch length *channels"], lengths: Int[Tensor, " batch"] | None = None
) -> Shaped[Tensor, "batch length *channels"]:
    """Reverse the positions of every sequence; right padding stays on the right.

    Args:
        rows: One value or row of values a position.
        lengths: True length of every sequence in bases, or None when all fill the batch.
    """
    if lengths is None:
        return rows.flip(1)
    source = mirror_positions(rows.shape[0], rows.shape[1], lengths, rows.device)
    return rows.gather(1, source.view(*source.shape, *(1,) * (rows.ndim - 2)).expand_as(rows))


def reverse_complement_tokens(
    tokens: Int[Tensor, "batch length"],
    lengths: Int[Tensor, " batch"] | None = None,
    complement: Int[Tensor, " vocabulary"] | None = None,
) -> Int[Tensor, "batch length"]:
    """Reverse-complement a batch of token ids; right padding stays on the right.

    Args:
        tokens: Token ids.
        lengths: True length of every sequence in bases, or None when all fill the batch.
        complement: The complement of every token id; None means those of `genomics.alphabet`.

    Returns:
        Token ids of the other strands, same shape and dtype.
    """
    table = complement_table(tokens.device) if complement is None else complement
    return mirror(table[tokens.long()], lengths).to(tokens.dtype)


def reverse_complement_one_hot(
    one_hot: Float[Tensor, "batch length vocabulary"], lengths: Int[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch length vocabulary"]:
    """Reverse-complement a batch of one-hot (or any per-token) rows, differentiably.

    Args:
        one_hot: One weight a token id and position.
        lengths: True length of every sequence in bases, or None when all fill the batch.

    Returns:
        The rows of the other strands: position reversed, columns complemented.
    """
    # The complement is its own inverse, so gathering and scattering columns are the same.
    return mirror(one_hot, lengths)[..., complement_table(one_hot.device)]


def reverse_complement_some(
    tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None, chosen: Bool[Tensor, " batch"]
) -> Int[Tensor, "batch length"]:
    """Replace the chosen sequences of a batch by their reverse complements (training augmentation).

    Args:
        tokens: Token ids.
        lengths: True lengths, or None.
        chosen: True for the sequences to replace.
    """
    return torch.where(chosen.unsqueeze(1), reverse_complement_tokens(tokens, lengths), tokens)


def conjoin(
    function: Callable[[Tensor, Tensor | None], Tensor],
    one_hot: Float[Tensor, "batch length vocabulary"],
    lengths: Int[Tensor, " batch"] | None,
) -> Tensor:
    """Average a function over both strands: side by side, or one after the other where they are long.

    From `APART_FROM` bases on one strand keeps a device busy, and both at once would only take twice the
    memory; gradients are the same, and a backward pass holds the work of one strand at a time, too.

    Args:
        function: Takes (one_hot, lengths) of any batch size; row i of the result belongs to sequence i.
        one_hot: Token weights of the strands as given.
        lengths: True lengths, or None.

    Returns:
        (f(x) + f(rc(x))) / 2, the same for x and rc(x) up to rounding.
    """
    turned = reverse_complement_one_hot(one_hot, lengths)
    if one_hot.shape[0] * one_hot.shape[1] >= APART_FROM:
        return (function(one_hot, lengths) + function(turned, lengths)) / 2
    both_lengths = None if lengths is None else torch.cat([lengths, lengths])
    given, other = function(torch.cat([one_hot, turned]), both_lengths).chunk(2)
    return (given + other) / 2
