"""Saturation genome editing of BRCA1 (Findlay et al. 2018, doi:10.1038/s41586-018-0461-z): 3,893 SNVs.

Supplementary table 1 as released (an Excel file with two lines of group titles above the column names) or
exported as text. Positions are 1-based, on chromosome 17 of hg19. Nobody trains on it: a model scores the
variants (`seqmamba genomics score-variants` on the VCF that `write_vcf` makes), and the score should tell the
loss-of-function variants from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from genomics.areas import ranked_areas
from genomics.benchmarks.tables import read_rows
from genomics.variants import Variant, parse_variant
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate

CLASSES = ("FUNC", "INT", "LOF")
"""Functional, intermediate, loss of function."""

_COLUMNS = {
    "chrom": ("chromosome", "chrom", "chr"),
    "position": ("position (hg19)", "position", "pos"),
    "reference": ("reference", "ref"),
    "alt": ("alt", "alternate"),
    "score": ("function.score.mean", "score"),
    "class": ("func.class", "class"),
}


@dataclass(frozen=True)
class FunctionalVariant:
    """A variant and what it does to the gene.

    Attributes:
        variant: The variant; its position is 1-based.
        score: Mean function score; the lower, the more the gene's function is lost.
        label: One of `CLASSES`.
    """

    variant: Variant
    score: float
    label: str


def read_brca1(path: str | Path) -> list[FunctionalVariant]:
    """Read the table.

    Args:
        path: ``41586_2018_461_MOESM3_ESM.xlsx``, or the same as text with commas or tabs.

    Raises:
        UserError: With file and line, for a missing column, or a cell that is no position, allele, number or
            class.
    """
    found = []
    for number, row in enumerate(read_rows(path, _COLUMNS), start=1):
        if row["class"] not in CLASSES:
            raise UserError(
                f"{row.where}: func.class: expected one of {', '.join(CLASSES)}, got {row['class']!r}"
            )
        position = str(row.integer("position")).encode()
        ref, alt = row["reference"].encode(), row["alt"].encode()
        chrom = row["chrom"].removesuffix(".0")
        fields = (chrom.encode(), position, b".", ref, alt)
        variant = parse_variant(number, chrom, position, ref, alt, fields, b"\n", row.where)
        found.append(FunctionalVariant(variant, row.number("score"), row["class"]))
    if not found:
        raise UserError(f"{path}: holds no variant")
    return found


def write_vcf(variants: Sequence[FunctionalVariant], path: str | Path) -> None:
    """Write the variants as VCF 4.2, sorted by position, with their score and class in INFO.

    Args:
        variants: The variants.
        path: The file to write; it appears whole or not at all.
    """
    ordered = sorted(variants, key=lambda one: (one.variant.chrom, one.variant.position, one.variant.alts))
    header = [
        "##fileformat=VCFv4.2",
        "##reference=hg19",
        *(f"##contig=<ID={chrom}>" for chrom in dict.fromkeys(one.variant.chrom for one in ordered)),
        '##INFO=<ID=SGE_SCORE,Number=1,Type=Float,Description="Mean function score (Findlay et al. 2018)">',
        '##INFO=<ID=SGE_CLASS,Number=1,Type=String,Description="FUNC, INT or LOF (Findlay et al. 2018)">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    with atomic_path(path) as part, part.open("w", encoding="ascii", newline="\n") as out:
        out.writelines(f"{line}\n" for line in header)
        for one in ordered:
            place = f"{one.variant.chrom}\t{one.variant.position}\t.\t{one.variant.ref.decode()}"
            alts = b",".join(one.variant.alts).decode()
            out.write(f"{place}\t{alts}\t.\t.\tSGE_SCORE={one.score:.6g};SGE_CLASS={one.label}\n")


def score_brca1(
    variants: Sequence[FunctionalVariant],
    effects: Float[np.ndarray, " n"],
    *,
    intermediate: Literal["functional", "left_out"] = "functional",
    n_bootstrap: int = 1000,
) -> dict[str, Estimate]:
    """Say how well effects tell loss-of-function variants from the others.

    Args:
        variants: The variants.
        effects: One number a variant, such as the log-likelihood of ALT minus that of REF: the lower, the
            more harmful.
        intermediate: Whether INT counts as functional, as in the published zero-shot evaluations of Evo 2, or
            is left out.
        n_bootstrap: Resamples behind the intervals.

    Returns:
        ``auroc`` and ``auprc`` of loss of function, with 95 % intervals.

    Raises:
        UserError: If there is not one finite effect a variant.
    """
    values = np.asarray(effects, dtype=np.float64)
    if values.shape != (len(variants),) or not np.isfinite(values).all():
        raise UserError(f"effects: expected {len(variants)} finite numbers, got shape {values.shape}")
    labels = np.array([one.label for one in variants])
    kept = labels != "INT" if intermediate == "left_out" else np.ones(len(labels), dtype=bool)
    return harm_areas(values[kept], labels[kept] == "LOF", n_bootstrap=n_bootstrap)


def harm_areas(
    effects: Float[np.ndarray, " n"], harmful: Bool[np.ndarray, " n"], *, n_bootstrap: int = 1000
) -> dict[str, Estimate]:
    """Say how well effects tell harmful variants from the others.

    Args:
        effects: One finite number a variant: the lower, the more harmful.
        harmful: Which are.
        n_bootstrap: Resamples behind the intervals.

    Returns:
        ``auroc`` and ``auprc`` of the harmful ones, with 95 % intervals.
    """
    return ranked_areas(-effects, harmful, n_bootstrap=n_bootstrap)
