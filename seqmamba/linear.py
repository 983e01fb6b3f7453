"""Logistic and ridge regression, the measuring stick under every larger model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_PENALTIES = (1.0, 0.1, 0.01, 0.001)
_STEPS = 60


@dataclass(frozen=True)
class LinearModel:
    """A linear map of standardised features.

    Args:
        mean: Mean of each feature over the training set, (features,).
        scale: Reciprocal standard deviation, 0 for a constant feature, (features,).
        weight: Weights, (features, outputs).
        bias: Intercepts, (outputs,).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __call__(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n outputs"]:
        """Return logits or predicted targets."""
        # The standardisation is folded into the weights, so no copy of the features is made.
        weight = self.scale[:, None] * self.weight
        return features @ weight + (self.bias - self.mean @ weight)


def output_loss(outputs: Float[Tensor, "n k"], labels: Tensor, task: str) -> Tensor:
    """Return the mean loss of a task: cross entropy, binary cross entropy or squared error.

    Args:
        outputs: Logits or predicted targets.
        labels: int64 class numbers (n,), or float32 labels or targets (n, k).
        task: ``classification``, ``multilabel`` or ``regression``.
    """
    if task == "classification":
        return F.cross_entropy(outputs, labels)
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(outputs, labels)
    return F.mse_loss(outputs, labels)


def fit_linear(
    features: Float[Tensor, "n features"],
    labels: Tensor,
    validation: tuple[Float[Tensor, "m features"], Tensor],
    task: str,
    outputs: int,
) -> LinearModel:
    """Fit with the ridge penalty that does best on the validation set.

    Penalties are tried from strong to weak, each starting from the last solution, until the validation loss
    rises. The optimiser is L-BFGS, so that the result depends on the data alone.

    Args:
        features: Training features, float32.
        labels: Training labels as for `output_loss`; regression targets should be standardised.
        validation: Features and labels that decide on the penalty.
        task: ``classification``, ``multilabel`` or ``regression``.
        outputs: Number of classes, labels or targets.
    """
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    scale = torch.where(deviation > 1e-8, 1 / deviation.clamp_min(1e-8), 0.0)
    weight = torch.zeros(features.shape[1], outputs)
    bias = torch.zeros(outputs)
    best: LinearModel | None = None
    best_loss = float("inf")
    for penalty in _PENALTIES:
        model = _descend(
            LinearModel(mean, scale, weight.clone(), bias.clone()), features, labels, task, penalty
        )
        loss = float(output_loss(model(validation[0]), validation[1], task))
        if best is not None and loss >= best_loss:
            break
        best, best_loss = model, loss
        weight, bias = model.weight, model.bias
    assert best is not None
    return best


def _descend(model: LinearModel, features: Tensor, labels: Tensor, task: str, penalty: float) -> LinearModel:
    weight, bias = model.weight.requires_grad_(), model.bias.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_STEPS,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = output_loss(model(features), labels, task) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return LinearModel(model.mean, model.scale, weight.detach(), bias.detach())
