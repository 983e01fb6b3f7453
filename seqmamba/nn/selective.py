"""The selective state space of one direction: convolution, selection, scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Complex, Float, Inexact
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.distributed import ContextGroup, selective_scan
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.discretisation import bounded_step_size
from seqmamba.nn.initialisers import initialise_delta_projection, protect, s4d_complex, s4d_real
from seqmamba.nn.norm import RMSNorm, unit_rms
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.short_convolution import convolve_causally
from seqmamba.nn.state import MambaState
from seqmamba.ops import causal_conv1d_step, selective_state_step
from seqmamba.ops.decay import decay_rate
from seqmamba.ops.selective_scan.layout import GPU_STATES

ScanOperands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""u, delta, A, B, C, D and the bias of delta, as `selective_scan` takes them.

With a bias, the scan adds it to delta and applies the softplus; without one, delta is the step size.
"""


def split_channels(
    x: Float[Tensor, "batch length channels"], parts: int | Sequence[int]
) -> tuple[Float[Tensor, "batch length dim"], ...]:
    """Split the channels into parts: views on a GPU, whose kernels walk them, else each contiguous.

    The CPU's kernels want contiguous tensors, and would copy a view once a direction in each of the forward
    and the backward pass.

    Args:
        x: A projection of several tensors at once.
        parts: The number of equal parts, or the channels of each.
    """
    views = x.chunk(parts, dim=-1) if isinstance(parts, int) else x.split(list(parts), dim=-1)
    return views if x.is_cuda else tuple(part.contiguous() for part in views)


