"""The sizes that are timed, and how the command line writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seqmamba.errors import UserError


@dataclass(frozen=True)
class Shape:
    """Batch, length and channels of a sequence."""

    batch: int
    length: int
    dim: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}x{self.dim}"

    @property
    def elements(self) -> int:
        """Channels times steps times batch."""
        return self.batch * self.length * self.dim


@dataclass(frozen=True)
class Widths:
    """The sizes that an operator has besides its shape.

    Attributes:
        state: State size of the scan or, with heads, of ssd.
        head_dim: Channels a head of ssd.
        width: Taps of the convolution.
    """

    state: int = 16
    head_dim: int = 64
    width: int = 4


GPU_SHAPES = {
    "scan": ("1x1048576x256", "1x1048576x512", "8x131072x512", "16x2048x2048", "64x1024x512"),
    "bidirectional": ("1x1048576x256", "8x131072x256", "64x1024x512"),
    "conv": ("1x1048576x512", "16x2048x2048", "64x1024x512"),
    "norm": ("1x1048576x256", "16x2048x2048", "64x1024x512"),
    "ssd": ("1x131072x1024", "8x16384x2048", "64x1024x512"),
}
CPU_SHAPES = {
    "scan": ("1x16384x256", "1x1024x256"),
    "bidirectional": ("1x8192x256",),
    "conv": ("1x16384x256", "8x512x256"),
    "norm": ("1x16384x256", "8x512x256"),
    "ssd": ("1x4096x256",),
}
DEFAULT_STATE = {"ssd": 128}


def default_shapes(operator: str, device_type: str) -> list[Shape]:
    """Return what an operator is timed on where the command names nothing."""
    table = GPU_SHAPES if device_type == "cuda" else CPU_SHAPES
    return [parse_shape(text) for text in table[operator]]


def parse_shape(text: str) -> Shape:
    """Read ``BxLxD``: batch, length, channels.

    Raises:
        UserError: It is written otherwise, or a size is zero.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if match is None or 0 in map(int, match.groups()):
        raise UserError(
            f"bench: a shape is written BxLxD with positive sizes (batch, length, channels), got {text!r}",
            hint="for example 1x16384x256",
        )
    return Shape(*(int(size) for size in match.groups()))


def check_widths(operator: str, shape: Shape, widths: Widths) -> None:
    """Raise if the channels of ssd are not whole heads, or a width is not positive.

    Raises:
        UserError: See above.
    """
    for name in ("state", "head_dim", "width"):
        value = getattr(widths, name)
        if value < 1:
            raise UserError(f"bench: --{name.replace('_', '-')} must be at least 1, got {value}")
    if operator == "ssd" and shape.dim % widths.head_dim:
        raise UserError(
            f"bench ssd: the channels must be whole heads of {widths.head_dim}, got {shape.dim} in {shape}",
            hint="change --head-dim or the shape",
        )
