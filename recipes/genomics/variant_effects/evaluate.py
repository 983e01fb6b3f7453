"""Say how well scores of variants tell harmful from harmless ones.

python -m recipes.genomics.variant_effects.evaluate SCORED.vcf [--data FOLDER] [-o RESULTS.json]

The truth is in the INFO column: EFFECT, as `prepare` writes it, or SGE_CLASS, as `brca1` writes it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from genomics.alphabet import encode
from genomics.benchmarks.brca1 import harm_areas
from genomics.fasta import Fasta
from genomics.files import decode_text
from genomics.vcf import INFO, Vcf
from recipes.genomics.blocks import read_part
from recipes.genomics.variant_effects.flanks import FlankTable
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate

GENOME = "escherichia_coli"


@dataclass(frozen=True)
class Scored:
    """The variants that have a score, one alternative allele each.

    Attributes:
        position: 1-based.
        alt: Letter of the new base.
        effect: The score: the lower, the less the model expects ALT.
        info: Key to value of the INFO column.
        without: How many variants have no score.
    """

    position: np.ndarray
    alt: list[str]
    effect: Float[np.ndarray, " n"]
    info: list[dict[str, str]]
    without: int

    def column(self, key: str) -> Shaped[np.ndarray, " n"]:
        """Return the values of an INFO key; the empty string where there is none."""
        return np.array([info.get(key, "") for info in self.info])


def read_scored(path: Path, field: str) -> Scored:
    """Read a VCF file that ``seqmamba genomics score-variants`` wrote.

    Args:
        path: The file.
        field: INFO key of the score.

    Raises:
        UserError: If no variant has the score.
    """
    positions, alts, effects, kept = [], [], [], []
    without = 0
    for variant in Vcf(path).variants():
        pairs = (entry.partition("=") for entry in decode_text(variant.fields[INFO]).split(";"))
        info = {key: value for key, _, value in pairs}
        try:
            effect = float(info.get(field, "."))
        except ValueError:  # a point, or several alleles
            without += 1
            continue
        positions.append(variant.position)
        alts.append(decode_text(variant.alts[0]))
        effects.append(effect)
        kept.append(info)
    if not effects:
        raise UserError(f"{path}: no variant has a number {field}", hint="--field names another INFO key")
    return Scored(np.array(positions), alts, np.array(effects), kept, without)


Comparison = Callable[[Scored], tuple[np.ndarray, np.ndarray]]
"""Gives which variants take part, and which of all are the harmful ones."""


def _effects(harmful: str, third: bool = False) -> Comparison:
    def choose(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
        effect = scored.column("EFFECT")
        member = np.isin(effect, (harmful, "synonymous"))
        return member & ((scored.column("CODON_POS") == "3") | (not third)), effect == harmful

    return choose


def _lost(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    found = scored.column("SGE_CLASS")
    return found != "", found == "LOF"


COMPARISONS: dict[str, Comparison] = {
    "nonsense against synonymous": _effects("nonsense"),
    "missense against synonymous": _effects("missense"),
    "nonsense against synonymous, third bases": _effects("nonsense", third=True),
    "missense against synonymous, third bases": _effects("missense", third=True),
    "loss of function against the others": _lost,
}


def compare(scored: Scored, effects: Float[np.ndarray, " n"]) -> dict[str, dict[str, Estimate]]:
    """Compute AUROC and AUPRC of every comparison that the variants allow.

    Args:
        scored: The variants.
        effects: One number a variant, lower for the more harmful; a NaN takes no part.
    """
    found = {}
    for name, choose in COMPARISONS.items():
        member, harmful = choose(scored)
        member = member & np.isfinite(effects)
        if (member & harmful).any() and (member & ~harmful).any():
            found[name] = harm_areas(effects[member], harmful[member])
    return found


def baselines(scored: Scored, data: Path) -> dict[str, Float[np.ndarray, " n"]]:
    """Return what counting says of the variants of the prepared set.

    Args:
        scored: The variants.
        data: The prepared set: the genome and its blocks.

    Returns:
        ``flanks``: the base given its neighbours, counted in the training blocks; ``codon position``: that
        third bases matter least.
    """
    fasta = Fasta(data / f"{GENOME}.fa")
    name = fasta.names[0]
    tokens = fasta.fetch(name, 0, fasta.length(name))
    table = FlankTable(tokens[start:end] for start, end in read_part(data / f"{GENOME}.bed", "train"))
    alts = encode("".join(scored.alt)).astype(np.int64)
    return {
        "flanks": table.ratios(tokens, scored.position - 1, alts),
        "codon position": np.where(scored.column("CODON_POS") == "3", 1.0, 0.0),
    }


def _as_json(comparisons: dict[str, dict[str, Estimate]]) -> dict[str, dict[str, dict[str, float]]]:
    return {name: {area: asdict(one) for area, one in areas.items()} for name, areas in comparisons.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Print AUROC with 95 % intervals; write the numbers where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scored", type=Path, help="VCF file with scores")
    parser.add_argument("--field", default="SM_LLR", help="INFO key of the score")
    parser.add_argument("--data", type=Path, help="the prepared set, to compare with counting")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args(words)
    try:
        scored = read_scored(args.scored, args.field)
        rows = {"model": scored.effect}
        if args.data is not None:
            rows |= baselines(scored, args.data)
        found = {name: compare(scored, effects) for name, effects in rows.items()}
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None
    print(f"{len(scored.effect):,} variants, {scored.without:,} more without a score")
    for name, comparisons in found.items():
        for comparison, areas in comparisons.items():
            one = areas["auroc"]
            print(f"{name:15} {comparison:42} AUROC {one.value:.4f} ({one.low:.4f} to {one.high:.4f})")
    if args.output is not None:
        content = {name: _as_json(comparisons) for name, comparisons in found.items()}
        with atomic_path(args.output) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
