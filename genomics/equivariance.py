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

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genomics.alphabet import COMPLEMENT


def complement_table(device: torch.device) -> Int[Tensor, " vocabulary"]:
    """Return the token id of the complement of every token id, on ``device``."""
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


def reverse_complement_tokens(
    tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
) -> Int[Tensor, "batch length"]:
    """Reverse-complement a batch of token ids; right padding stays on the right.

    Args:
        tokens: Token ids (`genomics.alphabet`).
        lengths: True length of every sequence in bases, or None when all fill the batch.

    Returns:
        Token ids of the other strands, same shape and dtype.
    """
    source = mirror_positions(tokens.shape[0], tokens.shape[1], lengths, tokens.device)
    complemented = complement_table(tokens.device)[tokens.long()]
    return complemented.gather(1, source).to(tokens.dtype)


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
    source = mirror_positions(one_hot.shape[0], one_hot.shape[1], lengths, one_hot.device)
    rows = one_hot.gather(1, source.unsqueeze(-1).expand_as(one_hot))
    # The complement is its own inverse, so gathering and scattering columns are the same.
    return rows[..., complement_table(one_hot.device)]


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
    """Average a function over both strands, in one pass of twice the batch.

    Args:
        function: Takes (one_hot, lengths) of any batch size; row i of the result belongs to sequence i.
        one_hot: Token weights of the strands as given.
        lengths: True lengths, or None.

    Returns:
        (f(x) + f(rc(x))) / 2, the same for x and rc(x) up to rounding.
    """
    both = torch.cat([one_hot, reverse_complement_one_hot(one_hot, lengths)])
    both_lengths = None if lengths is None else torch.cat([lengths, lengths])
    given, other = function(both, both_lengths).chunk(2)
    return (given + other) / 2
