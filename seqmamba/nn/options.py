"""Options of single mixers, grouped so that one mixer's fields stay together; each group is checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from seqmamba.errors import UserError


def require(condition: bool, name: str, expected: str, got: Any) -> None:
    """Raise a `UserError` that names a configuration field unless ``condition`` holds.

    Args:
        condition: What must be true.
        name: The field.
        expected: What the field may be, in words.
        got: What it is.

    Raises:
        UserError: If ``condition`` is false.
    """
    if not condition:
        raise UserError(f"{name}: expected {expected}, got {got!r}")


def require_choice(name: str, got: Any, choices: tuple[str, ...]) -> None:
    """Raise a `UserError` unless ``got`` is one of ``choices``."""
    require(got in choices, name, f"one of {', '.join(choices)}", got)


def require_bool(name: str, got: Any) -> None:
    """Raise a `UserError` unless ``got`` is true or false."""
    require(isinstance(got, bool), name, "true or false", got)


def require_whole(name: str, got: Any, at_least: int = 1) -> None:
    """Raise a `UserError` unless ``got`` is an int of at least ``at_least``."""
    require(is_whole(got, at_least), name, f"a whole number >= {at_least}", got)


def is_whole(value: Any, at_least: int = 1) -> bool:
    """Tell whether ``value`` is an int (a bool is not) of at least ``at_least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def is_number(value: Any) -> bool:
    """Tell whether ``value`` is a finite int or float (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_limit(name: str, limit: Any) -> None:
    """Raise a `UserError` unless ``limit`` is a pair (low, high) with 0 <= low < high."""
    numbers = isinstance(limit, tuple) and len(limit) == 2 and all(map(is_number, limit))
    require(numbers and 0 <= limit[0] < limit[1], name, "0 <= low < high", limit)


@dataclass(frozen=True)
class Mamba2Options:
    """Options of the ``mamba2`` mixer (Dao & Gu 2024, arXiv:2405.21060, section 7).

    Args:
        d_state: State size N of each channel.
        head_dim: Channels of a head (P); ``expand * d_model`` must be a multiple of it.
        n_groups: Groups of heads that share B and C.
        A_min: Smallest decay rate at initialisation, uniform in [A_min, A_max].
        A_max: Largest decay rate at initialisation.
        dt_limit: Bounds of delta after the softplus; ``None`` means none.
        chunk_size: Steps that are multiplied at once where the GPU kernels do not run; no effect on results.
        norm_groups: Runs of channels that the output norm scales each by itself; ``None`` means ``n_groups``,
            as published. Some checkpoints with several groups have one norm over all channels: 1.
        norm_eps: Epsilon of the output norm.

    Raises:
        UserError: If a field is out of range.
    """

    d_state: int = 128
    head_dim: int = 64
    n_groups: int = 1
    A_min: float = 1.0
    A_max: float = 16.0
    dt_limit: tuple[float, float] | None = None
    chunk_size: int = 256
    norm_groups: int | None = None
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("d_state", "head_dim", "n_groups", "chunk_size"):
            require_whole(f"mamba2.{name}", getattr(self, name))
        if self.norm_groups is not None:
            require_whole("mamba2.norm_groups", self.norm_groups)
        eps = self.norm_eps
        require(is_number(eps) and eps > 0, "mamba2.norm_eps", "a number > 0", eps)
        rates = (self.A_min, self.A_max)
        ordered = all(map(is_number, rates)) and 0 < self.A_min <= self.A_max
        require(ordered, "mamba2.A_min, mamba2.A_max", "0 < A_min <= A_max", rates)
        if self.dt_limit is not None:
            object.__setattr__(self, "dt_limit", tuple(self.dt_limit))  # YAML and JSON have lists
            require_limit("mamba2.dt_limit", self.dt_limit)


@dataclass(frozen=True)
class S4Options:
    """Options of the ``s4`` mixer (Gu et al. 2022, arXiv:2111.00396 and arXiv:2206.11893).

    Args:
        d_state: Real state size N of each channel; N / 2 complex states with their conjugates left implicit.
        form: ``diagonal`` (S4D) or ``dplr`` (diagonal plus low rank, S4).
        init: ``legs`` (HiPPO-LegS, its normal part for the diagonal form), ``lin`` or ``inv`` (S4D-Lin and
            S4D-Inv, diagonal only).
        discretisation: ``zoh`` or ``bilinear``.
        lr: Largest learning rate of A, B and delta, as in the published recipes; ``None`` gives them the
            rate of the others.

    Raises:
        UserError: If a field is out of range.
    """

    d_state: int = 64
    form: Literal["diagonal", "dplr"] = "diagonal"
    init: Literal["legs", "lin", "inv"] = "legs"
    discretisation: Literal["zoh", "bilinear"] = "zoh"
    lr: float | None = 1e-3

    def __post_init__(self) -> None:
        require_whole("s4.d_state", self.d_state, 2)
        require(self.d_state % 2 == 0, "s4.d_state", "an even number", self.d_state)
        require_choice("s4.form", self.form, ("diagonal", "dplr"))
        require_choice("s4.init", self.init, ("legs", "lin", "inv"))
        require_choice("s4.discretisation", self.discretisation, ("zoh", "bilinear"))
        possible = self.form == "diagonal" or self.init == "legs"
        require(possible, "s4.init", "legs, the one with a low-rank part, for form dplr", self.init)
        require(
            self.lr is None or (is_number(self.lr) and self.lr > 0), "s4.lr", "a number > 0 or null", self.lr
        )


@dataclass(frozen=True)
class AttentionOptions:
    """Options of the ``attention`` mixer.

    Args:
        n_heads: Query heads.
        n_kv_heads: Heads of keys and values, a divisor of ``n_heads``; ``None`` means ``n_heads``.
        head_dim: Channels of a head; ``None`` means the channels of the input (``d_model``, twice that in
            ``shared_attention``) over ``n_heads``.
        rotary: Whether positions enter by rotation (Su et al. 2021, arXiv:2104.09864).
        rotary_dim: Channels of a head that rotate, the first ones; ``None`` means all.
        rope_theta: Base of the rotation's wavelengths.
        window: Positions that one sees to a side, itself included; ``None`` means all. A window bounds the
            cache.
        d_conv: Width of a causal depthwise convolution of queries, keys and values, in steps, causal layers
            only; 0 means none.

    Raises:
        UserError: If a field is out of range.
    """

    n_heads: int = 8
    n_kv_heads: int | None = None
    head_dim: int | None = None
    rotary: bool = True
    rotary_dim: int | None = None
    rope_theta: float = 1e4
    window: int | None = None
    d_conv: int = 0

    def __post_init__(self) -> None:
        require_whole("attention.n_heads", self.n_heads)
        require_whole("attention.d_conv", self.d_conv, 0)
        for name in ("n_kv_heads", "head_dim", "rotary_dim", "window"):
            if getattr(self, name) is not None:
                require_whole(f"attention.{name}", getattr(self, name))
        groups = self.n_kv_heads or self.n_heads
        require(self.n_heads % groups == 0, "attention.n_kv_heads", "a divisor of n_heads", self.n_kv_heads)
        require_bool("attention.rotary", self.rotary)
        theta = self.rope_theta
        require(is_number(theta) and theta > 0, "attention.rope_theta", "a number > 0", theta)


@dataclass(frozen=True)
class GridOptions:
    """Options of mixers over a two-dimensional grid that was flattened row by row into the sequence.

    Args:
        width: Columns of the grid; the sequence length must be a multiple of it. ``None``: no grid.

    Raises:
        UserError: If a field is out of range.
    """

    width: int | None = None

    def __post_init__(self) -> None:
        if self.width is not None:
            require_whole("grid.width", self.width)
