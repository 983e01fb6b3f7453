"""The recurrent baselines: LSTM and GRU, as PyTorch and cuDNN compute them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqmamba.errors import UserError
from seqmamba.nn.both_ways import combine_directions
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.initialisers import protect
from seqmamba.nn.mixer import Mixer, no_recurrent_state, require_unit_rate
from seqmamba.nn.precision import at_least_float32, zero_of_states
from seqmamba.nn.state import GRUState, LSTMState
from seqmamba.ops.packed_sequences import sequence_bounds


class Recurrent(Mixer):
    """A recurrent layer of ``d_inner`` units and a projection back to ``d_model``.

    With y_f and y_r the outputs left to right and right to left, ``combine`` is that of `BidirectionalMamba`:
    ``out_proj(y_f + y_r)``, ``out_proj([y_f, y_r])``, or gated with a projection of the input, ``gate_proj``.

    Under autocast the recurrence stays in the parameters' dtype: rounding its state at every step adds up,
    and chunks would differ from the whole. Packed sequences run side by side, for which the host looks at
    ``reset``. torch.compile cannot trace PyTorch's recurrent layers and runs them between its graphs.

    Args:
        config: ``d_model``, ``expand``, ``direction``, ``combine`` and ``bias``, which is the projections',
            are read; the recurrence always has one.
    """

    rnn_type: ClassVar[type[nn.LSTM] | type[nn.GRU]]
    state_type: ClassVar[type[LSTMState] | type[GRUState]]

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.causal, self.combine, dim = config.direction == "causal", config.combine, config.d_inner
        self.rnn = self.rnn_type(config.d_model, dim, batch_first=True, bidirectional=not self.causal)
        n_outputs = 1 if self.causal or self.combine != "concat" else 2
        gated = not self.causal and self.combine == "gate"
        self.gate_proj = nn.Linear(config.d_model, dim, bias=config.bias) if gated else None
        self.out_proj = nn.Linear(n_outputs * dim, config.d_model, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: Any = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], Any]:
        """Mix along the length; see `Mixer.forward`.

        Raises:
            UserError: If a bidirectional layer meets a state, or the state is of another batch.
        """
        require_unit_rate(rate, type(self).__name__.lower())
        if (state is not None or return_state) and not self.causal:
            raise no_recurrent_state()
        if state is not None and len(state[0]) != len(x):
            raise UserError(f"state: expected a batch of {len(x)}, got {len(state[0])}")
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(self.out_proj.weight.dtype)
            initial = () if state is None else tuple(part.to(wide.dtype)[None] for part in state)
            y, final = self._run(wide, initial) if reset is None else self._run_packed(wide, initial, reset)
        if not self.causal:
            y = self._combine(x, y)
        if not return_state:
            return self.out_proj(y), None
        return self.out_proj(y), self.state_type(*(at_least_float32(part[0]) for part in final))

    def _run(self, x: Tensor | PackedSequence, initial: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...]]:
        """Call PyTorch's layer; its states are (directions, batch, dim) each, and none at all means zero."""
        hidden: Any = initial if len(initial) > 1 else initial[0] if initial else None
        y, final = self.rnn(x, hidden)
        return y, final if isinstance(final, tuple) else (final,)

    def _run_packed(
        self, x: Tensor, initial: tuple[Tensor, ...], reset: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the sequences of all rows side by side, the longest first, without padding any.

        PyTorch wants them step by step: the first position of every sequence, then the second of those that
        have one, and so on.
        """
        first, lengths = sequence_bounds(reset)
        rank = lengths.argsort(descending=True).argsort()
        sequence = torch.arange(len(first), device=x.device).repeat_interleave(lengths)
        step = torch.arange(reset.numel(), device=x.device) - first[sequence]
        order = (step * len(first) + rank[sequence]).argsort()
        packed = PackedSequence(x.flatten(0, 1)[order], step.bincount().cpu())
        # The first sequence of a row goes on from the carried state, unless it too starts anew.
        opening = first % reset.shape[1] == 0
        carried = tuple(
            part.new_zeros(1, len(first), part.shape[-1]).index_copy(
                1, rank[opening], part.masked_fill(reset[:, :1], 0)
            )
            for part in initial
        )
        y, final = self._run(packed, carried)
        unpacked = torch.empty_like(y.data).index_copy(0, order, y.data)
        last = rank[sequence[reset.shape[1] - 1 :: reset.shape[1]]]
        return unpacked.unflatten(0, reset.shape), tuple(part[:, last] for part in final)

    def _combine(self, x: Tensor, y: Tensor) -> Tensor:
        if self.combine == "concat":
            return y
        gate = None if self.gate_proj is None else self.gate_proj(x)
        forward, reverse = y.chunk(2, dim=-1)
        return combine_directions(forward, reverse, self.combine, gate)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Return the zero state.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.

        Raises:
            UserError: If the mixer is bidirectional.
        """
        if not self.causal:
            raise no_recurrent_state()
        zero = zero_of_states(self.out_proj.weight, device)
        return self.state_type(
            *(zero.new_zeros(batch_size, self.rnn.hidden_size) for _ in self.state_type._fields)
        )


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates (Gers et al. 2000).

    The forget gates start open, with a bias of one (Jozefowicz et al. 2015).

    Args:
        config: See `Recurrent`.
    """

    rnn_type = nn.LSTM
    state_type = LSTMState

    def __init__(self, config: MixerConfig) -> None:
        super().__init__(config)
        forget = slice(config.d_inner, 2 * config.d_inner)  # PyTorch's order is input, forget, cell, output
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                with torch.no_grad():  # PyTorch adds two biases
                    parameter[forget] = 1.0 if name.startswith("bias_ih") else 0.0
                protect(parameter)


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the form that cuDNN computes.

    Args:
        config: See `Recurrent`.
    """

    rnn_type = nn.GRU
    state_type = GRUState
