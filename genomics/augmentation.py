"""Random changes of training sequences that leave their labels as they are, or mix them.

Sequences vary between individuals and species, and a site may lie a little to one side: models that saw such
changes overfit less (EvoAug: Lee et al. 2023, doi:10.1186/s13059-023-02941-w). Mixup trains on weighted means
of two examples (Zhang et al. 2018, arXiv:1710.09412).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Beta

from genomics.alphabet import A, T
from seqmamba.nn.options import is_number, require, require_whole
from seqmamba.nn.packing import length_mask

_N_BASES = T - A + 1


@dataclass(frozen=True)
class AugmentationConfig:
    """How training sequences are changed; validation and test see them as they are.

    Args:
        mutate: Share of the bases that are replaced by a random one, which may be the same.
        shift: Each sequence is moved by up to this many bases to either side; what leaves it at one end comes
            back at the other, so that its composition stays. Not for aligned sequences.
        mixup: Parameter of the beta distribution Beta(mixup, mixup) that the weight of the other example is
            drawn from, one for each pair; 0 mixes nothing.

    Raises:
        UserError: If a value is out of range.
    """

    mutate: float = 0.0
    shift: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        good = is_number(self.mutate) and 0 <= self.mutate <= 1
        require(good, "augmentation.mutate", "a number in [0, 1]", self.mutate)
        require_whole("augmentation.shift", self.shift, 0)
        good = is_number(self.mixup) and self.mixup >= 0
        require(good, "augmentation.mixup", "a number of 0 or more", self.mixup)


def augment(
    tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None, config: AugmentationConfig
) -> Int[Tensor, "batch length"]:
    """Shift and mutate a batch, each sequence by its own draws from torch's generator.

    Args:
        tokens: Ids of `genomics.alphabet`, padded on the right. Padding stays as it is.
        lengths: True lengths, or None.
        config: How.
    """
    if config.shift:
        tokens = _shifted(tokens, lengths, config.shift)
    if config.mutate:
        chosen = torch.rand(tokens.shape, device=tokens.device) < config.mutate
        if lengths is not None:
            chosen &= length_mask(lengths, tokens.shape[1])
        random = torch.randint_like(tokens, _N_BASES) + A
        tokens = torch.where(chosen, random, tokens)
    return tokens


def _shifted(tokens: Tensor, lengths: Tensor | None, shift: int) -> Tensor:
    batch, length = tokens.shape
    by = torch.randint(-shift, shift + 1, (batch, 1), device=tokens.device)
    place = torch.arange(length, device=tokens.device).expand(batch, length)
    if lengths is None:
        return tokens.gather(1, (place - by) % length)
    true = lengths.unsqueeze(1)
    return tokens.gather(1, torch.where(place < true, (place - by) % true, place))


def mix(
    one_hot: Float[Tensor, "batch length vocabulary"],
    lengths: Int[Tensor, " batch"] | None,
    targets: Float[Tensor, "batch outputs"],
    mixup: float,
) -> tuple[
    Float[Tensor, "batch length vocabulary"], Int[Tensor, " batch"] | None, Float[Tensor, "batch outputs"]
]:
    """Mix each example of a batch with another one of it.

    Args:
        one_hot: Token weights.
        lengths: True lengths, or None. A mixed sequence is as long as the longer of the two.
        targets: Probabilities of classes, labels, or targets.
        mixup: See `AugmentationConfig`, above 0.

    Returns:
        Mixed token weights, lengths and targets. The example's own weight is a half or more.
    """
    batch, device = len(one_hot), one_hot.device
    partners = torch.randperm(batch, device=device)
    concentration = torch.full((batch,), mixup, device=device)
    weights = Beta(concentration, concentration, validate_args=False).sample()
    weights = torch.minimum(weights, 1 - weights)
    mixed = torch.lerp(one_hot, one_hot[partners], weights[:, None, None])
    if lengths is not None:
        lengths = torch.maximum(lengths, lengths[partners])
    return mixed, lengths, torch.lerp(targets, targets[partners], weights[:, None])
