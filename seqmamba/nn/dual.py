"""The state space dual layer of one direction: convolution, scan by heads, gated norm."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.distributed import ContextGroup, ssd
from seqmamba.errors import UserError
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.discretisation import bounded_step_size
from seqmamba.nn.initialisers import log_of_uniform_decay, log_uniform_delta_bias, protect
from seqmamba.nn.norm import RMSNorm
from seqmamba.nn.options import require
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.short_convolution import convolve_causally
from seqmamba.nn.state import Mamba2State
from seqmamba.ops import causal_conv1d_step, ssd_state_step
from seqmamba.ops.decay import decay_rate

SsdOperands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""x, delta, A, B, C, D, z and the bias of delta, as `ssd` takes them; without bias delta is the step size."""


class StateSpaceDual(nn.Module):
    """Dao & Gu 2024, section 7.1 and figure 6 (right), between the input and the output projection.

    Parameter names and shapes are those of the published checkpoints: ``conv1d`` (channels, 1, width) over x,
    B and C side by side, ``dt_bias``, ``A_log`` and ``D`` (heads,), ``norm.weight`` (dim,). The norm comes
    behind the gate: ``rms(y * silu(z)) * weight``, each of ``mamba2.norm_groups`` runs of channels by itself.
    It has no ``forward`` of its own: `Mamba2` inherits from it, which keeps these names flat, and
    `BidirectionalMamba2` holds one a direction.

    Args:
        config: ``mamba2``, ``d_model``, ``expand``, ``d_conv``, ``conv_bias``, ``dt_min``, ``dt_max`` and
            ``scan_impl`` are read.

    Raises:
        UserError: If the sizes do not divide each other, or ``scan_impl`` is none of this layer's.
    """

    context: ContextGroup | None = None

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        dim, options = config.d_inner, config.mamba2
        _check(config)
        self.impl, self.options = config.scan_impl, options
        self.dim, self.heads = dim, dim // options.head_dim
        channels = dim + 2 * options.n_groups * options.d_state
        self.projected = (dim, channels, self.heads)
        # Conv1d holds parameters under their published names; its own forward is not used.
        self.conv1d = nn.Conv1d(channels, channels, config.d_conv, groups=channels, bias=config.conv_bias)
        self.dt_bias = protect(nn.Parameter(log_uniform_delta_bias(self.heads, config.dt_min, config.dt_max)))
        self.A_log = protect(nn.Parameter(log_of_uniform_decay(self.heads, options.A_min, options.A_max)))
        self.D = protect(nn.Parameter(torch.ones(self.heads)))
        self.norm = RMSNorm(dim, options.norm_eps, options.norm_groups or options.n_groups)

    def scan(
        self,
        z: Float[Tensor, "batch length dim"],
        inner: Float[Tensor, "batch length channels"],
        delta: Float[Tensor, "batch length heads"],
        *,
        reverse: bool = False,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: Mamba2State | None = None,
        return_state: bool = False,
    ) -> tuple[Float[Tensor, "batch length dim"], Mamba2State | None]:
        """Convolve, scan, gate and normalise the three parts of a projection, of ``projected`` channels each.

        Args:
            z: The gate.
            inner: x, B and C side by side, before the convolution.
            delta: Step size before its bias and softplus.
            reverse: Whether to run right to left, in place of flipping the input.
            reset: True where a new packed sequence starts.
            state: State to start from; ``None`` is zero.
            return_state: Whether to return the state after the last position.

        Returns:
            The normalised output and the new float32 state (``None`` unless asked for).
        """
        if state is not None and z.shape[1] == 1 and reset is None and not reverse and self.impl == "auto":
            y, state = self._step(z[:, 0], inner[:, 0], delta[:, 0], state)
            return y[:, None], state if return_state else None
        conv_state, scan_state = (None, None) if state is None else state
        inner, conv_state = convolve_causally(
            self.conv1d,
            inner,
            state=conv_state,
            return_state=return_state,
            reverse=reverse,
            reset=reset,
            impl=self.impl,
            context=self.context,
        )
        result = ssd(
            *self._operands(decay_rate(self.A_log), z, inner, delta),
            context=self.context,
            delta_softplus=self.options.dt_limit is None,
            chunk_size=self.options.chunk_size,
            initial_state=scan_state,
            return_final_state=return_state,
            reverse=reverse,
            reset=reset,
            impl=self.impl,
        )
        if conv_state is None or isinstance(result, Tensor):
            return self._normalise(cast(Tensor, result)), None
        y, scan_state = result
        return self._normalise(y), Mamba2State(at_least_float32(conv_state), scan_state)

    def _step(
        self, z: Tensor, inner: Tensor, delta: Tensor, state: Mamba2State
    ) -> tuple[Float[Tensor, "batch dim"], Mamba2State]:
        """Do what `scan` does for one position, with less work around it."""
        inner, conv_state = causal_conv1d_step(
            state.conv, inner, self.conv1d.weight.squeeze(1), self.conv1d.bias, activation="silu"
        )
        operands = self._operands(self.A_log, z, inner, delta)
        softplus = self.options.dt_limit is None
        y, scan_state = ssd_state_step(state.scan, *operands, delta_softplus=softplus, A_is_log=True)
        return self._normalise(y), Mamba2State(conv_state, scan_state)

    def _operands(self, A: Tensor, z: Tensor, inner: Tensor, delta: Tensor) -> SsdOperands:
        """Make the operands of the scan, for a sequence or for one step."""
        options = self.options
        projections = options.n_groups * options.d_state
        x, B, C = inner.split([self.dim, projections, projections], dim=-1)
        bias: Tensor | None = self.dt_bias
        if options.dt_limit is not None:
            delta, bias = bounded_step_size(delta, self.dt_bias, options.dt_limit), None
        x, z = (part.unflatten(-1, (self.heads, options.head_dim)) for part in (x, z))
        B, C = (part.unflatten(-1, (options.n_groups, options.d_state)) for part in (B, C))
        return x, delta, A, B, C, self.D, z, bias

    def _normalise(self, y: Float[Tensor, "batch *length heads head_dim"]) -> Tensor:
        return self.norm(y.flatten(-2), dtype=y.dtype)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> Mamba2State:
        """Return the zero state.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.
        """
        zeros = at_least_float32(self.A_log.new_zeros((), device=device))
        past, channels = self.conv1d.kernel_size[0] - 1, self.conv1d.in_channels
        head = (self.heads, self.options.head_dim, self.options.d_state)
        return Mamba2State(zeros.new_zeros(batch_size, past, channels), zeros.new_zeros(batch_size, *head))


def _check(config: MixerConfig) -> None:
    """Require sizes that divide each other, and an implementation that this layer has."""
    dim, options = config.d_inner, config.mamba2
    inner = f"a divisor of expand * d_model = {dim}"
    require(dim % options.head_dim == 0, "mamba2.head_dim", inner, options.head_dim)
    heads = dim // options.head_dim
    groups, norm_groups = options.n_groups, options.norm_groups or options.n_groups
    require(heads % groups == 0, "mamba2.n_groups", f"a divisor of the {heads} heads", groups)
    require(dim % norm_groups == 0, "mamba2.norm_groups", inner, norm_groups)
    if config.scan_impl == "numba":
        raise UserError(
            "scan_impl: mixer mamba2 offers auto, chunked, reference, got 'numba'",
            hint="auto runs the other mixers of a hybrid on numba where it can",
        )
