"""Where a generated sequence ends before the length that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from seqmamba.nn.options import is_whole, require


@dataclass(frozen=True)
class StopRule:
    """Tokens that end their row; the other rows go on. Generation ends when no row is left.

    Args:
        tokens: Drawing any of these ends a row; it is the row's last token.
        pad: Fills the row behind it.

    Raises:
        UserError: If a token is no token id.
    """

    tokens: tuple[int, ...] = ()
    pad: int = 0

    def __post_init__(self) -> None:
        listed = isinstance(self.tokens, tuple | list)
        expected = "a tuple of token ids"
        require(listed and all(is_whole(token, 0) for token in self.tokens), "tokens", expected, self.tokens)
        object.__setattr__(self, "tokens", tuple(self.tokens))  # YAML and JSON have lists
        require(is_whole(self.pad, 0), "pad", "a token id", self.pad)
