"""Labelled DNA sequences from the layouts that people have, and batches of them for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genomics.datasets.bed import from_bed
from genomics.datasets.class_fastas import from_class_fastas
from genomics.datasets.headers import from_headers
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.datasets.table import from_table

if TYPE_CHECKING:
    from genomics.datasets.genome_windows import GenomeWindowDataModule
    from genomics.datasets.module import SequenceDataModule

__all__ = [
    "GenomeWindowDataModule",
    "LabelledSequences",
    "SequenceDataModule",
    "TokenStore",
    "from_bed",
    "from_class_fastas",
    "from_headers",
    "from_table",
]


def __getattr__(name: str) -> Any:
    """Import a data module on first use: it brings Lightning, which readers do not need."""
    if name == "GenomeWindowDataModule":
        from genomics.datasets.genome_windows import GenomeWindowDataModule

        return GenomeWindowDataModule
    if name == "SequenceDataModule":
        from genomics.datasets.module import SequenceDataModule

        return SequenceDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
