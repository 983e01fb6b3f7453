"""Heads for any backbone: a class for every base, values for every bin of bases, what an allele changes.

A head sees the hidden states (batch, length, channels) of a `Backbone` or `MultiScaleBackbone`. The pooled
head of a whole sequence is that of `genomics.models.SequenceModel`.

A loss over a million positions is taken slice by slice. Each slice's logits are computed again in the
backward pass, so no more than one slice of them exists at a time; value and gradients are those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from genomics.gene_labels import UNKNOWN
from seqmamba.errors import UserError
from seqmamba.nn.options import require, require_choice, require_whole
from seqmamba.nn.precision import at_least_float32

SLICE = 65_536
"""Positions whose logits exist at a time."""

TrackLoss = Literal["poisson", "mse"]
_SMALLEST_RATE = 1e-8


def sum_of_slices(function: Callable[..., Tensor], *rows: Tensor, size: int = SLICE) -> Tensor:
    """Add up what a function makes of slices of positions, without keeping what it computes on the way.

    Args:
        function: Takes a slice of each of `rows` and returns a tensor of one shape.
        rows: Tensors (batch, length, ...) of one length.
        size: Positions of a slice.

    Raises:
        UserError: If the size is not positive.
    """
    require_whole("size", size)
    total: Tensor | None = None
    # split, not slices: its backward pass writes one gradient of the whole, not one for each slice
    for parts in zip(*(row.split(size, dim=1) for row in rows), strict=True):
        if torch.is_grad_enabled():
            value = checkpoint(function, *parts, use_reentrant=False)
        else:
            value = function(*parts)
        total = value if total is None else total + value
    assert total is not None
    return total


class SegmentationHead(nn.Module):
    """One class of several for every position: a linear layer, told about both strands if they are there.

    Args:
        d_model: Channels of the hidden states.
        complement: For every class, the class of the same base when the other strand is read; see
            `LabelScheme.complement`.
    """

    complement: Tensor

    def __init__(self, d_model: int, complement: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, len(complement))
        self.register_buffer("complement", torch.tensor(complement), persistent=False)

    def forward(
        self,
        hidden: Float[Tensor, "batch length dim"],
        other: Float[Tensor, "batch length dim"] | None = None,
    ) -> Float[Tensor, "batch length classes"]:
        """Score the classes, float32.

        Args:
            hidden: Hidden states of the strand as given.
            other: Those of the other strand, laid along the given one (`mirror`). The scores are then the
                mean of both strands', classes swapped, so that exchanging the strands swaps the scores.
        """
        logits = at_least_float32(self.linear(hidden))
        if other is None:
            return logits
        return (logits + at_least_float32(self.linear(other))[..., self.complement]) / 2

    def loss(
        self,
        labels: Int[Tensor, "batch length"],
        hidden: Float[Tensor, "batch length dim"],
        other: Float[Tensor, "batch length dim"] | None = None,
        *,
        class_weights: Float[Tensor, " classes"] | None = None,
        size: int = SLICE,
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the labelled positions; 0 without any.

        Args:
            labels: Class numbers; positions that are `UNKNOWN` do not count.
            hidden: See `forward`.
            other: See `forward`.
            class_weights: Weight of a position of each class in the mean.
            size: Positions whose logits exist at a time.

        Raises:
            UserError: If the shapes do not fit.
        """
        if labels.shape != hidden.shape[:2]:
            raise UserError(f"labels: expected {tuple(hidden.shape[:2])}, got {tuple(labels.shape)}")

        def of_slice(labels: Tensor, *strands: Tensor) -> Tensor:
            logits, classes = self(*strands).flatten(0, 1), labels.flatten().long()
            total = F.cross_entropy(logits, classes, class_weights, ignore_index=UNKNOWN, reduction="sum")
            known = classes != UNKNOWN
            weights = known.sum() if class_weights is None else (class_weights[classes] * known).sum()
            return torch.stack((total, weights.to(total.dtype)))

        strands = (hidden,) if other is None else (hidden, other)
        total, weight = sum_of_slices(of_slice, labels, *strands, size=size)
        return total / weight.clamp_min(torch.finfo(weight.dtype).tiny)


