"""Fixtures of the genomics tests; being here also lets every folder below import `sequence_files`."""

from __future__ import annotations

import pytest
from sequence_files import write_classes


@pytest.fixture(scope="session")
def class_fastas(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of pos.fa and neg.fa: 60 sequences each, with and without a motif."""
    pos, neg = write_classes(tmp_path_factory.mktemp("classes"))
    return str(pos), str(neg)
