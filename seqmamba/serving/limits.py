"""What a server takes on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from seqmamba.nn.options import require_whole


@dataclass(frozen=True)
class Limits:
    """How much a server does, and how long it waits.

    Args:
        body_bytes: Of the body of a request.
        items: Sequences, or recordings, of a request.
        bases: Of a sequence.
        audio_seconds: Of a recording.
        seconds: From the end of a request's body to its answer, and for the body itself to arrive.
        waiting: Requests that may wait; further ones are told to come again.
        together: Requests that a worker answers at once.

    Raises:
        UserError: If one is not positive.
    """

    body_bytes: int = 32 * 2**20
    items: int = 10_000
    bases: int = 1_000_000
    audio_seconds: int = 600
    seconds: int = 60
    waiting: int = 512
    together: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            require_whole(field.name, getattr(self, field.name))
