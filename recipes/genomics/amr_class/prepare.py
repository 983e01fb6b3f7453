"""Prepare amr_class: resistance genes of ResFinder by drug class, gene families whole in one part."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genomics.alphabet import TokenArray, decode, encode
from genomics.fasta import read_fasta
from genomics.similarity import canonical_groups, similarity_clusters
from genomics.splits import SplitConfig
from recipes.genomics.grouping import join_groups
from recipes.genomics.writing import write_fasta, write_labels
from recipes.prepared import Preparation, prepare_set
from recipes.sources import WheelSource
from seqmamba.stratify import PARTS, deal_groups

CLASSES = (
    "aminoglycoside",
    "beta-lactam",
    "colistin",
    "fosfomycin",
    "macrolide",
    "phenicol",
    "quinolone",
    "sulphonamide",
    "tetracycline",
    "trimethoprim",
)
"""The classes with at least 40 genes; six more have 2 to 24."""

FOLDER = "staramr/databases/data/dist/resfinder"
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
SEED = 0


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write ``genes.fa`` and ``genes.tsv`` (name, label, split).

    A gene that is listed twice, in one class or in two, is kept where it is listed first. Genes of one name
    are a family, and so are genes whose sequences are alike.

    Returns:
        How many genes and families each part has of every class.
    """
    names: list[str] = []
    labels: list[int] = []
    tokens: list[TokenArray] = []
    for number, label in enumerate(CLASSES):
        for record in read_fasta(unpacked / f"{label}.fsa"):
            names.append(record.name)
            labels.append(number)
            tokens.append(encode(record.sequence))
    first = np.unique(canonical_groups(tokens), return_index=True)[1].tolist()
    kept_names = [names[i] for i in first]
    kept_tokens = [tokens[i] for i in first]
    strata = np.array([labels[i] for i in first])
    named = np.unique([family_name(name) for name in kept_names], return_inverse=True)[1]
    families = join_groups(named, similarity_clusters(kept_tokens, SplitConfig().similarity))
    parts = deal_groups(families, strata, FRACTIONS, seed=SEED).tolist()
    unique = [f"{name}|{i}" if kept_names.count(name) > 1 else name for i, name in enumerate(kept_names)]
    write_fasta(folder / "genes.fa", zip(unique, map(decode, kept_tokens), strict=True))
    words = [CLASSES[number] for number in strata.tolist()]
    write_labels(folder / "genes.tsv", zip(unique, words, parts, strict=True))
    genes = Counter(zip(parts, words, strict=True))
    held = Counter((part, label) for part, label, _ in set(zip(parts, words, families.tolist(), strict=True)))
    return {
        kind: {part: {label: counts[part, label] for label in CLASSES} for part in PARTS}
        for kind, counts in (("genes", genes), ("families", held))
    }


def family_name(name: str) -> str:
    """Return the gene of an allele: blaNDM of blaNDM-19_1_MF370080, dfrA of dfrA18_1_AY034138.

    Alleles are numbered behind a hyphen (bla), a point (mcr-1.2) or a capital letter (dfrA18); a number that
    is part of a gene's own name (sul1, tet(47)) stays.

    Args:
        name: Gene, variant and accession, joined by underscores, as ResFinder writes them.
    """
    gene = name.split("_")[0]
    if gene.startswith("bla"):
        return re.sub(r"[-0-9].*$", "", gene)
    gene = re.sub(r"\.[0-9]+$", "", gene)
    return re.sub(r"(?<=[A-Z])[0-9]+[a-z]?$|(?<=-I[a-z])[0-9]+$", "", gene)


PREPARATION = Preparation(
    name="amr_class",
    version=1,
    source=WheelSource(
        package="staramr",
        version="0.12.3",
        filename="staramr-0.12.3-py3-none-any.whl",
        sha256="1c9c86db3e4a9156f98d336e07bbfe31060161e945eef81916c37c6695133d3a",
    ),
    members=tuple(f"{FOLDER}/{label}.fsa" for label in CLASSES),
    build=build,
)

prepare = partial(prepare_set, PREPARATION)
