"""The selective state space of one direction: convolution, selection, scan."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.nn.config import MixerConfig
from seqmamba.nn.initialisers import initialise_delta_projection, protect, s4d_real
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.state import MambaState
from seqmamba.ops import causal_conv1d, selective_scan


def split_channels(
    x: Float[Tensor, "batch length channels"], parts: int
) -> tuple[Float[Tensor, "batch length dim"], ...]:
    """Split the channels into equal parts: views on a GPU, whose kernels walk them, else each contiguous.

    The CPU's kernels want contiguous tensors, and would copy a view once a direction in each of the forward
    and the backward pass.

    Args:
        x: A projection of several tensors at once.
        parts: Their number.
    """
    views = x.chunk(parts, dim=-1)
    return views if x.is_cuda else tuple(part.contiguous() for part in views)


class Selection(nn.Module):
    """What makes a scan selective: delta, B and C from the input (Gu & Dao 2023, section 3.2), and A and D.

    Parameter names and shapes are those of the published checkpoints: ``x_proj``, ``dt_proj``, ``A_log``
    (dim, state), ``D`` (dim,).

    Args:
        config: ``d_model``, ``expand``, ``d_state``, ``dt_*`` and ``scan_impl`` are read.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        dim, self.d_state, self.delta_rank = config.d_inner, config.d_state, config.delta_rank
        self.impl = config.scan_impl
        self.x_proj = nn.Linear(dim, self.delta_rank + 2 * self.d_state, bias=False)
        # dt_proj holds parameters under their published names; its own forward is not used.
        self.dt_proj = nn.Linear(self.delta_rank, dim)
        initialise_delta_projection(self.dt_proj, config.dt_min, config.dt_max)
        self.A_log = protect(nn.Parameter(s4d_real(dim, self.d_state)))
        self.D = protect(nn.Parameter(torch.ones(dim)))

    def operands(
        self, u: Float[Tensor, "batch length dim"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Make the scan's operands from its input.

        Args:
            u: The scan's input.

        Returns:
            u, delta before its bias, A, B, C, D and the bias of delta, as `selective_scan` takes them.
        """
        selected = self.x_proj(u)
        low_rank_delta, B, C = selected.split([self.delta_rank, self.d_state, self.d_state], dim=-1)
        # The bias goes to the scan, which adds it in float32 together with the softplus.
        delta = F.linear(low_rank_delta, self.dt_proj.weight)
        A = -torch.exp(at_least_float32(self.A_log))
        return u, delta, A, B, C, self.D, self.dt_proj.bias


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
    ) -> tuple[Float[Tensor, "batch length dim"], MambaState | None]:
        """Convolve, select, scan and gate.

        Args:
            x: The projected input.
            z: The gate; the output is multiplied by ``silu(z)``.
            reverse: Whether to run right to left, in place of flipping the input.
            reset: True where a new packed sequence starts.
            state: State to start from; ``None`` is zero.
            return_state: Whether to return the state after the last position.

        Returns:
            The gated output and the new float32 state (``None`` unless asked for).
        """
        conv_state, scan_state = (None, None) if state is None else state
        (u, delta, A, B, C, D, bias), conv_state = self.select(x, conv_state, reverse, reset, return_state)
        result = selective_scan(
            u,
            delta,
            A,
            B,
            C,
            D=D,
            z=z,
            delta_bias=bias,
            delta_softplus=True,
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
    ) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor | None]:
        """Convolve, and make the scan's operands from the result.

        Args:
            x: The projected input.
            conv_state: The convolution's state to start from; ``None`` is zero.
            reverse: Whether to run right to left.
            reset: True where a new packed sequence starts.
            return_state: Whether to return the convolution's new state.

        Returns:
            What `operands` returns, and the convolution's new state (``None`` unless asked for).
        """
        u, conv_state = self._convolve(x, conv_state, reverse, reset, return_state)
        return self.operands(u), conv_state

    def _convolve(
        self,
        x: Tensor,
        state: Tensor | None,
        reverse: bool,
        reset: Tensor | None,
        return_state: bool,
    ) -> tuple[Tensor, Tensor | None]:
        result = causal_conv1d(
            x,
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,
            activation="silu",
            initial_state=state,
            return_final_state=return_state,
            reverse=reverse,
            reset=reset,
            impl=self.impl,
        )
        return (result, None) if isinstance(result, Tensor) else result

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> MambaState:
        """Return the zero state.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.
        """
        dim, state = self.A_log.shape
        width = self.conv1d.kernel_size[0]
        zeros = at_least_float32(self.A_log.new_zeros((), device=device))
        return MambaState(
            zeros.new_zeros(batch_size, width - 1, dim), zeros.new_zeros(batch_size, dim, state)
        )
