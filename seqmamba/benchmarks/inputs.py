"""Arguments as a freshly initialised layer gives them to its operators, drawn anew for each seed.

The recurrence forgets as fast as its arguments say, so a speed or an error at other arguments says little:
A is -(1..N), the bias of delta has a log-uniform softplus in [1e-3, 1e-1], and what the projections add has
the variance of their initialisation (Mamba, https://arxiv.org/abs/2312.00752, section 3.6).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.benchmarks.shapes import Shape, Widths
from seqmamba.nn.initialisers import log_uniform_delta_bias, s4d_real

Arguments = dict[str, Tensor]

SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1
# silu of a normal number has a mean square of 0.355. A linear layer with PyTorch's default weights gives a
# third of its input's mean square: standard deviation 0.344 for B, C and the low-rank delta; and dt_proj,
# uniform within rank**-0.5, a third of that again.
_PROJECTED = 0.344
_DELTA_NOISE = 0.199


class Draw:
    """Random numbers on one device, the same for the same seed.

    Args:
        device: Where the tensors go.
        dtype: Of sequences; parameters are float32, as mixed-precision training keeps them.
        seed: The sequence of numbers.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int) -> None:
        self.device, self.dtype, self.seed = device, dtype, seed
        self._generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """A sequence of normal numbers."""
        x = torch.empty(shape, device=self.device, dtype=self.dtype)
        return x.normal_(0.0, scale, generator=self._generator)

    def parameter(self, *shape: int, bound: float = 1.0) -> Tensor:
        """A parameter with uniform numbers within the bound."""
        x = torch.empty(shape, device=self.device, dtype=torch.float32)
        return x.uniform_(-bound, bound, generator=self._generator)

    def delta_bias(self, dim: int) -> Tensor:
        """Biases of delta."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return log_uniform_delta_bias(dim, SHORTEST_STEP, LONGEST_STEP).to(self.device)


def scan_arguments(shape: Shape, widths: Widths, draw: Draw) -> Arguments:
    """Arguments of `selective_scan`: softplus, bias, gate and skip are all in use."""
    sequence = (shape.batch, shape.length, shape.dim)
    projection = (shape.batch, shape.length, widths.state)
    return {
        "u": F.silu(draw.normal(*sequence)),
        "delta": draw.normal(*sequence, scale=_DELTA_NOISE),
        "A": -torch.exp(s4d_real(shape.dim, widths.state)).to(draw.device),
        "B": draw.normal(*projection, scale=_PROJECTED),
        "C": draw.normal(*projection, scale=_PROJECTED),
        "D": torch.ones(shape.dim, device=draw.device),
        "z": draw.normal(*sequence),
        "delta_bias": draw.delta_bias(shape.dim),
    }


DIRECTIONS = ("forward", "reverse")
PAIRED = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def bidirectional_arguments(shape: Shape, widths: Widths, draw: Draw) -> Arguments:
    """Arguments of two scans with one gate: ``u_forward``, ``u_reverse`` and so on, and ``z``."""
    arguments: Arguments = {}
    for direction in DIRECTIONS:
        one = scan_arguments(shape, widths, draw)
        arguments["z"] = one.pop("z")
        arguments |= {f"{name}_{direction}": x for name, x in one.items()}
    return arguments


def one_direction(arguments: Arguments, direction: str) -> Arguments:
    """The arguments of one of the two scans, without the gate."""
    return {name: arguments[f"{name}_{direction}"] for name in PAIRED}


def conv_arguments(shape: Shape, widths: Widths, draw: Draw) -> Arguments:
    """Arguments of `causal_conv1d`, with SiLU behind it."""
    bound = widths.width**-0.5
    return {
        "x": draw.normal(shape.batch, shape.length, shape.dim),
        "weight": draw.parameter(shape.dim, widths.width, bound=bound),
        "bias": draw.parameter(shape.dim, bound=bound),
    }


def norm_arguments(shape: Shape, widths: Widths, draw: Draw) -> Arguments:
    """Arguments of `rms_norm` with a residual stream in float32 and a weight away from one."""
    sequence = (shape.batch, shape.length, shape.dim)
    return {
        "x": draw.normal(*sequence),
        "weight": 1 + draw.parameter(shape.dim, bound=0.1),
        "residual": draw.normal(*sequence).float(),
    }


def ssd_arguments(shape: Shape, widths: Widths, draw: Draw) -> Arguments:
    """Arguments of `ssd`: heads with A uniform in [-16, -1], one group."""
    heads = shape.dim // widths.head_dim
    sequence = (shape.batch, shape.length, heads, widths.head_dim)
    projection = (shape.batch, shape.length, 1, widths.state)
    return {
        "x": F.silu(draw.normal(*sequence)),
        "delta": draw.normal(shape.batch, shape.length, heads, scale=_PROJECTED),
        "A": -8.5 + draw.parameter(heads, bound=7.5),
        "B": F.silu(draw.normal(*projection)),
        "C": F.silu(draw.normal(*projection)),
        "D": torch.ones(heads, device=draw.device),
        "z": draw.normal(*sequence),
        "delta_bias": draw.delta_bias(heads),
    }
