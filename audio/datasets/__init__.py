"""Recordings as batches, from disk, from memory or from that of the device that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audio.batches import LabelledWaveforms, WaveformBatch

if TYPE_CHECKING:
    from audio.datasets.loading import LoadingConfig
    from audio.datasets.module import WaveformDataModule

__all__ = ["LabelledWaveforms", "LoadingConfig", "WaveformBatch", "WaveformDataModule"]

_LAZY = {"LoadingConfig": "audio.datasets.loading", "WaveformDataModule": "audio.datasets.module"}


def __getattr__(name: str) -> Any:
    """Import the data module on first use: it brings Lightning, which readers do not need."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
