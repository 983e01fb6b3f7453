"""Complex half-states as real vectors.

States come in conjugate pairs of which one half is stored: x stands for (x, conj x). What is linear over the
reals in x, such as 2 Re(C . x) or the product with a low-rank matrix that mixes x with its conjugate, becomes
a real matrix on the interleaved vector (Re x_0, Im x_0, Re x_1, ...): the same memory read as real.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accurate_dtype(device: torch.device) -> torch.dtype:
    """The real dtype for powers and exponentials of matrices, whose errors grow with the length."""
    return torch.float32 if device.type == "mps" else torch.float64  # the former has no float64


def as_real(x: Tensor) -> Tensor:
    """Read complex (..., state) as real (..., 2 state)."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def as_complex(x: Tensor) -> Tensor:
    """Read real (..., 2 state) as complex (..., state)."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def as_row(C: Tensor) -> Tensor:
    """The real row whose product with ``as_real(x)`` is 2 Re(C . x): S4D, section 3.3."""
    return as_real(2 * C.conj())


def diagonal_matrix(a: Tensor) -> Tensor:
    """The real matrix (..., 2 state, 2 state) of the product with a complex diagonal (..., state)."""
    column = torch.diag_embed(a)
    columns = torch.stack((column, 1j * column), dim=-1)  # images of the real and the imaginary unit
    return torch.view_as_real(columns).movedim(-1, -3).flatten(-2).flatten(-3, -2)
