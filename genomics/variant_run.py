"""Scoring a file of variants of any size: in order, in bounded memory, resumable to the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import nn

from genomics.fasta import Fasta
from genomics.models import SequenceModel
from genomics.variant_results import AddedFields, Results
from genomics.variant_scores import DEFAULT_WINDOW, Strands, VariantScorer
from genomics.variant_summary import Summary
from genomics.variant_tables import TableWriter, VariantTable, write_parquet
from genomics.variants import Haplotypes, Reason, Variant, VariantWindows
from genomics.vcf import Vcf, VcfWriter
from seqmamba.errors import UserError
from seqmamba.file_identity import identify
from seqmamba.model_identity import fingerprint
from seqmamba.progress import Progress
from seqmamba.resumable import ResumableFile
from seqmamba.training.hardware import device_kind

VCF_SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz")
TABLE_SUFFIXES = (".tsv", ".tsv.gz", ".parquet")
CPU_BATCH = 16_384  # bases; at 65,536 the same variants took a tenth more time
GPU_BATCH = 262_144
_CHUNK_BATCHES = 4  # batches whose rows are held at once, so that equal lengths find each other
_CHUNK_BYTES = 16_000_000  # of rows held at once: a row with thousands of samples is long


@dataclass(frozen=True)
class ScoringConfig:
    """How to score a file of variants.

    Args:
        scores: Out of ``llr``, ``embedding`` and ``delta``; None for the model's own.
        window: Bases around a variant; None for what the model was trained on, else 1,024.
        strands: See `VariantScorer`.
        batch_bases: See `VariantScorer`; None for `CPU_BATCH` or `GPU_BATCH`.
        prefix: First part of the name of every INFO field or column.
    """

    scores: tuple[str, ...] | None = None
    window: int | None = None
    strands: Strands = "both"
    batch_bases: int | None = None
    prefix: str = "SM"


def choose_window(model: nn.Module, window: int | None) -> int:
    """Return the window to use.

    Args:
        model: Any model.
        window: What was asked for, if anything.

    Raises:
        UserError: If the model was trained on shorter sequences only.
    """
    limit = model.config.max_length if isinstance(model, SequenceModel) else None
    if window is None:
        return limit or DEFAULT_WINDOW
    if limit is not None and window > limit:
        raise UserError(f"--window {window}: the model was trained on at most {limit} bases")
    return window


def score_variants(
    model: nn.Module,
    genome: Fasta,
    source: Vcf | VariantTable,
    output: Path,
    config: ScoringConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Summary | None:
    """Score every variant of a file.

    The whole file is checked first, so that a bad line costs no computing. The output appears when it is
    complete; until then an interrupted run can go on with ``resume``, and ends with the same bytes.

    Args:
        model: See `VariantScorer`.
        genome: The genome that the variants lie on.
        source: The variants.
        output: ``.vcf``, ``.vcf.gz`` (bgzip), ``.tsv``, ``.tsv.gz`` or ``.parquet``.
        config: How to score.
        resume: See `ResumableFile`.
        overwrite: See `ResumableFile`.

    Returns:
        What became of the rows; None if the output was complete already.

    Raises:
        UserError: For a bad line, with its number; an unknown kind of output; a model that gives no such
            score; or an earlier run that is in the way.
    """
    _check_output(output, source.path)
    window = choose_window(model, config.window)
    device = next(model.parameters()).device
    chosen = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    batch_bases = chosen if config.batch_bases is None else config.batch_bases
    scorer = VariantScorer(model, config.scores, config.strands, batch_bases)
    fields = AddedFields(config.prefix, scorer.scores)
    place = f"window of {window} bases with POS at index {window // 2} from 0 on the forward strand"
    writer = _writer(output, source, genome, fields, f"{type(model).__name__}, {place}")
    settings = {
        "input": identify(source.path),
        "genome": identify(genome.path),
        "model": fingerprint(model),
        "device": device_kind(device),
        "window": window,
        "scores": [field.id for field in fields.scores],
        "strands": config.strands,
        "batch_bases": batch_bases,
    }
    bgzip = output.name.endswith("gz")
    with ResumableFile(output, settings, bgzip=bgzip, resume=resume, overwrite=overwrite) as file:
        if file.complete:
            return None
        total = _check_rows(source, writer)
        rows = max(1, _CHUNK_BATCHES * batch_bases // window)
        summary = _write(file, source, writer, VariantWindows(genome, window), scorer, rows, total)
        if output.suffix == ".parquet":
            file.finish(lambda table, target: write_parquet(table, target, fields))
        else:
            file.finish()
    return summary


def _check_rows(source: Vcf | VariantTable, writer: VcfWriter | TableWriter) -> int:
    """Read every row, and return how many there are."""
    total = 0
    for variant in source.variants():
        writer.check(variant)
        total += 1
    return total


def _write(
    file: ResumableFile,
    source: Vcf | VariantTable,
    writer: VcfWriter | TableWriter,
    windows: VariantWindows,
    scorer: VariantScorer,
    rows: int,
    total: int,
) -> Summary:
    """Score the rows that the file lacks, so many at once, out of a total."""
    summary = Summary.from_dict(file.notes)
    if not file.size:
        file.write(writer.header, 0, summary.as_dict())
    progress = Progress(total, file.records, unit="variants")
    for chunk in _chunks(islice(source.variants(), file.records, None), rows):
        lines = []
        for variant, results in zip(chunk, _score(chunk, windows, scorer), strict=True):
            lines.append(writer.lines(variant, results))
            summary.add(variant, results)
        file.write(b"".join(lines), len(chunk), summary.as_dict())
        progress.advance(len(chunk))
    progress.finish()
    return summary


def _score(chunk: Sequence[Variant], windows: VariantWindows, scorer: VariantScorer) -> Iterator[Results]:
    """Score some rows together."""
    sites = [windows.at(variant) for variant in chunk]
    pairs = [allele for site in sites for allele in site.alleles if isinstance(allele, Haplotypes)]
    values, failed = scorer(pairs)
    found = zip(values, failed, strict=True)
    for site in sites:
        reasons: list[Reason | None] = []
        rows = []
        for allele in site.alleles:
            if isinstance(allele, Haplotypes):
                row, broken = next(found)
                reasons.append(Reason.NOT_FINITE if broken else None)
            else:
                row = np.full(len(scorer.scores), np.nan)
                reasons.append(allele)
            rows.append(row)
        yield Results(tuple(reasons), np.stack(rows), site.mismatch)


def _chunks(variants: Iterable[Variant], rows: int) -> Iterator[list[Variant]]:
    """Cut the rows into pieces that depend on nothing but the rows."""
    chunk: list[Variant] = []
    size = 0
    for variant in variants:
        chunk.append(variant)
        size += sum(map(len, variant.fields))
        if len(chunk) == rows or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _check_output(output: Path, source: Path) -> None:
    if not output.name.endswith((*VCF_SUFFIXES, *TABLE_SUFFIXES)):
        kinds = ", ".join((*VCF_SUFFIXES, *TABLE_SUFFIXES))
        raise UserError(f"--output {output}: expected a name that ends with one of {kinds}")
    if output.exists() and output.samefile(source):
        raise UserError(f"--output {output}: is the file that is read", hint="name another file")


def _writer(
    output: Path, source: Vcf | VariantTable, genome: Fasta, fields: AddedFields, note: str
) -> VcfWriter | TableWriter:
    if output.name.endswith(VCF_SUFFIXES):
        return VcfWriter(fields, source if isinstance(source, Vcf) else genome, f"seqmamba_scores={note}")
    return TableWriter(fields, source)
