"""The options that mixers read, checked once."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from seqmamba.nn.options import (
    AttentionOptions,
    GridOptions,
    Mamba2Options,
    S4Options,
    is_number,
    require,
    require_bool,
    require_choice,
    require_limit,
    require_whole,
)

Direction = Literal["causal", "bidirectional"]
Combine = Literal["add", "concat", "gate"]
ScanImpl = Literal["auto", "reference", "chunked", "numba"]
BCNorm = Literal["none", "rms", "learned"]


@dataclass(frozen=True)
class MixerConfig:
    """What a mixer, the layer that moves information along the sequence, is built from.

    Args:
        d_model: Channels of the residual stream.
        direction: ``causal`` sees the past only; ``bidirectional`` sees both sides.
        combine: How the two directions meet: ``add``, ``concat`` or ``gate`` (see `BidirectionalMamba`).
        d_state: State size N of each channel of Mamba; ``mamba2`` and ``s4`` have their own.
        d_conv: Width of the depthwise convolution of Mamba and Mamba-2, in steps.
        expand: Inner channels as a multiple of ``d_model``.
        dt_rank: Rank of the projection that makes delta; ``None`` means ``ceil(d_model / 16)``.
        dt_min: Smallest step size delta at initialisation.
        dt_max: Largest step size delta at initialisation.
        scan_impl: Implementation of the scan and the convolution; ``auto`` picks the fastest that runs.
        complex_state: Whether Mamba's A, B, C and state are complex; N then counts complex states.
        bc_norm: RMS norm of Mamba's delta, B and C before the scan: ``none``, ``rms`` (without weights, as in
            Falcon Mamba) or ``learned`` (as in Jamba).
        bc_norm_eps: Epsilon of these norms.
        dt_limit: Bounds of Mamba's delta after the softplus; ``None`` means none.
        bias: Whether the input and output projections have a bias.
        conv_bias: Whether the short convolution has a bias.
        mamba2: What only ``mamba2`` reads.
        s4: What only ``s4`` reads.
        attention: What only ``attention`` reads.
        grid: What only mixers over a grid read.

    Raises:
        UserError: If a field is out of range.
    """

    d_model: int
    _: KW_ONLY
    direction: Direction = "causal"
    combine: Combine = "add"
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | None = None
    dt_min: float = 1e-3
    dt_max: float = 0.1
    scan_impl: ScanImpl = "auto"
    complex_state: bool = False
    bc_norm: BCNorm = "none"
    bc_norm_eps: float = 1e-6
    dt_limit: tuple[float, float] | None = None
    bias: bool = False
    conv_bias: bool = True
    mamba2: Mamba2Options = field(default_factory=Mamba2Options)
    s4: S4Options = field(default_factory=S4Options)
    attention: AttentionOptions = field(default_factory=AttentionOptions)
    grid: GridOptions = field(default_factory=GridOptions)

    def __post_init__(self) -> None:
        for name in ("d_model", "d_state", "d_conv", "expand"):
            require_whole(name, getattr(self, name))
        if self.dt_rank is not None:
            require_whole("dt_rank", self.dt_rank)
        require_choice("direction", self.direction, ("causal", "bidirectional"))
        require_choice("combine", self.combine, ("add", "concat", "gate"))
        require_choice("scan_impl", self.scan_impl, ("auto", "reference", "chunked", "numba"))
        require_choice("bc_norm", self.bc_norm, ("none", "rms", "learned"))
        for name in ("complex_state", "bias", "conv_bias"):
            require_bool(name, getattr(self, name))
        eps = self.bc_norm_eps
        require(is_number(eps) and eps > 0, "bc_norm_eps", "a number > 0", eps)
        if self.dt_limit is not None:
            object.__setattr__(self, "dt_limit", tuple(self.dt_limit))  # YAML and JSON have lists
            require_limit("dt_limit", self.dt_limit)
        step_sizes = (self.dt_min, self.dt_max)
        ordered = all(map(is_number, step_sizes)) and 0 < self.dt_min <= self.dt_max
        require(ordered, "dt_min, dt_max", "0 < dt_min <= dt_max", step_sizes)

    @property
    def d_inner(self) -> int:
        """Channels inside the mixer."""
        return self.expand * self.d_model

    @property
    def delta_rank(self) -> int:
        """`dt_rank` with its default filled in."""
        return math.ceil(self.d_model / 16) if self.dt_rank is None else self.dt_rank
