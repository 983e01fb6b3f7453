"""Prepare gene_segmentation: complete annotated chromosomes of bacteria and archaea, as GenBank files."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from genomics.annotations import label_bases
from genomics.gene_labels import CODING, CODING_CLASSES, UNKNOWN
from recipes.genomics.genomes import GENOMES, SOURCE, members
from recipes.prepared import Preparation, prepare_set


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the Debian package already on disk.

    Returns:
        The folder with one GenBank file per genome and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Copy the GenBank files under the genomes' names, once they can be read and labelled.

    Returns:
        Bases of each genome, and the shares of coding and of unknown ones.
    """
    summary: dict[str, Any] = {}
    for name, genome in GENOMES.items():
        record = genome.read(unpacked)
        labels = label_bases(record, CODING)
        coding = np.isin(labels, np.arange(len(CODING.classes))[CODING_CLASSES])
        summary[name] = {
            "bases": len(labels),
            "coding": round(float(coding.mean()), 4),
            "unknown": round(float((labels == UNKNOWN).mean()), 6),
        }
        member = PurePosixPath(genome.member)
        suffix = ".gbk.gz" if member.suffix == ".gz" else ".gbk"
        shutil.copyfile(unpacked / member.name, folder / f"{name}{suffix}")
    return {"genomes": summary}


PREPARATION = Preparation(
    name="gene_segmentation",
    version=1,
    source=SOURCE,
    members=members(GENOMES),
    build=build,
)
