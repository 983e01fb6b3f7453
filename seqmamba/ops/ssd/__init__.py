"""The state space dual form of Mamba-2 (Dao and Gu 2024, https://arxiv.org/abs/2405.21060).

Legend of the symbols, as in the paper: x input, delta step size, A decay rate (a scalar for each head), B
input projection, C output projection, D skip, z gate, h state.
"""

from seqmamba.ops.ssd.api import ssd
from seqmamba.ops.ssd.step import ssd_state_step

__all__ = ["ssd", "ssd_state_step"]
