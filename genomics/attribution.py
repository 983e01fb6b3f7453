"""Which bases made a model answer as it did.

Both methods explain one number a sequence: the log-odds of a class (against all others for classification,
against its absence for multi-label), or the predicted value in the targets' units for regression. Log-odds,
unlike probabilities, do not flatten where the model is certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genomics.alphabet import A, C, G, T
from genomics.models import SequenceModel
from seqmamba.errors import UserError

NUCLEOTIDES = (A, C, G, T)


def gradient_x_input(
    model: SequenceModel,
    tokens: Int[Tensor, "batch length"],
    lengths: Int[Tensor, " batch"] | None,
    target: Int[Tensor, " batch"] | int,
) -> Float[Tensor, "batch length"]:
    """Score every base by the gradient of the explained output, times the input.

    The gradient at a position is centred over A, C, G and T, which removes the direction off the simplex of
    one-hot inputs that training never constrains (Majdandzic et al. 2023, "Correcting gradient-based
    interpretations of deep neural networks for genomics"). A score is therefore the slope from "any base" to
    the base that is there; N and padding score 0. One forward and one backward pass.

    Args:
        model: A trained model; its mode and its parameters' gradients are left as they were.
        tokens: Token ids, padded on the right.
        lengths: True lengths in bases, or None when every sequence fills the batch.
        target: Class or target index to explain, one for all sequences or one a sequence.

    Returns:
        One score a base, positive where the base raises the explained output.

    Raises:
        UserError: ``target`` is not an output of the model.
    """
    chosen = _targets(model, tokens, target)
    with _evaluating(model), torch.enable_grad():
        weights = model.one_hot(tokens).detach().requires_grad_(True)
        output = explained_output(model, model.forward_embedded(weights, lengths), chosen)
        (gradient,) = torch.autograd.grad(output.sum(), weights)
    columns = list(NUCLEOTIDES)
    gradient, base = gradient[..., columns], weights.detach()[..., columns]
    scores = ((gradient - gradient.mean(dim=-1, keepdim=True)) * base).sum(dim=-1)
    return _mask_padding(scores, lengths)


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

    Exact where `gradient_x_input` is a first-order guess, at three forward passes a base.

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
    chosen = _targets(model, tokens, target)
    effects = torch.zeros(tokens.shape[0], end - start, len(NUCLEOTIDES), device=tokens.device)
    with _evaluating(model):
        for row in range(tokens.shape[0]):
            true_length = length if lengths is None else int(lengths[row])
            last = min(end, true_length)
            if last <= start:
                continue
            one, row_target = tokens[row : row + 1, :true_length], chosen[row : row + 1]
            original = explained_output(model, model(one), row_target)
            mutants, places, letters = _mutants(one[0], start, last)
            for at in range(0, len(mutants), batch_size):
                part = slice(at, at + batch_size)
                many = row_target.expand(len(mutants[part]))
                output = explained_output(model, model(mutants[part]), many)
                effects[row, places[part] - start, letters[part]] = output - original
    return effects


def base_importance(effects: Float[Tensor, "batch window 4"]) -> Float[Tensor, "batch window"]:
    """Turn mutation effects into one score a base: how much the output falls, on average, without it.

    Args:
        effects: What `in_silico_mutagenesis` returned.

    Returns:
        Minus the mean effect of the three substitutions.
    """
    return -effects.sum(dim=-1) / (len(NUCLEOTIDES) - 1)


def explained_output(
    model: SequenceModel, logits: Float[Tensor, "batch classes"], target: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return the number that attribution explains.

    Args:
        model: The model that gave the logits.
        logits: Its output.
        target: Class or target index of each sequence.

    Returns:
        Log-odds of the class, or the value of the target.
    """
    column = target.unsqueeze(-1)
    if model.config.task == "regression":
        return model.to_predictions(logits).gather(-1, column).squeeze(-1)
    own = logits.gather(-1, column).squeeze(-1)
    if model.config.task == "multilabel":
        return own
    others = logits.scatter(-1, column, float("-inf"))
    return own - others.logsumexp(dim=-1)


def _mutants(tokens: Tensor, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """All single substitutions of one sequence, with the place and the new letter (0 to 3) of each."""
    nucleotides = torch.tensor(NUCLEOTIDES, dtype=tokens.dtype, device=tokens.device)
    differs = tokens[start:end, None] != nucleotides
    differs &= ~differs.all(dim=-1, keepdim=True)  # an unknown base has no "instead of"
    places, letters = differs.nonzero(as_tuple=True)
    places = places + start
    mutants = tokens.repeat(len(places), 1)
    mutants[torch.arange(len(places), device=tokens.device), places] = nucleotides[letters]
    return mutants, places, letters


def _targets(model: SequenceModel, tokens: Tensor, target: Tensor | int) -> Tensor:
    count = len(model.config.classes)
    chosen = torch.as_tensor(target, dtype=torch.int64, device=tokens.device).expand(tokens.shape[0])
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < count:
        raise UserError(f"target: expected an index from 0 to {count - 1}, got {chosen.unique().tolist()}")
    return chosen


def _mask_padding(scores: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return scores
    position = torch.arange(scores.shape[1], device=scores.device)
    return scores.masked_fill(position >= lengths.to(scores.device).unsqueeze(-1), 0.0)


@contextmanager
def _evaluating(model: SequenceModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
