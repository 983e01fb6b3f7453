"""Single-base substitutions in the genes of an annotated genome, and what each does to the protein."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from Bio.Data.CodonTable import unambiguous_dna_by_id
from jaxtyping import Bool, Int

from genomics.alphabet import COMPLEMENT, decode, encode
from genomics.codons import BACTERIAL
from genomics.features import AnnotatedSequence
from genomics.gene_labels import CODON
from genomics.transcripts import CodingRegion, coding_regions
from seqmamba.atomic import atomic_path

EFFECTS = ("synonymous", "missense", "nonsense")
_CODONS = tuple("".join(letters) for letters in product("ACGT", repeat=CODON))


class Mutation(NamedTuple):
    """A substitution.

    Attributes:
        position: 0-based.
        ref: The base of the genome's forward strand.
        alt: What replaces it, on that strand.
        effect: One of `EFFECTS`.
        gene: Locus tag of the gene.
        codon_position: 1, 2 or 3, in the direction of the gene.
    """

    position: int
    ref: str
    alt: str
    effect: str
    gene: str
    codon_position: int


@dataclass(frozen=True)
class Code:
    """A genetic code as a table.

    Attributes:
        effects: Codon (its place in the list AAA, AAC, ... TTT), place in it and new base (A, C, G, T) to the
            effect's place in `EFFECTS`; -1 where nothing changes, or the codon is a stop codon.
    """

    effects: Int[np.ndarray, "64 3 4"]

    @classmethod
    def of(cls, number: int = BACTERIAL) -> Code:
        """Tabulate one of NCBI's genetic codes."""
        meaning = {**unambiguous_dna_by_id[number].forward_table}  # stop codons have none
        effects = np.full((len(_CODONS), CODON, 4), -1)
        for row, codon in enumerate(_CODONS):
            if codon not in meaning:
                continue
            for place, base in product(range(CODON), range(4)):
                changed = codon[:place] + "ACGT"[base] + codon[place + 1 :]
                if changed != codon:
                    kind = "missense" if changed in meaning else "nonsense"
                    same = meaning.get(changed) == meaning[codon]
                    effects[row, place, base] = EFFECTS.index("synonymous" if same else kind)
        return cls(effects)


def mutations(
    genome: AnnotatedSequence, allowed: Bool[np.ndarray, " length"], code: Code
) -> Iterator[Mutation]:
    """Yield every substitution with one effect: of codons that lie in one gene alone.

    Genes in pieces, across the origin, with a frameshift, open at an end or marked as pseudogenes are left
    out, and so are start and stop codons.

    Args:
        genome: Sequence and annotation.
        allowed: Bases that may change; a codon takes part if all of its bases may.
        code: The genetic code.
    """
    regions = list(coding_regions(genome.features))
    times = np.zeros(len(genome.tokens), dtype=np.int64)
    for region in regions:
        for part in region.parts:
            times[part.start : part.end] += 1
    alone = allowed & (times == 1)
    for region in regions:
        if _is_plain(region):
            yield from _of_gene(genome, region, alone, code)


def _is_plain(region: CodingRegion) -> bool:
    feature = region.feature
    whole = len(region.parts) == 1 and region.in_frame and not feature.partial and feature.strand in "+-"
    return whole and "pseudo" not in feature.qualifiers


def _of_gene(
    genome: AnnotatedSequence, region: CodingRegion, alone: Bool[np.ndarray, " length"], code: Code
) -> Iterator[Mutation]:
    part = region.parts[0]
    forward = region.feature.strand == "+"
    places = np.arange(part.start, part.end).reshape(-1, CODON)
    if not forward:
        places = places[::-1, ::-1]
    name = region.feature.qualifiers.get("locus_tag") or region.feature.qualifiers.get("gene", ".")
    for codon in places[1:-1]:
        tokens = genome.tokens[codon] if forward else COMPLEMENT[genome.tokens[codon]]
        letters = decode(tokens)
        if not alone[codon].all() or letters not in _CODONS:
            continue
        row = _CODONS.index(letters)
        for place, base in zip(*np.nonzero(code.effects[row] >= 0), strict=True):
            effect = EFFECTS[code.effects[row, place, base]]
            change = encode(letters[place] + "ACGT"[base])
            pair = decode(change if forward else COMPLEMENT[change])
            yield Mutation(int(codon[place]), pair[0], pair[1], effect, name, int(place) + 1)


def sample(found: Iterable[Mutation], each: int, seed: int) -> list[Mutation]:
    """Draw as many substitutions of every effect, without replacement, and put them in order."""
    of_effect: dict[str, list[Mutation]] = {effect: [] for effect in EFFECTS}
    for mutation in found:
        of_effect[mutation.effect].append(mutation)
    generator = np.random.default_rng(seed)
    chosen: list[Mutation] = []
    for members in of_effect.values():
        rows = generator.choice(len(members), min(each, len(members)), replace=False)
        chosen += [members[row] for row in rows.tolist()]
    return sorted(chosen)


def write_vcf(path: Path, genome: AnnotatedSequence, chosen: Iterable[Mutation]) -> None:
    """Write substitutions as VCF 4.2, positions counted from 1; the effect, gene and place are in INFO.

    Args:
        path: The file; it appears whole or not at all.
        genome: What they are substitutions of.
        chosen: In order of position.
    """
    info = {
        "EFFECT": ("String", f"What it does to the protein: {', '.join(EFFECTS)}"),
        "GENE": ("String", "Locus tag of the gene"),
        "CODON_POS": ("Integer", "Place in the codon, 1 to 3"),
    }
    header = ["##fileformat=VCFv4.2", f"##contig=<ID={genome.name},length={len(genome.tokens)}>"]
    header += [
        f'##INFO=<ID={key},Number=1,Type={kind},Description="{text}">' for key, (kind, text) in info.items()
    ]
    header.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    with atomic_path(path) as part, part.open("w", encoding="ascii", newline="\n") as out:
        out.writelines(f"{line}\n" for line in header)
        for one in chosen:
            facts = f"EFFECT={one.effect};GENE={one.gene};CODON_POS={one.codon_position}"
            out.write(f"{genome.name}\t{one.position + 1}\t.\t{one.ref}\t{one.alt}\t.\t.\t{facts}\n")
