"""Powers of the transition, and what they make of states and read-outs.

Everything that an operator over length L needs is a product (C transition^(bT)) (transition^j B) with
l = bT + j and T about sqrt(L): two families of sqrt(L) vectors, each grown by doubling, and one matrix
product. Nothing of size L x state exists, for dense transitions no more than for diagonal ones.

S4 gets the kernel of a diagonal less a rank one from a generating function, truncated by transition^L, at
the roots of unity (section 3.2 and appendix C.3): as many operations, but one by one in place of a matrix
product, and for the bilinear transform only. Here powers serve every system. They cannot grow: the norm of a
transition is at most one. The last product is float32 for float32 inputs, or tf32 if PyTorch is told so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.ops.lti.discretisation import LtiSystem
from seqmamba.ops.lti.real_view import accurate_dtype, as_complex, as_real, as_row
from seqmamba.ops.selective_scan.reference import widen


class Powers:
    """Powers of a transition by repeated squaring in float64.

    A power of 10^6 has an error of about 1e-10 in phase. States are advanced in their own dtype by powers
    that are rounded once.

    Args:
        system: The discrete system.
    """

    def __init__(self, system: LtiSystem) -> None:
        transition, wide = system.transition, accurate_dtype(system.drive.device)
        self.diagonal = transition.is_complex()
        self.drive = as_real(widen(system.drive, wide))[:, None]
        self._squares = [widen(transition, wide)]

    def advance(self, x: Tensor, steps: int, *, transposed: bool = False) -> Tensor:
        """Multiply real vectors (dim, rows, 2 state) by transition^steps.

        Args:
            x: Interleaved states, or with `transposed` rows that read states out.
            steps: Power, at least 0.
            transposed: Multiply from the left, as for a row.
        """
        for bit in range(steps.bit_length()):
            if steps >> bit & 1:
                x = self._multiply(x, widen(self._square(bit), x.dtype), transposed)
        return x

    def grow(self, x: Tensor, count: int, stride: int = 1, *, transposed: bool = False) -> Tensor:
        """Return x, transition^stride x, ..., transition^(stride (count - 1)) x by doubling.

        Args:
            x: As `advance` takes it.
            count: How many.
            stride: Steps between them.
            transposed: As `advance` takes it.

        Returns:
            (dim, count, rows, 2 state).
        """
        grown = x[:, None]
        while grown.shape[1] < count:
            have = grown.shape[1]
            new = grown[:, : count - have]
            advanced = self.advance(new.flatten(1, 2), stride * have, transposed=transposed)
            grown = torch.cat((grown, advanced.view(new.shape)), dim=1)
        return grown

    def inputs(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return transition^j drive for j < count, (dim, count, 2 state): what an input j steps ago left."""
        return self.grow(self.drive, count).squeeze(2).to(dtype)

    def outputs(
        self, C: Tensor, count: int, dtype: torch.dtype, *, first: int = 0, stride: int = 1
    ) -> Tensor:
        """Return the rows C transition^(first + stride b) for b < count.

        Args:
            C: Complex (directions, dim, state).
            count: How many powers.
            dtype: Real dtype of the result.
            first: The first power.
            stride: Steps between powers.

        Returns:
            (dim, count, directions, 2 state).
        """
        rows = as_row(C).to(self.drive.dtype).transpose(0, 1)
        rows = self.advance(rows, first, transposed=True)
        return self.grow(rows, count, stride, transposed=True).to(dtype)

    def _square(self, exponent: int) -> Tensor:
        """transition^(2^exponent)."""
        while len(self._squares) <= exponent:
            last = self._squares[-1]
            self._squares.append(last * last if self.diagonal else last @ last)
        return self._squares[exponent]

    def _multiply(self, x: Tensor, power: Tensor, transposed: bool) -> Tensor:
        if not self.diagonal:
            return x @ (power if transposed else power.mT)
        # a row holds the conjugate of what it multiplies by: see `as_row`
        return as_real(as_complex(x) * (power.conj() if transposed else power)[:, None])


def block_length(length: int) -> int:
    """The power of two next to the square root: the two families of vectors are then of about equal size."""
    return 1 << ((length - 1).bit_length() + 1) // 2


def kernel(powers: Powers, C: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """The first `length` terms of the convolution's kernel, K_l = 2 Re(C transition^l drive).

    S4, equation 5, truncated exactly at `length`.

    Args:
        powers: Of the system.
        C: Complex (directions, dim, state).
        length: Terms.
        dtype: Real dtype of the result.

    Returns:
        (directions, dim, length).
    """
    width = block_length(length)
    blocks = -(-length // width)
    columns = powers.inputs(width, dtype)
    rows = powers.outputs(C, blocks, dtype, stride=width).transpose(1, 2).flatten(1, 2)
    products = rows @ columns.mT  # (dim, directions blocks, width)
    return products.view(len(columns), len(C), -1).transpose(0, 1)[..., :length]