class TrackHead(nn.Module):
    """Values for every bin of positions, such as coverage: the mean hidden state of a bin, a linear layer.

    Args:
        d_model: Channels of the hidden states.
        targets: Number of values of a bin.
        bin_size: Positions of a bin; 1 gives values of every base.
        loss: ``poisson``: values are rates, kept positive by a softplus, and the loss is the Poisson negative
            log-likelihood up to a constant, as in Basenji (Kelley et al. 2018, doi:10.1101/gr.227819.117).
            ``mse``: any values, squared error.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(self, d_model: int, targets: int, bin_size: int = 1, loss: TrackLoss = "poisson") -> None:
        super().__init__()
        require_whole("targets", targets)
        require_whole("bin_size", bin_size)
        require_choice("loss", loss, ("poisson", "mse"))
        self.bin_size = bin_size
        self.kind = loss
        self.linear = nn.Linear(d_model, targets)

    def forward(
        self,
        hidden: Float[Tensor, "batch length dim"],
        other: Float[Tensor, "batch length dim"] | None = None,
    ) -> Float[Tensor, "batch bins targets"]:
        """Return the values, float32: rates for ``poisson``.

        Args:
            hidden: Hidden states; a whole number of bins.
            other: Those of the other strand, laid along the given one; the values are then the mean.

        Raises:
            UserError: If the length is no whole number of bins.
        """
        bins, left = divmod(hidden.shape[1], self.bin_size)
        require(left == 0, "hidden", f"a whole number of bins of {self.bin_size} positions", hidden.shape[1])
        values = at_least_float32(self.linear(hidden.unflatten(1, (bins, self.bin_size)).mean(dim=2)))
        if self.kind == "poisson":
            values = F.softplus(values)
        return values if other is None else (values + self(other)) / 2

    def loss(
        self,
        targets: Float[Tensor, "batch bins targets"],
        hidden: Float[Tensor, "batch length dim"],
        other: Float[Tensor, "batch length dim"] | None = None,
        *,
        size: int = SLICE,
    ) -> Float[Tensor, ""]:
        """Return the mean loss over the values that are there; 0 without any.

        Args:
            targets: True values; NaN where there is none. Counts or rates for ``poisson``.
            hidden: See `forward`.
            other: See `forward`.
            size: Positions whose values exist at a time; rounded to whole bins.

        Raises:
            UserError: If the shapes do not fit.
        """
        expected = (len(hidden), hidden.shape[1] // self.bin_size, self.linear.out_features)
        require(targets.shape == expected, "targets", f"shape {expected}", tuple(targets.shape))

        def of_slice(targets: Tensor, *strands: Tensor) -> Tensor:
            return self.sum_of_losses(self(*(strand.flatten(1, 2) for strand in strands)), targets)

        strands = (hidden,) if other is None else (hidden, other)
        bins = [strand.unflatten(1, (-1, self.bin_size)) for strand in strands]
        total, count = sum_of_slices(of_slice, targets, *bins, size=max(1, size // self.bin_size))
        return total / count.clamp_min(1)

    def sum_of_losses(
        self, values: Float[Tensor, "batch bins targets"], targets: Float[Tensor, "batch bins targets"]
    ) -> Float[Tensor, 2]:
        """Return the sum of the losses of values that were computed, and how many are known.

        Args:
            values: What `forward` returned.
            targets: See `loss`.
        """
        known = targets.isfinite()
        truth = targets.to(values.dtype).masked_fill(~known, 0)
        if self.kind == "poisson":
            losses = values - truth * values.clamp_min(_SMALLEST_RATE).log()
        else:
            losses = (values - truth) ** 2
        return torch.stack((losses.masked_fill(~known, 0).sum(), known.sum().to(losses.dtype)))


class PairedAlleleHead(nn.Module):
    """What an allele changes: a linear layer on the difference of two sequences' features.

    Args:
        features: Features of one sequence.
        targets: Number of values.
        signed: Whether exchanging the alleles changes the sign of the result, as for an effect with a
            direction; equal alleles then give exactly zero. Otherwise the layer sees how far each feature
            moves, with a bias, and exchanging the alleles changes nothing, as for being harmful or not.
    """

    scale: Tensor

    def __init__(self, features: int, targets: int, signed: bool = True) -> None:
        super().__init__()
        self.signed = signed
        self.linear = nn.Linear(features, targets, bias=not signed)
        self.register_buffer("scale", torch.ones(targets))

    def forward(
        self, reference: Float[Tensor, "batch features"], alternative: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch targets"]:
        """Return the effect of replacing the reference by the alternative allele, float32.

        Args:
            reference: Features of the sequences with the reference allele.
            alternative: Those with the alternative allele.
        """
        moved = alternative - reference
        return at_least_float32(self.linear(moved if self.signed else moved.abs())) * self.scale
