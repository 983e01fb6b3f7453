"""The options that mixers read, checked once."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from seqmamba.errors import UserError

Direction = Literal["causal", "bidirectional"]
Combine = Literal["add", "concat", "gate"]
ScanImpl = Literal["auto", "reference", "chunked", "numba"]


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


def is_whole(value: Any, at_least: int = 1) -> bool:
    """Tell whether ``value`` is an int (a bool is not) of at least ``at_least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def is_number(value: Any) -> bool:
    """Tell whether ``value`` is a finite int or float (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class MixerConfig:
    """What a mixer, the layer that moves information along the sequence, is built from.

    Args:
        d_model: Channels of the residual stream.
        direction: ``causal`` sees the past only; ``bidirectional`` sees both sides.
        combine: How the two directions meet: ``add``, ``concat`` or ``gate`` (see `BidirectionalMamba`).
        d_state: State size N of each channel.
        d_conv: Width of the depthwise convolution, in steps.
        expand: Inner channels as a multiple of ``d_model``.
        dt_rank: Rank of the projection that makes delta; ``None`` means ``ceil(d_model / 16)``.
        dt_min: Smallest step size delta at initialisation.
        dt_max: Largest step size delta at initialisation.
        scan_impl: Implementation of the scan and the convolution; ``auto`` picks the fastest that runs.

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

    def __post_init__(self) -> None:
        for name in ("d_model", "d_state", "d_conv", "expand"):
            value = getattr(self, name)
            require(is_whole(value), name, "a whole number >= 1", value)
        require(
            self.dt_rank is None or is_whole(self.dt_rank), "dt_rank", "a whole number >= 1", self.dt_rank
        )
        for name, choices in (
            ("direction", ("causal", "bidirectional")),
            ("combine", ("add", "concat", "gate")),
            ("scan_impl", ("auto", "reference", "chunked", "numba")),
        ):
            value = getattr(self, name)
            require(value in choices, name, f"one of {', '.join(choices)}", value)
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
