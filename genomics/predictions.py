"""The table of predictions, as `seqmamba.predictions` defines it."""

from seqmamba.predictions import (
    FILE_NAME,
    SEPARATOR,
    THRESHOLD,
    Predictions,
)

__all__ = [
    "FILE_NAME",
    "SEPARATOR",
    "THRESHOLD",
    "Predictions",
]
