"""The S4 mixer: time-invariant state spaces, causal or bidirectional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.distributed import bidirectional_lti, lti
from seqmamba.errors import UserError
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.hippo import diagonal_system, legs_low_rank
from seqmamba.nn.initialisers import log_uniform_log_delta, protect
from seqmamba.nn.mixer import Mixer, no_recurrent_state, require_added_directions
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.state import S4State
from seqmamba.nn.stepping import keep_derived
from seqmamba.ops import LtiSystem, lti_discretise, lti_state_step


class S4(Mixer):
    """A state space for each channel, then GELU and a gated linear layer (Gu et al. 2022, section 3.4).

    S4 (arXiv:2111.00396) is form ``dplr``, S4D (arXiv:2206.11893) form ``diagonal``. Both directions of a
    bidirectional layer share everything but C, and their sum costs one convolution. Complex parameters are
    real tensors whose last axis holds real and imaginary part; they and the states stay float32 or wider.

    Args:
        config: ``d_model``, ``direction``, ``combine``, ``dt_min``, ``dt_max``, ``bias``, ``scan_impl`` and
            ``s4`` are read.

    Raises:
        UserError: If the directions of a bidirectional layer are to meet otherwise than by ``add``, or
            ``scan_impl`` is none of this layer's.
    """

    state_type = S4State
    takes_pieces = True

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.bidirectional = config.direction == "bidirectional"
        if self.bidirectional:
            require_added_directions(config.combine, "s4")
        if config.scan_impl == "numba":
            raise UserError(
                "scan_impl: mixer s4 offers auto, chunked, reference, got 'numba'",
                hint="the other mixers of a hybrid take what they can from auto",
            )
        options, dim, half = config.s4, config.d_model, config.s4.d_state // 2
        self.discretisation, self.impl = options.discretisation, config.scan_impl
        low_rank = options.form == "dplr"
        system = (
            legs_low_rank(options.d_state) if low_rank else diagonal_system(options.init, options.d_state)
        )
        max_lr = options.lr

        def per_channel(x: Tensor) -> nn.Parameter:
            return protect(nn.Parameter(x.float().expand(dim, *x.shape).clone()), max_lr=max_lr)

        self.log_dt = protect(
            nn.Parameter(log_uniform_log_delta(dim, config.dt_min, config.dt_max)), max_lr=max_lr
        )
        self.log_A_real = per_channel(torch.log(-system.A.real))
        self.A_imag = per_channel(system.A.imag)
        self.B = per_channel(torch.view_as_real(system.B))
        self.P = per_channel(torch.view_as_real(system.P)) if low_rank else None
        directions = (2,) if self.bidirectional else ()
        # complex numbers of unit variance
        C = torch.randn(*directions, dim, half, 2) * 0.5**0.5
        self.C = protect(nn.Parameter(C), weight_decay=True)
        self.D = protect(nn.Parameter(torch.randn(dim)))
        self.out_proj = nn.Linear(dim, 2 * dim, bias=config.bias)
        self._steps: tuple[tuple[Any, ...], tuple[LtiSystem, Tensor]] | None = None

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: S4State | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], S4State | None]:
        """Mix along the length; see `Mixer.forward`.

        Raises:
            UserError: If a bidirectional layer is given or asked for a state.
        """
        if self.bidirectional:
            if state is not None or return_state:
                raise no_recurrent_state()
            y = bidirectional_lti(
                x,
                **self._continuous(),
                C=_complex(self.C),
                D=self.D,
                context=self.context,
                rate=rate,
                reset=reset,
                impl=self.impl,
            )
            return self._finish(y), None
        hidden = None if state is None else state.hidden
        if x.shape[1] == 1 and hidden is not None and reset is None:
            system, C = self.recurrence(rate)
            step, hidden = lti_state_step(hidden, x[:, 0], system, C, self.D, activation="gelu")
            return self._gate(step[:, None]), S4State(hidden) if return_state else None
        options: dict[str, Any] = {"rate": rate, "reset": reset, "initial_state": hidden, "impl": self.impl}
        options["context"] = self.context
        C, continuous = _complex(self.C), self._continuous()
        result = lti(x, **continuous, C=C, D=self.D, return_final_state=return_state, **options)
        if isinstance(result, Tensor):
            return self._finish(result), None
        y, hidden = result
        return self._finish(y), S4State(hidden)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> S4State:
        """Return the zero state; see `Mixer.init_state`."""
        if self.bidirectional:
            raise no_recurrent_state()
        return S4State(_complex(self.C).new_zeros(batch_size, *self.C.shape[:2], device=device))

    def train(self, mode: bool = True) -> S4:
        """Switch between training and evaluation, and forget the discrete system of earlier steps."""
        self._steps = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> S4:
        self._steps = None  # parameters move to other memory, or back to where others were
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kept system out of copies and files: PyTorch cannot save its views of parameters."""
        return {**self.__dict__, "_steps": None}

    def _finish(self, y: Tensor) -> Tensor:
        return self._gate(F.gelu(y))

    def _gate(self, y: Tensor) -> Tensor:
        return F.glu(self.out_proj(y), dim=-1)

    def _continuous(self) -> dict[str, Any]:
        """The system as the operators take it; Re A is negative whatever was learned (S4D, section 3.3)."""
        A = torch.complex(-torch.exp(at_least_float32(self.log_A_real)), at_least_float32(self.A_imag))
        return {
            "delta": torch.exp(at_least_float32(self.log_dt)),
            "A": A,
            "B": _complex(self.B),
            "P": None if self.P is None else _complex(self.P),
            "discretisation": self.discretisation,
        }

    def recurrence(self, rate: float) -> tuple[LtiSystem, Tensor]:
        """The discrete system and C, kept from step to step where no gradient or trace needs their making.

        A CUDA graph reads those made before it, if something keeps them for the graph, or makes its own.
        """
        parameters = (self.log_dt, self.log_A_real, self.A_imag, self.B, self.P, self.C)
        sources = [x for x in parameters if x is not None]
        traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
        captured = _is_captured(self.log_dt)
        if not traced and not any(x.is_inference() for x in sources):  # these do not count their changes
            key = (rate, *((x.data_ptr(), x._version) for x in sources))
            if self._steps is not None and self._steps[0] == key:
                if not captured or keep_derived(self._steps[1]):
                    return self._steps[1]
            elif not captured:
                self._steps = key, self._derive(rate)
                return self._steps[1]
        if captured and self.P is not None and self.discretisation == "zoh":
            raise UserError(
                "s4: a CUDA graph cannot hold a matrix exponential, which waits for the GPU",
                hint="discretise a dplr system by bilinear to step it in a graph",
            )
        return self._derive(rate)

    def _derive(self, rate: float) -> tuple[LtiSystem, Tensor]:
        return lti_discretise(**self._continuous(), rate=rate), _complex(self.C)


def _is_captured(x: Tensor) -> bool:
    """Tell whether work on this tensor becomes part of a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _complex(x: Tensor) -> Tensor:
    """Real (..., 2) as complex, complex64 or wider."""
    return torch.view_as_complex(at_least_float32(x).contiguous())