class Selection(nn.Module):
    """What makes a scan selective: delta, B and C from the input (Gu & Dao 2023, section 3.2), and A and D.

    Parameter names and shapes are those of the published checkpoints: ``x_proj``, ``dt_proj``, ``A_log``
    (dim, state), ``D`` (dim,), and where the norms of delta, B and C are learned ``dt_layernorm``,
    ``b_layernorm`` and ``c_layernorm``. A complex state adds ``A_imag``, and doubles the channels of B and C
    in ``x_proj``: real and imaginary parts in turn, which the norms take together.

    Args:
        config: ``d_model``, ``expand``, ``d_state``, ``complex_state``, ``bc_norm*``, ``dt_*`` and
            ``scan_impl`` are read.
    """

    context: ContextGroup | None = None

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        dim, self.delta_rank, self.dt_limit = config.d_inner, config.delta_rank, config.dt_limit
        self.impl = config.scan_impl
        self.n_projected = 2 * config.d_state if config.complex_state else config.d_state
        self.x_proj = nn.Linear(dim, self.delta_rank + 2 * self.n_projected, bias=False)
        # dt_proj holds parameters under their published names; its own forward is not used.
        self.dt_proj = nn.Linear(self.delta_rank, dim)
        initialise_delta_projection(self.dt_proj, config.dt_min, config.dt_max)
        if config.complex_state:
            A_log, frequencies = s4d_complex(dim, config.d_state)
            self.A_log = protect(nn.Parameter(A_log))
            self.A_imag: nn.Parameter | None = protect(nn.Parameter(frequencies))
        else:
            self.A_log = protect(nn.Parameter(s4d_real(dim, config.d_state)))
            self.A_imag = None
        self.D = protect(nn.Parameter(torch.ones(dim)))
        self.bc_norm, self.bc_norm_eps = config.bc_norm, config.bc_norm_eps
        if self.bc_norm == "learned":
            self.dt_layernorm = RMSNorm(self.delta_rank, self.bc_norm_eps)
            self.b_layernorm = RMSNorm(self.n_projected, self.bc_norm_eps)
            self.c_layernorm = RMSNorm(self.n_projected, self.bc_norm_eps)

    def operands(
        self,
        u: Float[Tensor, "batch *length dim"],
        A: Inexact[Tensor, "dim state"] | None = None,
        rate: float = 1.0,
    ) -> ScanOperands:
        """Make the scan's operands from its input.

        Args:
            u: The scan's input, of a sequence or of one step.
            A: What to hand on as A; ``None`` makes it from the parameters.
            rate: Step sizes are multiplied by it; see `Mixer.forward`.

        Returns:
            What the scan takes, see `ScanOperands`.
        """
        low_rank, B, C = self.x_proj(u).split([self.delta_rank, self.n_projected, self.n_projected], dim=-1)
        if self.bc_norm == "rms":
            low_rank, B, C = (unit_rms(part, self.bc_norm_eps) for part in (low_rank, B, C))
        elif self.bc_norm == "learned":
            low_rank = self.dt_layernorm(low_rank, dtype=low_rank.dtype)
            B, C = self.b_layernorm(B, dtype=B.dtype), self.c_layernorm(C, dtype=C.dtype)
        if self.A_imag is not None:
            B, C = _as_complex(B), _as_complex(C)
        A = self.state_matrix(self.A_log) if A is None else A
        delta = F.linear(low_rank, self.dt_proj.weight)
        if self.dt_limit is None and rate == 1:
            # the scan adds the bias in float32, together with the softplus
            return u, delta, A, B, C, self.D, self.dt_proj.bias
        step_size = bounded_step_size(delta, self.dt_proj.bias, self.dt_limit or (0.0, math.inf))
        return u, step_size * rate, A, B, C, self.D, None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is added to the published layer, and the scan is left to `seqmamba.ops`."""
        real = self.A_imag is None and self.A_log.shape[1] <= GPU_STATES
        return real and self.bc_norm == "none" and self.dt_limit is None and self.impl == "auto"

    def state_matrix(self, A_log: Float[Tensor, "dim state"]) -> Inexact[Tensor, "dim state"]:
        """Return A with these decay rates, and the learned frequencies if it is complex.

        Args:
            A_log: Logarithms of the decay rates.
        """
        decay = decay_rate(A_log)
        return decay if self.A_imag is None else torch.complex(decay, at_least_float32(self.A_imag))


class SelectiveSSM(Selection):
    """Gu & Dao 2023, algorithm 2 and figure 3, between the input and the output projection.

    The parameters of `Selection`, and ``conv1d`` (dim, 1, width). It has no ``forward`` of its own: `Mamba`
    inherits from it, which keeps these names flat, and `BidirectionalMamba` holds one a direction.

    Args:
        config: What `Selection` reads, ``d_conv`` and ``conv_bias``.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__(config)
        dim = config.d_inner
        # Conv1d holds parameters under their published names; its own forward is not used.
        self.conv1d = nn.Conv1d(dim, dim, config.d_conv, groups=dim, bias=config.conv_bias)

    def scan(
        self,
        x: Float[Tensor, "batch length dim"],
        z: Float[Tensor, "batch length dim"],
        *,
        reverse: bool = False,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: MambaState | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], MambaState | None]:
        """Convolve, select, scan and gate.

        Args:
            x: The projected input.
            z: The gate; the output is multiplied by ``silu(z)``.
            reverse: Whether to run right to left, in place of flipping the input.
            reset: True where a new packed sequence starts.
            state: State to start from; ``None`` is zero.
            return_state: Whether to return the state after the last position.
            rate: See `Mixer.forward`.

        Returns:
            The gated output and the new float32 state (``None`` unless asked for).
        """
        one_step = x.shape[1] == 1 and reset is None and not reverse and rate == 1
        if state is not None and one_step and self.impl == "auto":
            y, state = self._step(x[:, 0], z[:, 0], state)
            return y[:, None], state if return_state else None
        conv_state, scan_state = (None, None) if state is None else state
        operands, conv_state = self.select(x, conv_state, reverse, reset, return_state, rate)
        u, delta, A, B, C, D, bias = operands
        result = selective_scan(
            u,
            delta,
            A,
            B,
            C,
            D,
            z,
            bias,
            context=self.context,
            delta_softplus=bias is not None,
            initial_state=scan_state,
            return_final_state=return_state,
            reverse=reverse,
            reset=reset,
            impl=self.impl,
        )
        if conv_state is None or isinstance(result, Tensor):
            return cast(Tensor, result), None
        y, scan_state = result
        return y, MambaState(at_least_float32(conv_state), scan_state)

    def select(
        self,
        x: Float[Tensor, "batch length dim"],
        conv_state: Tensor | None = None,
        reverse: bool = False,
        reset: Bool[Tensor, "batch length"] | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[ScanOperands, Tensor | None]:
        """Convolve, and make the scan's operands from the result.

        Args:
            x: The projected input.
            conv_state: The convolution's state to start from; ``None`` is zero.
            reverse: Whether to run right to left.
            reset: True where a new packed sequence starts.
            return_state: Whether to return the convolution's new state.
            rate: See `Mixer.forward`.

        Returns:
            What `operands` returns, and the convolution's new state (``None`` unless asked for).
        """
        u, conv_state = convolve_causally(
            self.conv1d,
            x,
            state=conv_state,
            return_state=return_state,
            reverse=reverse,
            reset=reset,
            impl=self.impl,
            rate=rate,
            context=self.context,
        )
        return self.operands(u, rate=rate), conv_state

    def _step(
        self, x: Float[Tensor, "batch dim"], z: Float[Tensor, "batch dim"], state: MambaState
    ) -> tuple[Float[Tensor, "batch dim"], MambaState]:
        """Do what `scan` does for one position, with less work around it."""
        u, conv_state = causal_conv1d_step(
            state.conv, x, self.conv1d.weight.squeeze(1), self.conv1d.bias, activation="silu"
        )
        real = self.A_imag is None
        u, delta, A, B, C, D, bias = self.operands(u, self.A_log if real else None)
        y, scan_state = selective_state_step(
            state.scan, u, delta, A, B, C, D, z, bias, delta_softplus=bias is not None, A_is_log=real
        )
        return y, MambaState(conv_state, scan_state)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> MambaState:
        """Return the zero state.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.
        """
        dim, state = self.A_log.shape
        width = self.conv1d.kernel_size[0]
        zeros = at_least_float32(self.A_log.new_zeros((), device=device))
        dtype = zeros.dtype if self.A_imag is None else zeros.dtype.to_complex()
        return MambaState(
            zeros.new_zeros(batch_size, width - 1, dim),
            zeros.new_zeros(batch_size, dim, state, dtype=dtype),
        )


def _as_complex(x: Float[Tensor, "*shape twice"]) -> Complex[Tensor, "*shape state"]:
    """Take pairs of channels as real and imaginary parts."""
    # not view_as_complex: B and C are parts of a projection, which may lie at odd offsets
    return torch.complex(*at_least_float32(x).unflatten(-1, (-1, 2)).unbind(-1))
