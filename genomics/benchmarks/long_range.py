"""The variant and region tasks of the genomics long-range benchmark (Trop et al. 2024).

CSV tables beside a genome (hg38 as UCSC releases it). Positions are 1-based in the files and 0-based inside.
Windows are centred: with L bases, the variant's base is at index L // 2. The published loader drops rows
whose window leaves the chromosome, as does `VariantWindows`, and never compares REF with the genome, which
`VariantWindows` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from genomics.alphabet import TokenArray
from genomics.benchmarks.benchmark import Benchmark, PaperSettings
from genomics.benchmarks.examples import Example, collect, tokens_of
from genomics.benchmarks.tables import Columns, Row, read_rows
from genomics.datasets.records import LabelledSequences, normalise_part
from genomics.fasta import Fasta
from genomics.intervals import Interval
from seqmamba.errors import UserError
from seqmamba.paths import expand

VARIANT_TASKS = {
    "causal_eqtl": ("variant_effect_causal_eqtl/All_Tissues.csv",),
    "pathogenic_clinvar": ("variant_effect_pathogenic/vep_pathogenic_coding.csv",),
    "pathogenic_omim": (
        "variant_effect_pathogenic/vep_pathogenic_non_coding.csv",
        "variant_effect_pathogenic/vep_pathogenic_non_coding_subset.csv",
    ),
}
"""Task -> its table, or the tables of which the first that is there is read."""

REGION_TASKS = {
    task: tuple(f"regulatory_elements/{task}_dataset{ending}.csv" for ending in ("", "_subset"))
    for task in ("promoter", "enhancer")
}
"""Regulatory elements: likewise."""

_PLACE = {"chrom": ("CHROM", "chromosome"), "position": ("POS", "position")}
_VARIANT: Columns = {**_PLACE, "alt": ("ALT",), "label": ("label", "INT_LABEL"), "split": ("split",)}
_MORE: Columns = {"ref": ("REF",), "tissue": ("tissue",), "distance": ("distance_to_nearest_TSS",)}
_REGION: Columns = {
    "chrom": ("CHROM",),
    "start": ("START",),
    "stop": ("STOP",),
    "label": ("label",),
    "split": ("split",),
}


@dataclass(frozen=True, slots=True)
class LabelledVariant:
    """A single-base variant with what it does.

    Attributes:
        chrom: Chromosome as the file calls it.
        position: The changed base, 0-based.
        ref: The reference base, or None where the file has none.
        alt: The new base.
        label: 1 for causal or pathogenic, else 0.
        part: "train", "validation" or "test".
        tissue: Tissue of an eQTL, or None.
        distance: Bases to the nearest transcription start, or None.
        where: ``file:line``.
    """

    chrom: str
    position: int
    ref: str | None
    alt: str
    label: int
    part: str
    tissue: str | None
    distance: float | None
    where: str


def read_variant_effects(source: str | Path, task: str) -> Iterator[LabelledVariant]:
    """Read the variants of a task, one after the other: the largest table has 2.3 million.

    Args:
        source: Folder of the release.
        task: A key of `VARIANT_TASKS`.

    Raises:
        UserError: With file and line, for a file or a column that is missing, or a cell that does not fit.
    """
    for row in read_rows(_existing(expand(source), VARIANT_TASKS[task]), _VARIANT, _MORE):
        alt, ref = row["alt"].upper(), (row.get("ref") or "").upper()
        for letters in (alt, *([ref] if ref else [])):
            if len(letters) != 1 or letters not in "ACGT":
                raise UserError(f"{row.where}: expected a variant of one base, got {ref or '?'}>{alt}")
        label = row.integer("label")
        if label not in (0, 1):
            raise UserError(f"{row.where}: label: expected 0 or 1, got {label}")
        yield LabelledVariant(
            chrom=row["chrom"],
            position=_one_based(row, "position"),
            ref=ref or None,
            alt=alt,
            label=label,
            part=normalise_part(row["split"], row.where),
            tissue=row.get("tissue"),
            distance=row.number("distance") if row.get("distance") else None,
            where=row.where,
        )


class VariantWindows:
    """The two sequences of a variant: the genome's, and the same with the new base in its middle.

    Args:
        genome: FASTA file of the genome.
        length: Bases of a window.

    Attributes:
        counts: How many variants were ``used``, ``outside`` (the window leaves the chromosome; dropped, as
            published) and ``ref_mismatch`` (used, but REF is not what the genome has there).
    """

    def __init__(self, genome: str | Path, length: int) -> None:
        if length < 1:
            raise UserError(f"length: expected a positive number of bases, got {length}")
        self._fasta = Fasta(genome)
        self._length = length
        self.counts: Counter[str] = Counter()

    def __call__(self, variant: LabelledVariant) -> tuple[TokenArray, TokenArray] | None:
        """Return the tokens of the reference and of the alternative, each (length,), or None.

        Args:
            variant: The variant.

        Raises:
            UserError: With file and line, if the genome has no such chromosome.
        """
        try:
            chrom = self._fasta.resolve(variant.chrom)
        except UserError as error:
            raise UserError(f"{variant.where}: {error.message}", hint=error.hint) from None
        reference = centred(self._fasta, chrom, variant.position, self._length)
        if reference is None:
            self.counts["outside"] += 1
            return None
        alternative = reference.copy()
        middle = self._length // 2
        alternative[middle] = tokens_of(variant.alt, variant.where)[0]
        if variant.ref is not None and reference[middle] != tokens_of(variant.ref, variant.where)[0]:
            self.counts["ref_mismatch"] += 1
        self.counts["used"] += 1
        return reference, alternative


def read_regions(
    source: Path, task: str, genome: str | Path | None, length: int | None = None
) -> LabelledSequences:
    """Read regulatory elements and other regions of the same kind.

    Args:
        source: Folder of the release.
        task: A key of `REGION_TASKS`.
        genome: FASTA file of hg38.
        length: Bases around the centre of each region; None reads the region itself. Those whose window
            leaves the chromosome are left out, as published.

    Raises:
        UserError: With file and line, for anything missing or wrong.
    """
    if genome is None:
        raise UserError(f"{source}: holds coordinates, so --genome, a FASTA file of hg38, is needed")
    if not isinstance(genome, str | Path):
        raise UserError("genome: expected one FASTA file, got several")
    table = _existing(source, REGION_TASKS[task])
    return collect(_regions(table, Fasta(expand(genome)), length), str(table))


def _regions(table: Path, fasta: Fasta, length: int | None) -> Iterator[Example]:
    for number, row in enumerate(read_rows(table, _REGION)):
        try:
            chrom = fasta.resolve(row["chrom"])
        except UserError as error:
            raise UserError(f"{row.where}: {error.message}", hint=error.hint) from None
        start, end = _one_based(row, "start"), row.integer("stop")
        if start >= end:
            raise UserError(f"{row.where}: expected START <= STOP, got {start + 1} and {end}")
        if length is not None:
            start = (start + end) // 2 - length // 2
            end = start + length
        if start < 0 or end > fasta.length(chrom):
            continue
        part = normalise_part(row["split"], row.where)
        place = Interval(chrom, start, end)
        yield Example(
            f"{part}_{number:06d}", fasta.fetch(chrom, start, end), row["label"], part, row.where, place
        )


def centred(fasta: Fasta, chrom: str, position: int, length: int) -> TokenArray | None:
    """Read a window of a genome with a base in its middle; None where it leaves the chromosome.

    Args:
        fasta: The genome.
        chrom: Chromosome, with or without ``chr``.
        position: The base, 0-based; it is at index length // 2.
        length: Bases of the window.
    """
    start = position - length // 2
    if start < 0 or start + length > fasta.length(chrom):
        return None
    return fasta.fetch(chrom, start, start + length)


def _existing(source: Path, names: Sequence[str]) -> Path:
    for name in names:
        for path in (source / name, source / Path(name).name):
            if path.is_file():
                return path
    raise UserError(f"{source}: has no {' or '.join(names)}", hint="give the folder of the release")


def _one_based(row: Row, name: str) -> int:
    value = row.integer(name)
    if value < 1:
        raise UserError(f"{row.where}: {name}: expected a position from 1, got {value}")
    return value - 1


PAPER = PaperSettings(
    "Genomics long-range benchmark (Trop et al. 2024): split and metric; the training is ours"
)
RELEASE = "huggingface.co/datasets/InstaDeepAI/genomics-long-range-benchmark"
WINDOW = 2_048
"""Bases of a window where nobody says otherwise."""

BENCHMARKS = tuple(
    Benchmark(
        f"long_range/{task}",
        partial(read_regions, length=WINDOW),
        "auroc",
        PAPER,
        on_genome=True,
        windowed=True,
        release=RELEASE,
    )
    for task in REGION_TASKS
)
"""The tasks that are regions with one label: promoters and enhancers."""
