"""Results and files for the tests of readers and writers of variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from variant_cases import COLUMNS

from genomics.variant_results import AddedFields, Results, Score
from genomics.variant_tables import TableWriter, VariantTable
from genomics.variants import Reason, Variant
from genomics.vcf import Vcf, VcfWriter

FIELDS = AddedFields("SM", [Score("LLR", 'a "quoted" \\ sentence\nof two lines'), Score("L2", "b")])
ROWS = [
    "chr1\t5\trs1\tA\tC\t30\tPASS\tAF=0.1\tGT:DP\t0/1:5",
    "chr1\t9\t.\tA\tC,<DEL>\t.\t.\t.\tGT\t1|2",
    "chr1\t9\t.\tA\t.\t.\tq10;s50\tDB;AF=.;\tGT\t./.",
]
BODY = "\n".join([f"{COLUMNS}\tFORMAT\tsample é", *ROWS]) + "\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def scored(variant: Variant, value: float = 0.5, *, mismatch: bool = False) -> Results:
    """Values for alleles with sequences."""
    reasons = tuple(Reason.SYMBOLIC if alt.startswith(b"<") else None for alt in variant.alts)
    values = np.array(
        [[np.nan, np.nan] if reason else [value, -1e-7] for reason in reasons] or [[np.nan] * 2]
    )
    return Results(reasons or (Reason.NO_ALT,), values, mismatch)


def copied(source: Vcf | VariantTable, writer: VcfWriter | TableWriter) -> str:
    lines = [writer.lines(variant, scored(variant)) for variant in source.variants()]
    return (writer.header + b"".join(lines)).decode()
