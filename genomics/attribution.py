"""Which bases made a model answer as it did: gradients.

All methods explain one number a sequence: the log-odds of a class (against all others for classification,
against its absence for multi-label), or the predicted value in the targets' units for regression. Log-odds,
unlike probabilities, do not flatten where the model is certain.

From `RECOMPUTE_FROM` bases on, the backward pass computes every block again instead of keeping it: what grows
with a sequence's length is the work of one block and the input of each. A model that averages strands reads
long ones one after the other, see `genomics.equivariance.conjoin`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genomics.alphabet import PAD, A, C, G, N, T
from genomics.equivariance import reverse_complement_tokens
from genomics.models import SequenceModel
from seqmamba.errors import UserError

NUCLEOTIDES = (A, C, G, T)
RECOMPUTE_FROM = 16_384


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
    chosen = target_indices(model, tokens, target)
    with evaluating(model), differentiating(model, tokens.shape[1]):
        weights = model.one_hot(tokens).detach()
        gradient = _gradient(model, weights, lengths, chosen)
    columns = list(NUCLEOTIDES)
    gradient, base = gradient[..., columns], weights[..., columns]
    scores = ((gradient - gradient.mean(dim=-1, keepdim=True)) * base).sum(dim=-1)
    return _mask_padding(scores, lengths)


def integrated_gradients(
    model: SequenceModel,
    tokens: Int[Tensor, "batch length"],
    lengths: Int[Tensor, " batch"] | None,
    target: Int[Tensor, " batch"] | int,
    *,
    steps: int = 32,
) -> tuple[Float[Tensor, "batch length"], Float[Tensor, " batch"]]:
    """Score every base by its share of what tells the sequence from one of unknown bases.

    The gradient is integrated along the straight line from a sequence of N, as the model reads it, to the
    sequence (Sundararajan et al. 2017, "Axiomatic attribution for deep networks", equation 1), by the
    Gauss-Legendre rule. The scores of a sequence sum to what the explained output gains on the way
    (completeness). Memory does not depend on the number of steps, each one forward and one backward pass.

    Args:
        model: A trained model; its mode and its parameters' gradients are left as they were.
        tokens: Token ids, padded on the right.
        lengths: True lengths in bases, or None when every sequence fills the batch.
        target: Class or target index to explain, one for all sequences or one a sequence.
        steps: Points of the rule.

    Returns:
        One score a base, positive where the base raises the explained output, 0 for N and padding; and for
        each sequence by how much the sum of the scores misses what completeness asks for.

    Raises:
        UserError: ``target`` is not an output of the model, or there is no step.
    """
    if steps < 1:
        raise UserError(f"steps: expected at least 1, got {steps}")
    chosen = target_indices(model, tokens, target)
    points, shares = np.polynomial.legendre.leggauss(steps)
    with evaluating(model), differentiating(model, tokens.shape[1]):
        here = model.one_hot(tokens).detach()
        unknown = model.one_hot(tokens.masked_fill(tokens != PAD, N)).detach()
        way = here - unknown
        scores = torch.zeros(tokens.shape, device=here.device)
        for point, share in zip(((points + 1) / 2).tolist(), (shares / 2).tolist(), strict=True):
            gradient = _gradient(model, unknown + point * way, lengths, chosen)
            scores += share * (gradient * way).sum(dim=-1)
        scores = _mask_padding(scores, lengths)
        with torch.no_grad():
            ends = [
                explained_output(model, model.forward_embedded(x, lengths), chosen) for x in (here, unknown)
            ]
    return scores, scores.sum(dim=-1) - (ends[0] - ends[1])


@torch.no_grad()
def outputs_of_strands(
    model: SequenceModel,
    tokens: Int[Tensor, "batch length"],
    lengths: Int[Tensor, " batch"] | None,
    target: Int[Tensor, " batch"] | int,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return the explained output for the sequences as given, and for their reverse complements.

    Args:
        model: A trained model; its mode is left as it was.
        tokens: Token ids, padded on the right.
        lengths: True lengths in bases, or None when every sequence fills the batch.
        target: Class or target index, one for all sequences or one a sequence.

    Raises:
        UserError: ``target`` is not an output of the model.
    """
    chosen = target_indices(model, tokens, target)
    with evaluating(model):
        given = explained_output(model, model(tokens, lengths), chosen)
        turned = reverse_complement_tokens(tokens, lengths)
        return given, explained_output(model, model(turned, lengths), chosen)


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


def target_indices(
    model: SequenceModel, tokens: Int[Tensor, "batch length"], target: Int[Tensor, " batch"] | int
) -> Int[Tensor, " batch"]:
    """Return the class or target to explain for each sequence.

    Args:
        model: The model.
        tokens: The sequences.
        target: One index for all of them, or one a sequence.

    Raises:
        UserError: ``target`` is not an output of the model.
    """
    count = len(model.config.classes)
    given = [target] if isinstance(target, int) else target.unique().tolist()
    if not all(0 <= index < count for index in given):
        raise UserError(f"target: expected an index from 0 to {count - 1}, got {given}")
    return torch.as_tensor(target, dtype=torch.int64, device=tokens.device).expand(tokens.shape[0])


def _mask_padding(scores: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return scores
    position = torch.arange(scores.shape[1], device=scores.device)
    return scores.masked_fill(position >= lengths.to(scores.device).unsqueeze(-1), 0.0)


def _gradient(
    model: SequenceModel, weights: Tensor, lengths: Tensor | None, chosen: Tensor
) -> Float[Tensor, "batch length vocabulary"]:
    """Return the gradient of the explained outputs with respect to the weights of all tokens."""
    weights = weights.detach().requires_grad_(True)
    output = explained_output(model, model.forward_embedded(weights, lengths), chosen)
    (gradient,) = torch.autograd.grad(output.sum(), weights)
    return gradient


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def differentiating(model: nn.Module, length: int) -> Iterator[None]:
    """Record what gradients of the input need and nothing else, for a while.

    Args:
        model: Its parameters get no gradient; backbones recompute their blocks for long sequences.
        length: Bases of the longest sequence.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    keeping = [
        module
        for module in model.modules()
        if length >= RECOMPUTE_FROM
        and getattr(getattr(module, "config", None), "checkpoint_activations", True) is False
    ]
    configs = [module.config for module in keeping]
    for module in keeping:
        module.config = replace(module.config, checkpoint_activations=True)  # type: ignore[type-var]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module, config in zip(keeping, configs, strict=True):
            module.config = config
