"""Taking in a known beginning at once, instead of step by step."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from seqmamba.inference.model import CausalModel
from seqmamba.nn.options import require, require_whole

DEFAULT_CHUNK = 2**16
"""Positions taken in at once; bounds the memory, and is long enough to keep a GPU busy."""


@torch.no_grad()
def prefill(
    model: CausalModel,
    x: Shaped[Tensor, "batch length *channels"],
    *,
    state: Any = None,
    chunk: int = DEFAULT_CHUNK,
) -> tuple[Shaped[Tensor, "batch 1 channels"], Any]:
    """Run a sequence for its last output and the state behind it, in parallel and in bounded memory.

    Args:
        model: A causal model, run in the mode (training or evaluation) that it is in.
        x: Features of a backbone, or token ids of a language model; at least one position.
        state: What comes before; ``None`` starts a sequence.
        chunk: Positions a call.

    Returns:
        The output at the last position, and the state after it, without gradient.

    Raises:
        UserError: If there is no position, ``chunk`` is not positive, or the model is bidirectional.
    """
    require_whole("chunk", chunk)
    require(
        x.ndim >= 2 and x.shape[1] > 0, "x", "at least one position, (batch, length, ...)", tuple(x.shape)
    )
    state = model.init_state(len(x)) if state is None else state
    options = {} if x.is_floating_point() else {"last_only": True}  # as a `TokenModel` has it
    for piece in x.split(chunk, dim=1):
        y, state = model(piece, state=state, return_state=True, **options)
    return y[:, -1:], state
