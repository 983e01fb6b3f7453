"""Drawing one token a row from logits: the likeliest, or a sample at a temperature."""

from seqmamba.ops.draw.api import draw
from seqmamba.ops.draw.reference import Draws, first_exceeding

__all__ = ["Draws", "draw", "first_exceeding"]
