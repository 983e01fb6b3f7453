"""The selective scan of Mamba (Gu and Dao 2023, https://arxiv.org/abs/2312.00752, Algorithm 2).

Legend of the symbols, as in the paper: u input, delta step size, A state matrix (diagonal), B input
projection, C output projection, D skip, z gate, h state.
"""

from seqmamba.ops.selective_scan.api import selective_scan
from seqmamba.ops.selective_scan.step import selective_state_step

__all__ = ["selective_scan", "selective_state_step"]
