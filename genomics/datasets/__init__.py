"""Labelled DNA sequences from the layouts that people have, and batches of them for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genomics.datasets.bed import from_bed
from genomics.datasets.class_fastas import from_class_fastas
from genomics.datasets.headers import from_headers
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.datasets.table import from_table

if TYPE_CHECKING:
    from genomics.datasets.alleles import PairedAlleleDataModule
    from genomics.datasets.genome_windows import GenomeWindowDataModule
    from genomics.datasets.module import SequenceDataModule
    from genomics.datasets.tracks import BinnedTrackDataModule

__all__ = [
    "BinnedTrackDataModule",
    "GenomeWindowDataModule",
    "LabelledSequences",
    "PairedAlleleDataModule",
    "SequenceDataModule",
    "TokenStore",
    "from_bed",
    "from_class_fastas",
    "from_headers",
    "from_table",
]

_LAZY = {
    "BinnedTrackDataModule": "genomics.datasets.tracks",
    "GenomeWindowDataModule": "genomics.datasets.genome_windows",
    "PairedAlleleDataModule": "genomics.datasets.alleles",
    "SequenceDataModule": "genomics.datasets.module",
}


def __getattr__(name: str) -> Any:
    """Import a data module on first use: it brings Lightning, which readers do not need."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
