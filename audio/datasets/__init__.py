"""Recordings as batches for training, from disk or from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audio.batches import LabelledWaveforms, WaveformBatch

if TYPE_CHECKING:
    from audio.datasets.module import LoadingConfig, WaveformDataModule

__all__ = ["LabelledWaveforms", "LoadingConfig", "WaveformBatch", "WaveformDataModule"]

_LAZY = {"LoadingConfig": "audio.datasets.module", "WaveformDataModule": "audio.datasets.module"}


def __getattr__(name: str) -> Any:
    """Import the data module on first use: it brings Lightning, which readers do not need."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
