"""The convolution mode: one product of Fourier transforms (S4, section 2.4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.lti.discretisation import LtiSystem
from seqmamba.ops.lti.powers import Powers, kernel
from seqmamba.ops.lti.states import Directions, run_with_states

# Lengths m 2^k have fast transforms everywhere: no factor but 2, 3 and 5; the largest step is a quarter.
_FAST_FACTORS = (8, 9, 10, 12, 15)


def fast_length(at_least: int) -> int:
    """The smallest length of a fast transform that is not below `at_least`."""
    exponent = max(0, (at_least - 1).bit_length() - 4)
    return next(
        size
        for size in (factor << k for k in (exponent, exponent + 1) for factor in _FAST_FACTORS)
        if size >= at_least
    )


def lti_fft(
    u: Tensor,
    system: LtiSystem,
    C: Tensor,
    initial_state: Tensor | None,
    reset: Tensor | None,
    directions: Directions,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Compute what `lti_reference` does: a convolution, and the states at both ends by blocks."""
    powers = Powers(system)

    def convolution(longest: int) -> Convolution:
        return Convolution(kernel(powers, C, longest, u.dtype), directions)

    return run_with_states(convolution, powers, u, C, initial_state, reset, directions, return_final_state)


class Convolution:
    """Convolves along the sequence by a kernel that is as long as the longest sequence.

    Args:
        K: (directions, dim, longest length).
        directions: What each of the kernels is for.
    """

    def __init__(self, K: Tensor, directions: Directions) -> None:
        self.K, self.directions = K, directions

    def __call__(self, u: Tensor) -> Tensor:
        """Convolve (batch, length, dim): one transform there and one back, in both directions at once."""
        return _CircularConvolution.apply(u.mT, self.K[..., : u.shape[1]], self.directions).mT


class _CircularConvolution(torch.autograd.Function):
    """The convolution of (batch, dim, length) with its own gradient.

    That of the transforms in PyTorch goes through complex ones of twice the size and saves spectra of twice
    the memory of the input; this one saves the input and the kernel. It can be differentiated again.
    """

    @staticmethod
    def forward(u: Tensor, K: Tensor, directions: Directions) -> Tensor:
        length = u.shape[-1]
        size = fast_length(2 * length - 1)
        spectrum = torch.fft.rfft(u, size) * _kernel_spectrum(K, size, directions)
        return torch.fft.irfft(spectrum, size)[..., :length]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Directions], output: Tensor) -> None:
        u, K, ctx.directions = inputs
        ctx.save_for_backward(u, K)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        u, K = ctx.saved_tensors
        length, directions = u.shape[-1], ctx.directions
        size = fast_length(2 * length - 1)
        spectrum = torch.fft.rfft(gradient, size)
        grad_u = grad_K = None
        if ctx.needs_input_grad[0]:
            back = spectrum * _kernel_spectrum(K, size, directions).conj()
            grad_u = torch.fft.irfft(back, size)[..., :length]
        if ctx.needs_input_grad[1]:
            lags = (spectrum * torch.fft.rfft(u, size).conj()).sum(0)
            ways = {"forward": (lags,), "reverse": (lags.conj(),), "both": (lags, lags.conj())}[directions]
            grad_K = torch.fft.irfft(torch.stack(ways), size)[..., :length]
        return grad_u, grad_K, None


def _kernel_spectrum(K: Tensor, size: int, directions: Directions) -> Tensor:
    """The spectrum (dim, frequencies) of all kernels on one circle.

    A conjugate spectrum is that of the kernel run backwards around the circle: lag -l sits at size - l.
    """
    spectra = torch.fft.rfft(K, size)
    if directions == "forward":
        return spectra[0]
    if directions == "reverse":
        return spectra[0].conj()
    return spectra[0] + spectra[1].conj()
