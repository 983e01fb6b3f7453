"""What the backbone asks of a mixer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.distributed import ContextGroup
from seqmamba.errors import UserError
from seqmamba.nn.state import MixerState


class Mixer(nn.Module, ABC):
    """Moves information along the sequence and keeps its shape.

    A subclass is built from a `MixerConfig` alone, names its last linear layer ``out_proj`` and, if causal,
    gives the same numbers whole, in chunks and one step at a time.
    """

    out_proj: nn.Linear
    state_type: ClassVar[type | None] = None
    """The named tuple that a causal layer carries."""
    takes_pieces: ClassVar[bool] = False
    """Whether ranks that share out a sequence each give `forward` their piece; otherwise the whole."""
    context: ContextGroup | None = None
    """These ranks, see `seqmamba.nn.context`."""

    def require_own_state(self, state: Any) -> None:
        """Refuse the state of another kind of layer.

        Args:
            state: As `forward` takes it.

        Raises:
            UserError: If it is not a `state_type`; a layer without one refuses every state by itself.
        """
        if state is not None and self.state_type is not None and not isinstance(state, self.state_type):
            raise UserError(
                f"state: expected a {self.state_type.__name__} for {type(self).__name__}, "
                f"got {type(state).__name__}"
            )

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: Any = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], Any]:
        """Mix along the length.

        Args:
            x: Input.
            reset: True where a new packed sequence starts: nothing crosses that border.
            state: What an earlier call returned; ``None`` starts from zero.
            return_state: Whether to return the state after the last position.
            rate: Training sampling rate over the input's: step sizes are multiplied by it.

        Returns:
            The output and the new state (``None`` unless asked for).
        """

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> MixerState:
        """Return the state before the first position.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.

        Raises:
            UserError: If the mixer is bidirectional and so has no such state.
        """
        raise no_recurrent_state()


def require_unit_rate(rate: float, mixer: str) -> None:
    """Refuse a change of the sampling rate in a mixer whose steps have no length in time.

    Args:
        rate: As given to `Mixer.forward`.
        mixer: Its name, for the message.

    Raises:
        UserError: If ``rate`` is not 1.
    """
    if rate != 1:
        raise UserError(
            f"rate: mixer {mixer} runs at the sampling rate it was trained at, got {rate}",
            hint="a stack of mamba or s4 mixers can change its rate",
        )


def require_added_directions(combine: str, mixer: str) -> None:
    """Refuse other ways for two directions to meet in a mixer that has both in one operation.

    Args:
        combine: See `MixerConfig`.
        mixer: Its name, for the message.

    Raises:
        UserError: If ``combine`` is not ``add``.
    """
    if combine != "add":
        raise UserError(
            f"combine: mixer {mixer} adds its directions in one operation, got {combine!r}",
            hint='use combine="add"',
        )


def no_recurrent_state() -> UserError:
    """Return the error for a state asked of, or given to, a bidirectional layer."""
    return UserError(
        "a bidirectional layer has no recurrent state: it needs the whole sequence at once",
        hint='build the backbone with direction="causal" to run it in chunks or step by step',
    )
