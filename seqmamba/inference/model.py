"""What running a causal model asks of it: a backbone, or a language model over one, of whatever kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from seqmamba.errors import UserError


@runtime_checkable
class CausalModel(Protocol):
    """A module called as ``y, state = model(x, state=state, return_state=True)``, with chunks of any length.

    ``x`` is (batch, length, channels) for a backbone and token ids (batch, length) for a language model. A
    module in it may have a ``step_period``: after how many steps the whole numbers in its state come round.
    """

    training: bool

    @property
    def __call__(self) -> Callable[..., Any]:
        """Outputs, and the state where asked for."""

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """Return the state before the first position."""

    def modules(self) -> Iterator[nn.Module]:
        """The model and everything in it."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its parameters, all on one device."""

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on or off."""


@runtime_checkable
class TokenModel(CausalModel, Protocol):
    """A `CausalModel` from token ids to logits; ``config.vocab_size`` says how many tokens it knows.

    It takes ``last_only=True``, and then returns the logits of the last position only.
    """

    config: Any


def step_period(model: CausalModel) -> int:
    """Return after how many steps a model does the same work on states of the same form again.

    Args:
        model: 1 for a stack at one rate; for a multi-scale stack the product of its poolings.
    """
    return math.lcm(*(getattr(module, "step_period", 1) for module in model.modules()))


@contextmanager
def evaluation_mode(model: CausalModel) -> Iterator[None]:
    """Switch dropout off for the length of a block; leave the model as it was.

    Args:
        model: Any model.
    """
    was_training = [module for module in model.modules() if module.training]
    if was_training:
        model.train(False)
    try:
        yield
    finally:
        for module in was_training:
            module.training = True


def require_language_model(model: TokenModel) -> None:
    """Refuse what gives no logits of tokens.

    Args:
        model: What is to generate.

    Raises:
        UserError: If it reads no tokens, or has no head.
    """
    kind, config = type(model).__name__, getattr(model, "config", None)
    if not hasattr(config, "vocab_size"):
        raise UserError(f"model: expected a language model, got a {kind}, which reads no tokens")
    if not getattr(config, "head", True):
        raise UserError(f"model: expected a language model with a head, got a {kind} without one")


def require_tokens(model: TokenModel, tokens: torch.Tensor, name: str) -> None:
    """Refuse token ids that a model does not know; on a GPU they would end the process's use of it.

    Args:
        model: Whose vocabulary counts.
        tokens: Any shape.
        name: The argument, for the message.

    Raises:
        UserError: If they are not whole numbers from 0 to ``vocab_size - 1``.
    """
    top = model.config.vocab_size - 1
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise UserError(f"{name}: expected whole numbers from 0 to {top}, got {tokens.dtype}")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) <= top:
        raise UserError(
            f"{name}: expected token ids from 0 to {top}, got {int(tokens.min())} to {int(tokens.max())}"
        )
