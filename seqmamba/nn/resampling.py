"""Fewer, wider positions and back: the pooling layers between the stages of a multi-scale stack.

Goel et al. 2022, "It's Raw! Audio Generation with State-Space Models", arXiv:2202.09729, section 4.2. A frame
is ``factor`` neighbouring positions, one position of the coarser stage.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.nn.precision import at_least_float32, zero_of_states


class DownPool(nn.Module):
    """Make one position of every frame: put its positions side by side, then a linear layer.

    Args:
        dim: Channels of the input.
        dim_out: Channels of the output.
        factor: Positions of a frame.
    """

    def __init__(self, dim: int, dim_out: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(factor * dim, dim_out)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch frames dim_out"]:
        """Pool whole frames.

        Args:
            x: Any floating dtype; the length is a multiple of ``factor``.

        Returns:
            The frames, float32 or wider.
        """
        batch, length, dim = x.shape
        frames = x.reshape(batch, length // self.factor, self.factor * dim)
        return at_least_float32(self.linear(frames.to(self.linear.weight.dtype)))

    def stream(
        self, x: Float[Tensor, "batch length dim"], window: Float[Tensor, "batch width dim"], phase: int
    ) -> tuple[Float[Tensor, "batch frames dim_out"] | None, Float[Tensor, "batch width dim"]]:
        """Pool the frames that a chunk completes.

        Args:
            x: The next positions, any number from 1.
            window: The ``factor - 1`` positions before them, oldest first.
            phase: How many of these belong to the unfinished frame.

        Returns:
            ``(phase + length) // factor`` frames, or ``None`` if that is none, and the new window.
        """
        length, width = x.shape[1], self.factor - 1
        n_frames = (phase + length) // self.factor
        frames = None
        if n_frames > 0:
            joined = torch.cat((window[:, width - phase :], x), dim=1)
            frames = self(joined[:, : n_frames * self.factor])
        # A copy: a view would keep the whole chunk in memory.
        return frames, torch.cat((window[:, length:], x[:, -width:]), dim=1)

    def init_window(self, batch_size: int, device: torch.device | str | None = None) -> Tensor:
        """Return the window before the first position: zeros (batch, factor - 1, dim), float32 or wider."""
        dim = self.linear.in_features // self.factor
        return _zeros(self.linear, (batch_size, self.factor - 1, dim), device)


class UpPool(nn.Module):
    """Spread every frame over its positions: a linear layer to ``factor`` times the channels, then cut it.

    A causal stack may not use a frame before its last position has come, so there every frame is spread over
    the positions of the next one, and the first frame's positions get zeros.

    Args:
        dim: Channels of the input.
        dim_out: Channels of the output.
        factor: Positions of a frame.
    """

    def __init__(self, dim: int, dim_out: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(dim, factor * dim_out)

    def forward(
        self,
        frames: Float[Tensor, "batch frames dim"],
        *,
        causal: bool,
        starts: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch length dim_out"]:
        """Spread the frames of a whole sequence.

        Args:
            frames: At least one.
            causal: Whether to shift by one frame.
            starts: True at the first frame of each packed sequence, which the shift fills with zeros.

        Returns:
            ``factor`` positions a frame, float32 or wider.
        """
        spread = self._project(frames)
        if causal:
            spread = F.pad(spread[:, :-1], (0, 0, 1, 0))
            if starts is not None:
                spread = spread.masked_fill(starts[..., None], 0)
        return self._cut(spread)

    def stream(
        self,
        frames: Float[Tensor, "batch frames dim"] | None,
        length: int,
        held: Float[Tensor, "batch factor dim_out"],
        phase: int,
    ) -> tuple[Float[Tensor, "batch length dim_out"], Float[Tensor, "batch factor dim_out"]]:
        """Spread the next part of a sequence, causally.

        Args:
            frames: The frames that this part completes, if any.
            length: Positions of this part.
            held: The positions of the frame before it, already spread.
            phase: How many of these have been used.

        Returns:
            The positions of this part, and those of the last complete frame.
        """
        if frames is None:
            return held[:, phase : phase + length], held
        spread = self._cut(self._project(frames))
        # A copy: a view would keep the whole part in memory.
        last = spread[:, -self.factor :].clone()
        return torch.cat((held[:, phase:], spread), dim=1)[:, :length], last

    def _project(self, frames: Tensor) -> Tensor:
        return at_least_float32(self.linear(frames.to(self.linear.weight.dtype)))

    def _cut(self, spread: Tensor) -> Tensor:
        batch, frames, dim = spread.shape
        return spread.reshape(batch, frames * self.factor, dim // self.factor)

    def init_held(self, batch_size: int, device: torch.device | str | None = None) -> Tensor:
        """Return what is held before the first frame: zeros (batch, factor, dim_out), float32 or wider."""
        dim = self.linear.out_features // self.factor
        return _zeros(self.linear, (batch_size, self.factor, dim), device)


def _zeros(linear: nn.Linear, shape: tuple[int, ...], device: torch.device | str | None) -> Tensor:
    return zero_of_states(linear.weight, device).new_zeros(shape)
