"""Variants that nobody trains on: BRCA1's, and the non-coding pathogenic ones of the long-range benchmark.

The variants are written as VCF, scored as `seqmamba genomics score-variants` does, which goes on where it
stopped, and the scores are compared with what is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from genomics.alphabet import decode
from genomics.areas import ranked_areas
from genomics.benchmarks.brca1 import read_brca1, write_vcf
from genomics.benchmarks.long_range import read_variant_effects
from genomics.benchmarks.task_rows import TaskRow
from genomics.fasta import Fasta
from genomics.files import decode_text
from genomics.masked_model import MaskedModel
from genomics.variant_run import ScoringConfig, score_variants
from genomics.vcf import INFO, Vcf
from seqmamba.atomic import atomic_path
from seqmamba.backbones import LanguageModel
from seqmamba.errors import UserError

QUIRKS = {
    "one_strand": "only the given strand is read",
    "intermediate_as_functional": "variants of intermediate effect count as functional",
}
"""What published zero-shot evaluations of BRCA1 do (Evo 2, doi:10.1101/2025.02.18.638918)."""

BRCA1_WINDOW = 8_192
OMIM_WINDOW = 2_048
_SCORES = {"SM_LLR": -1.0, "SM_COSINE": 1.0}
"""INFO field -> sign that makes it grow with harm."""


def zero_shot_rows(
    model: nn.Module, task: str, source: Path, genome: str | Path, window: int, output: Path
) -> list[TaskRow]:
    """Score the variants of a task and say how well the scores tell harmful ones.

    The score is the log-likelihood ratio of a language model, or for a model without that the distance of the
    pooled features. Alleles that cannot be laid on the genome are left out and counted.

    Args:
        model: A frozen model.
        task: ``sge`` (BRCA1) or ``pathogenic_omim``.
        source: The release.
        genome: FASTA file.
        window: Bases around a variant.
        output: Folder of the VCF files.

    Raises:
        UserError: If a file cannot be read, or the model gives no score.
    """
    output.mkdir(parents=True, exist_ok=True)
    variants, scored = output / "variants.vcf", output / "scored.vcf"
    if not variants.exists():
        if task == "sge":
            write_vcf(read_brca1(_table_of(source)), variants)
        else:
            _write_labelled(source, task, Fasta(genome), variants)
    speaks = isinstance(model, MaskedModel) or (isinstance(model, LanguageModel) and model.config.head)
    config = ScoringConfig(("llr" if speaks else "embedding",), window, strands="each")
    score_variants(model, Fasta(genome), Vcf(variants), scored, config, resume=True)
    return list(_rows(scored, "SM_LLR" if speaks else "SM_COSINE", task))


def _rows(scored: Path, field: str, task: str) -> Iterator[TaskRow]:
    words, numbers, without = _read(scored, field, "SGE_CLASS" if task == "sge" else "LABEL")
    harmful, sign = np.isin(words, ["LOF", "1"]), _SCORES[field]
    name = field.removeprefix("SM_")
    note = f"{without:,} without a score left out" if without else ""
    every = np.ones(len(words), dtype=bool)
    kinds = [("sound", "all", every, 0)]
    if task == "sge":
        kinds = [
            ("paper", "loss of function against all others", every, 1),
            ("sound", "loss of function against functional", words != "INT", 0),
        ]
    for protocol, part, rows, strand in kinds:
        if len(np.unique(harmful[rows])) < 2:
            raise UserError(f"{scored}: the scored variants are all of one kind")
        found = ranked_areas(sign * numbers[rows, strand], harmful[rows])
        for metric, estimate in found.items():
            yield TaskRow(name, protocol, part, metric, 1, 0, int(rows.sum()), estimate, note=note)


def _read(scored: Path, field: str, label: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return labels, scores of both strands and of the given one, and how many variants have none."""
    words, numbers, without = [], [], 0
    for variant in Vcf(scored).variants():
        entries = dict(entry.partition("=")[::2] for entry in decode_text(variant.fields[INFO]).split(";"))
        texts = [entries.get(name, ".") for name in (field, f"{field}_FWD")]
        if "." in texts:
            without += 1
            continue
        words.append(entries[label])
        numbers.append([float(text) for text in texts])
    if not words:
        raise UserError(f"{scored}: no variant has a score", hint="check that the genome is the right build")
    return np.array(words), np.array(numbers), without


def _write_labelled(source: Path, task: str, genome: Fasta, path: Path) -> None:
    """Write the variants of a long-range task as VCF; REF is the genome's where the table has none."""
    with atomic_path(path) as part, part.open("w", encoding="ascii", newline="\n") as out:
        out.write("##fileformat=VCFv4.2\n")
        out.write('##INFO=<ID=LABEL,Number=1,Type=Integer,Description="1 for pathogenic">\n')
        out.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for one in read_variant_effects(source, task):
            ref = one.ref or decode(genome.fetch(one.chrom, one.position, one.position + 1))
            out.write(f"{one.chrom}\t{one.position + 1}\t.\t{ref}\t{one.alt}\t.\t.\tLABEL={one.label}\n")


def _table_of(source: Path) -> Path:
    """Return the table of BRCA1: the file itself, or the only one of its kind in a folder."""
    if source.is_file():
        return source
    found = sorted(path for end in ("xlsx", "csv", "tsv") for path in source.glob(f"*.{end}"))
    if len(found) != 1:
        raise UserError(f"{source}: expected the table of Findlay et al. 2018, found {len(found)} tables")
    return found[0]
