"""Hiding bases for masked pretraining (BERT: Devlin et al. 2019, arXiv:1810.04805, section 3.1).

Of the known bases 15 % are chosen, and the model is asked for these. 80 % of the chosen ones are replaced by
the mask, 10 % by a random base out of A, C, G and T (which may be the same), 10 % stay. N, padding and
special tokens are never chosen, and none but the mask is ever put anywhere. The published Caduceus code
draws the random token from its whole vocabulary, special tokens included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from genomics.alphabet import MASK, A, T
from seqmamba.errors import UserError
from seqmamba.inference.philox import uniforms
from seqmamba.nn.options import is_number, require

_STREAM = 1  # of random numbers; another one than the strands'
_N_BASES = 4


@dataclass(frozen=True)
class MaskingConfig:
    """How much is hidden, and how.

    Args:
        rate: Share of the known bases that are chosen.
        hide: Share of the chosen bases that are replaced by the mask.
        replace: Share of the chosen bases that are replaced by a random base. The rest stays.

    Raises:
        UserError: If a share is out of range.
    """

    rate: float = 0.15
    hide: float = 0.8
    replace: float = 0.1

    def __post_init__(self) -> None:
        good = is_number(self.rate) and 0 < self.rate <= 1
        require(good, "masking.rate", "a number above 0, 1 at most", self.rate)
        for name in ("hide", "replace"):
            value = getattr(self, name)
            require(is_number(value) and 0 <= value <= 1, f"masking.{name}", "a number in [0, 1]", value)
        if self.hide + self.replace > 1 + 1e-9:
            raise UserError(
                f"masking: expected hide and replace to sum to 1 at most, got {self.hide} and {self.replace}"
            )


class Masked(NamedTuple):
    """A batch with hidden bases: what the model sees, and for which positions it is asked."""

    tokens: Tensor
    chosen: Tensor


def known_bases(tokens: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return where A, C, G or T stands.

    Args:
        tokens: Ids of `genomics.alphabet`.
    """
    return (tokens >= A) & (tokens <= T)


def mask_bases(
    tokens: Int[Tensor, "batch length"],
    keys: Int[Tensor, " batch"],
    config: MaskingConfig,
    first: int = 0,
) -> Masked:
    """Hide bases; what is hidden depends on the key of a row and on the position, whatever the device.

    Args:
        tokens: Ids of `genomics.alphabet`.
        keys: A number for every row.
        config: How much to hide.
        first: Position of the first token in its window.

    Returns:
        New tokens of the same dtype, and the chosen positions.
    """
    positions = torch.arange(first, first + tokens.shape[1], device=tokens.device).expand(tokens.shape)
    drawn = uniforms(_STREAM, keys, positions)
    chosen = (drawn < config.rate) & known_bases(tokens)
    action = drawn / config.rate  # of the chosen ones: uniform in [0, 1) again
    hidden = chosen & (action < config.hide)
    replaced = chosen & ~hidden & (action < config.hide + config.replace)
    letter = (action - config.hide) / max(config.replace, 1e-9) * _N_BASES
    random_base = A + letter.clamp(0, _N_BASES - 1).floor().to(tokens.dtype)
    result = torch.where(replaced, random_base, tokens)
    return Masked(result.masked_fill(hidden, MASK), chosen)
