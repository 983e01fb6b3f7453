"""What a model answers when single bases are replaced: in-silico mutagenesis."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genomics.attribution import NUCLEOTIDES, evaluating, explained_output, target_indices
from genomics.models import SequenceModel
from seqmamba.errors import UserError


@torch.no_grad()
def in_silico_mutagenesis(
    model: SequenceModel,
    tokens: Int[Tensor, "batch length"],
    lengths: Int[Tensor, " batch"] | None,
    target: Int[Tensor, " batch"] | int,
    *,
    start: int = 0,
    end: int | None = None,
    batch_size: int = 256,
) -> Float[Tensor, "batch window 4"]:
    """Substitute every base by every other and see what the explained output does.

    Exact where `genomics.attribution.gradient_x_input` is a first-order guess, at three forward passes a
    base.

    Args:
        model: A trained model; its mode is left as it was.
        tokens: Token ids, padded on the right.
        lengths: True lengths in bases, or None when every sequence fills the batch.
        target: Class or target index to explain, one for all sequences or one a sequence.
        start: First position to mutate, 0-based.
        end: Position after the last one to mutate; the length of the batch by default.
        batch_size: Mutants scored at once.

    Returns:
        Change of the explained output with A, C, G and T at each position; 0 for the base that is there,
        for N and for padding. `base_importance` turns it into one score a base.

    Raises:
        UserError: The window or ``target`` is outside of what there is.
    """
    length = tokens.shape[1]
    end = length if end is None else end
    if not 0 <= start < end <= length:
        raise UserError(f"start, end: expected a window inside 0 to {length}, got {start} to {end}")
    chosen = target_indices(model, tokens, target)
    nucleotides = torch.tensor(NUCLEOTIDES, dtype=tokens.dtype, device=tokens.device)
    effects = torch.zeros(tokens.shape[0], end - start, len(NUCLEOTIDES), device=tokens.device)
    with evaluating(model):
        for row in range(tokens.shape[0]):
            true_length = length if lengths is None else int(lengths[row])
            last = min(end, true_length)
            if last <= start:
                continue
            one, row_target = tokens[row : row + 1, :true_length], chosen[row : row + 1]
            all_places, all_letters = _substitutions(one[0], start, last)
            if not len(all_places):  # nothing but N
                continue
            original = explained_output(model, model(one), row_target)
            for places, letters in zip(
                all_places.split(batch_size), all_letters.split(batch_size), strict=True
            ):
                mutants = one.repeat(len(places), 1)
                mutants[torch.arange(len(places), device=one.device), places] = nucleotides[letters]
                output = explained_output(model, model(mutants), row_target.expand(len(places)))
                effects[row, places - start, letters] = output - original
    return effects


def base_importance(effects: Float[Tensor, "batch window 4"]) -> Float[Tensor, "batch window"]:
    """Turn mutation effects into one score a base: how much the output falls, on average, without it.

    Args:
        effects: What `in_silico_mutagenesis` returned.

    Returns:
        Minus the mean effect of the three substitutions.
    """
    return 0 - effects.sum(dim=-1) / (len(NUCLEOTIDES) - 1)  # of an unknown base 0 and not -0


def _substitutions(
    tokens: Int[Tensor, " length"], start: int, end: int
) -> tuple[Int[Tensor, " mutants"], Int[Tensor, " mutants"]]:
    """Return the place and the new letter (0 to 3) of all single substitutions of a stretch."""
    nucleotides = torch.tensor(NUCLEOTIDES, dtype=tokens.dtype, device=tokens.device)
    differs = tokens[start:end, None] != nucleotides
    differs &= ~differs.all(dim=-1, keepdim=True)  # an unknown base has no "instead of"
    places, letters = differs.nonzero(as_tuple=True)
    return places + start, letters
