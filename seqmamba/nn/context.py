"""Models whose sequences several ranks share out; see `seqmamba.distributed`."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.distributed import ContextGroup, Piece
from seqmamba.errors import UserError
from seqmamba.nn.mixer import Mixer


def spread_context(model: nn.Module, context: ContextGroup | None) -> None:
    """Let a model compute with the other ranks of a context: each gives it its piece of every sequence.

    All ranks have the same parameters and call the model together, with pieces as `own_piece` cuts them.
    Features, logits and `reset` are of the piece; states are those of the whole sequence, on every rank.
    The gradients of the parameters are those of a rank's own loss and of what others have received from it:
    their sum over the ranks is that of the sum of all losses.

    Args:
        model: A mixer, a backbone or a model around one.
        context: The ranks; None: the model computes alone again.

    Raises:
        UserError: If a part of the model that is no mixer needs whole sequences.
    """
    for module in model.modules():
        if (
            context is not None
            and not isinstance(module, Mixer)
            and not getattr(module, "takes_pieces", True)
        ):
            raise UserError(f"context: {type(module).__name__} needs whole sequences, and takes no pieces")
        if hasattr(type(module), "context"):
            module.context = context  # type: ignore[assignment]


def mix_pieces(
    mixer: Mixer,
    x: Float[Tensor, "batch piece dim"],
    reset: Bool[Tensor, "batch piece"] | None,
    **options: Any,
) -> tuple[Float[Tensor, "batch piece dim"], Any]:
    """Run a mixer on this rank's piece; one that takes no pieces runs on the whole sequence on every rank.

    The latter saves neither time nor memory in that layer, but lets it stand among others.

    Args:
        mixer: Any.
        x: The piece; without a context, all of it.
        reset: True where a new packed sequence starts.
        **options: See `Mixer.forward`.
    """
    if mixer.context is None or mixer.takes_pieces:
        return mixer(x, reset=reset, **options)
    piece = Piece(mixer.context, x)
    whole_reset = None if reset is None else piece.whole(reset)
    y, state = mixer(piece.whole(x), reset=whole_reset, **options)
    return y[:, piece.own], state
