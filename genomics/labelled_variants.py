"""Variants with labels or effect sizes, from VCF or a table, checked against a genome.

Positions are 1-based in the files, as in VCF. Values come from INFO fields of a VCF file, or from columns of
a table. A field with one value for each ALT allele gives every allele its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from genomics.fasta import Fasta
from genomics.files import decode_text
from genomics.numbers import finite_number
from genomics.variant_tables import VariantTable
from genomics.variants import Reason, Variant, VariantWindows
from genomics.vcf import INFO, Vcf
from seqmamba.errors import UserError

AlleleTask = Literal["labels", "effects"]
MISSING = {"", ".", "na", "nan", "null", "none"}
_SHOWN = 3
_FLAG = re.compile(rb"##INFO=<ID=([^,>]+),.*Type=Flag")


@dataclass(frozen=True)
class LabelConfig:
    """What is known of variants.

    Args:
        targets: INFO keys of a VCF file, or columns of a table.
        task: ``labels``: 0 or 1; ``effects``: numbers with a sign, such as effect sizes.
        positive: The word that stands for 1, and any other word for 0; None expects 0 and 1.
        part: INFO key or column that names the part of a variant (train, validation, test), or None.

    Raises:
        UserError: If there is no target, or one comes twice.
    """

    targets: tuple[str, ...]
    task: AlleleTask = "labels"
    positive: str | None = None
    part: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))  # YAML delivers lists
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise UserError(
                f"labels.targets: expected different names, at least one, got {list(self.targets)}"
            )
        if self.task not in ("labels", "effects"):
            raise UserError(f"labels.task: expected labels or effects, got {self.task!r}")
        if self.positive is not None and self.task == "effects":
            raise UserError("labels.positive: is for labels, not for effects")


@dataclass
class LabelledAlleles:
    """Single alleles that lie on the genome as the file says.

    Attributes:
        variants: One ALT allele each; `Variant.fields` are dropped. Names of sequences are the genome's.
        values: float32 (n, targets): 0 and 1, or effects; NaN where unknown.
        parts: What the file says of the part of each, or empty.
        dropped: Reason to number of alleles that take no part; ``UNLABELLED`` ones have no value at all.
        mismatches: Lines of the first rows whose REF is not the genome's.
    """

    variants: list[Variant]
    values: Float[np.ndarray, "n targets"]
    parts: list[str]
    dropped: Counter[str] = field(default_factory=Counter)
    mismatches: list[int] = field(default_factory=list)

    def notes(self, source: Path) -> list[str]:
        """Return what a user should know of the rows that take no part."""
        found = []
        if self.dropped:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())
            found.append(f"{source}: {len(self.variants):,} alleles take part; left out: {counts}")
        if self.mismatches:
            lines = ", ".join(map(str, self.mismatches))
            found.append(f"REF differs from the genome, first at {source}:{lines}; is it the right build?")
        return found


def read_labelled_alleles(
    path: str | Path, genome: Fasta, window: int, config: LabelConfig
) -> LabelledAlleles:
    """Read variants and what is known of them.

    Args:
        path: A VCF file (``.vcf``, ``.vcf.gz``), or a table with the columns that `VariantTable` knows.
        genome: The genome that REF is checked against.
        window: Bases around a variant that will be read.
        config: Where the values are.

    Raises:
        UserError: With file and line, for a row or a value that does not fit, or if no allele is left.
    """
    name = Path(path).name.lower()
    source = Vcf(path) if name.endswith((".vcf", ".vcf.gz", ".vcf.bgz")) else VariantTable(path)
    reader = _Values(source, config)
    windows = VariantWindows(genome, window)
    found = LabelledAlleles([], np.empty(0), [])
    rows: list[list[float]] = []
    for variant in source.variants():
        site = windows.at(variant)
        if site.mismatch and len(found.mismatches) < _SHOWN:
            found.mismatches.append(variant.line)
        words = reader.words(variant)
        for number, allele in enumerate(site.alleles):
            if isinstance(allele, Reason):
                found.dropped[str(allele)] += 1
                continue
            values = [reader.value(word, number, variant) for word in words]
            if all(map(math.isnan, values)):
                found.dropped["UNLABELLED"] += 1
                continue
            chrom, alt = genome.resolve(variant.chrom), variant.alts[number]
            kept = Variant(variant.line, chrom, variant.position, variant.ref, (alt,), (), b"")
            found.variants.append(kept)
            found.parts.append(reader.part(variant))
            rows.append(values)
    if not rows:
        hint = found.notes(source.path)
        raise UserError(f"{path}: no allele can be used", hint=hint[0] if hint else None)
    found.values = np.array(rows, dtype=np.float32)
    return found


class _Values:
    """Finds the values of a row in its INFO field or its columns."""

    def __init__(self, source: Vcf | VariantTable, config: LabelConfig) -> None:
        self._source = source
        self._config = config
        wanted = [*config.targets, *([config.part] if config.part else [])]
        known = source.info_ids if isinstance(source, Vcf) else source.columns
        for name in wanted:
            if name not in known:
                what = "INFO field" if isinstance(source, Vcf) else "column"
                shown = ", ".join(sorted(known)[:8]) or "none"
                raise UserError(f"{source.path}: has no {what} {name!r}", hint=f"it has {shown}")
        header = source.header if isinstance(source, Vcf) else []
        flags = (match for line in header if (match := _FLAG.match(line)))
        self._absent_flags = {match[1].decode("utf-8", "replace"): "0" for match in flags}

    def words(self, variant: Variant) -> Sequence[str | None]:
        """Return the text of every target; None where there is none."""
        cells = self._cells(variant)
        return [cells.get(target) for target in self._config.targets]

    def part(self, variant: Variant) -> str:
        """Return the text that names the part, or nothing."""
        return "" if self._config.part is None else self._cells(variant).get(self._config.part) or ""

    def value(self, word: str | None, allele: int, variant: Variant) -> float:
        """Read the value of one allele."""
        word = "" if word is None else word.strip()
        several = word.split(",")
        if len(variant.alts) > 1 and len(several) == len(variant.alts):
            word = several[allele].strip()
        if word.lower() in MISSING:
            return math.nan
        if self._config.positive is not None:
            return float(word == self._config.positive)
        value = finite_number(word)
        if self._config.task == "labels" and value not in (0, 1):
            raise self._wrong(variant, "0 or 1", word, "labels.positive names the word that stands for 1")
        if value is None:
            raise self._wrong(variant, "a number", word)
        return value

    def _cells(self, variant: Variant) -> dict[str, str]:
        if isinstance(self._source, VariantTable):
            texts = map(decode_text, variant.fields)
            return dict(zip(self._source.columns, texts, strict=True))
        cells = {}
        for entry in decode_text(variant.fields[INFO]).split(";"):
            key, equals, text = entry.partition("=")
            cells[key] = text if equals else "1"  # a flag
        # A flag that is not there is 0; a key with a value that is not there is unknown.
        return self._absent_flags | cells

    def _wrong(self, variant: Variant, expected: str, got: str, hint: str | None = None) -> UserError:
        where = f"{self._source.path}:{variant.line}"
        names = ", ".join(self._config.targets)
        return UserError(f"{where}: {names}: expected {expected}, got {got[:40]!r}", hint=hint)
