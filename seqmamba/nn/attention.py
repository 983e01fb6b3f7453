"""The attention mixer."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.distributed import Piece
from seqmamba.errors import UserError
from seqmamba.nn.attention_kernels import attend, attend_in_sequences, attend_in_window
from seqmamba.nn.attention_reach import Reach, sequence_reach, visible
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mixer import Mixer, no_recurrent_state, require_unit_rate
from seqmamba.nn.options import require
from seqmamba.nn.precision import zero_of_states
from seqmamba.nn.rotary import rotary_angles, rotate
from seqmamba.nn.short_convolution import convolve_causally
from seqmamba.nn.state import AttentionState

# Beyond these lengths packed rows are cut by sequence, not masked. On a CPU both cost the same at 256. The
# bound for GPUs is an estimate, not a measurement: there the host waits once, for many small calls.
_LONGEST_MASK = {"cpu": 256, "cuda": 2048}


class Attention(Mixer):
    """Softmax attention with grouped heads (Ainslie et al. 2023, arXiv:2305.13245) and rotary positions.

    Both directions have the same parameters; `combine` is not read. ``in_proj`` makes all queries, then all
    keys, then all values, as in the hybrid checkpoints of mamba_ssm. Without packing nothing but the kernel's
    own causal mask is used. Positions count from the start of each packed sequence.

    A causal layer carries the rotated keys and the values: of all positions, or with a window of the last
    ``window - 1``, in tensors of one size whatever the position, so that a step can be captured and repeated.

    Args:
        config: ``d_model``, ``direction``, ``bias``, ``conv_bias``, ``scan_impl`` and ``attention`` are read.
        d_input: Channels of the input; ``None`` means ``d_model``.

    Raises:
        UserError: If the heads do not divide the channels, cannot be rotated, or a bidirectional layer is to
            convolve.
    """

    state_type = AttentionState
    takes_pieces = True

    def __init__(self, config: MixerConfig, d_input: int | None = None) -> None:
        super().__init__()
        options, d_input = config.attention, d_input or config.d_model
        self.causal = config.direction == "causal"
        self.n_heads, self.n_kv_heads = options.n_heads, options.n_kv_heads or options.n_heads
        if options.head_dim is None:
            divides = d_input % self.n_heads == 0
            require(divides, "attention.n_heads", f"a divisor of the {d_input} channels", self.n_heads)
        self.head_dim = options.head_dim or d_input // self.n_heads
        self.window, self.theta, self.impl = options.window, options.rope_theta, config.scan_impl
        self.rotary_dim = (options.rotary_dim or self.head_dim) if options.rotary else 0
        rotates = self.rotary_dim % 2 == 0 and self.rotary_dim <= self.head_dim
        even = f"an even number of at most head_dim = {self.head_dim} channels"
        require(rotates, "attention.rotary_dim", even, self.rotary_dim)
        convolves = self.causal or options.d_conv == 0
        require(convolves, "attention.d_conv", "0 in a bidirectional layer", options.d_conv)
        d_heads = self.n_heads * self.head_dim
        d_all = d_heads + 2 * self.n_kv_heads * self.head_dim
        self.in_proj = nn.Linear(d_input, d_all, bias=config.bias)
        self.conv1d: nn.Conv1d | None = None
        if options.d_conv > 0:  # holds parameters under their published names; its own forward is not used
            self.conv1d = nn.Conv1d(d_all, d_all, options.d_conv, groups=d_all, bias=config.conv_bias)
        self.out_proj = nn.Linear(d_heads, config.d_model, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "batch length input"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: AttentionState | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], AttentionState | None]:
        """Mix along the length; see `Mixer.forward`. ``rate`` scales the positions, alike in every chunk.

        Raises:
            UserError: If a bidirectional layer meets a state, the state is of another batch or window, or the
                rate is to change although a window or a convolution counts steps.
        """
        if (state is not None or return_state) and not self.causal:
            raise no_recurrent_state()
        if self.window is not None or self.conv1d is not None:  # both count steps
            require_unit_rate(rate, "attention with a window or a convolution")
        self._check(state, len(x))
        piece = Piece(self.context, x)
        whole_reset = None if reset is None else piece.whole(reset)
        whole_reach = self._reach(piece.total, x.device, whole_reset, state)
        reach = Reach(*(rows[:, piece.own] for rows in whole_reach))
        projected, conv = self._convolve(self.in_proj(x), reset, state, return_state)
        q, k, v = self._heads(projected, reach.back, rate)
        cached_k, cached_v = (None, None) if state is None else (state.keys, state.values)
        packed = reset is not None or (state is not None and state.packed)
        keys, values = self._join(cached_k, piece.whole(k)), self._join(cached_v, piece.whole(v))
        seen = self._seen(piece, keys.shape[1])
        y = self._attend(
            q, keys[:, seen].to(q.dtype), values[:, seen].to(q.dtype), reach, whole_reset, packed, piece.own
        )
        if not return_state:
            return self.out_proj(y.flatten(2)), None
        kept_k, kept_v = (self._keep(joined, state is not None) for joined in (keys, values))
        position = (whole_reach.back[:, -1] + 1).expand(len(x)).clone()
        new_state = AttentionState(kept_k, kept_v, position, packed or self.window is not None, conv)
        return self.out_proj(y.flatten(2)), new_state

    def _check(self, state: AttentionState | None, batch: int) -> None:
        if state is None:
            return
        if len(state.position) != batch:
            raise UserError(f"state: expected a batch of {batch}, got {len(state.position)}")
        n_cached = state.keys.shape[1]
        if self.window is not None and n_cached != self.window - 1:
            raise UserError(f"state: expected a cache of window - 1 = {self.window - 1}, got {n_cached}")

    def _reach(
        self, length: int, device: torch.device, reset: Tensor | None, state: AttentionState | None
    ) -> Reach:
        """How far each position sees; one row for all while nothing tells the rows apart."""
        if reset is not None:
            return sequence_reach(reset, 0 if state is None else state.position, self.causal)
        index = torch.arange(length, device=device)[None]
        back = index if state is None else index + state.position[:, None]
        return Reach(back, torch.zeros_like(back) if self.causal else length - 1 - index)

    def _convolve(
        self, x: Tensor, reset: Tensor | None, state: AttentionState | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        if self.conv1d is None:
            return x, None
        return convolve_causally(
            self.conv1d,
            x,
            activation=None,
            state=None if state is None else state.conv,
            return_state=return_state,
            reset=reset,
            impl=self.impl,
            context=self.context,
        )

    def _heads(self, projected: Tensor, positions: Tensor, rate: float) -> tuple[Tensor, Tensor, Tensor]:
        """Part queries, keys and values (batch, length, heads, head_dim), rotated if asked for."""
        heads = projected.unflatten(-1, (-1, self.head_dim))
        q, k, v = heads.split([self.n_heads, self.n_kv_heads, self.n_kv_heads], dim=2)
        if self.rotary_dim > 0:
            angles = rotary_angles(positions, self.rotary_dim, self.theta, rate)
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def _join(self, cached: Tensor | None, new: Tensor) -> Tensor:
        """Put the cache before new keys or values; with a window and no cache, as much of nothing."""
        if cached is not None:
            return torch.cat((cached, new), dim=1)  # as wide as the cache
        if self.window is None:
            return new
        margin = self.window - 1
        return F.pad(new, (0, 0, 0, 0, margin, 0 if self.causal else margin))

    def _seen(self, piece: Piece, n_keys: int) -> slice:
        """Which of the keys with their cache or margin the queries of a piece may see."""
        if self.window is None:
            return slice(0, n_keys - piece.total + piece.own.stop if self.causal else n_keys)
        margins = self.window - 1 if self.causal else 2 * (self.window - 1)
        return slice(piece.own.start, piece.own.stop + margins)

    def _keep(self, joined: Tensor, has_cache: bool) -> Tensor:
        """The next cache: a tensor of its own, so that it keeps no longer one alive."""
        if self.window is None and has_cache:
            return joined
        start = 0 if self.window is None else joined.shape[1] - (self.window - 1)
        wide = torch.promote_types(joined.dtype, torch.float32)
        return joined[:, start:].to(wide, copy=True, memory_format=torch.contiguous_format)

    def _attend(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        reach: Reach,
        reset: Tensor | None,
        packed: bool,
        own: slice,
    ) -> Tensor:
        """Attend to what can be seen; `reset` is of the whole sequences, of which the queries are `own`."""
        length, n_keys = q.shape[1], keys.shape[1]
        if self.window is not None and (packed or length > self.window):
            return attend_in_window(q, keys, values, reach, self.window)
        if not packed:
            if self.window is not None:  # it holds all of them, and what is around them is nothing
                keys, values = (x[:, self.window - 1 :][:, :length] for x in (keys, values))
            return attend(q, keys, values, causal=self.causal)
        long = length > _LONGEST_MASK.get(q.device.type, 0) and not torch.compiler.is_compiling()
        if long and reset is not None and n_keys == (own.stop if self.causal else reset.shape[1]):
            return attend_in_sequences(q, keys, values, reset, self.causal, own)
        steps = torch.arange(n_keys, device=q.device)
        first = n_keys - length if self.causal else own.start
        distance = steps[first : first + length, None] - steps
        return attend(q, keys, values, visible(distance, reach, None))

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> AttentionState:
        """Return the empty cache.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.

        Raises:
            UserError: If the mixer is bidirectional.
        """
        if not self.causal:
            raise no_recurrent_state()
        n_cached = 0 if self.window is None else self.window - 1
        zero = zero_of_states(self.in_proj.weight, device)
        cache = zero.new_zeros(batch_size, n_cached, self.n_kv_heads, self.head_dim)
        position = torch.zeros(batch_size, dtype=torch.long, device=cache.device)
        conv = None
        if self.conv1d is not None:
            conv = zero.new_zeros(batch_size, self.conv1d.kernel_size[0] - 1, self.conv1d.in_channels)
        return AttentionState(cache, cache.clone(), position, self.window is not None, conv)
