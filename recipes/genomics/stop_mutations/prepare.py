"""Prepare stop_mutations: substitutions in the genes of E. coli, with their effect and their part."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genomics.alphabet import decode
from recipes.genomics.blocks import read_part, write_blocks
from recipes.genomics.genomes import GENOMES, SOURCE, members
from recipes.genomics.variant_effects.mutations import Code, Mutation, mutations, sample
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set

NAME = "escherichia_coli"
PARTS = {"train": 8_000, "valid": 1_000, "test": 1_000}
"""Substitutions of every effect in each part."""

MARGIN = 1_024
"""Bases at either end of a block without a substitution, so that no window reaches into another block."""

SEED = 0


def build(unpacked: Path, folder: Path, parts: dict[str, int] = PARTS) -> dict[str, Any]:
    """Write the genome and ``variants.vcf``.

    Returns:
        Substitutions of each effect in each part.
    """
    genome = GENOMES[NAME].read(unpacked)
    write_fasta(folder / f"{NAME}.fa", [(genome.name, decode(genome.tokens))])
    write_blocks(folder / "blocks.bed", genome.name, len(genome.tokens))
    chosen: list[tuple[Mutation, str]] = []
    for part, each in parts.items():
        allowed = np.zeros(len(genome.tokens), dtype=bool)
        for start, end in read_part(folder / "blocks.bed", part):
            allowed[start + MARGIN : end - MARGIN] = True
        chosen += [(one, part) for one in sample(mutations(genome, allowed, Code.of()), each, SEED)]
    header = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID={genome.name},length={len(genome.tokens)}>",
        '##INFO=<ID=EFFECT,Number=1,Type=String,Description="synonymous, missense or nonsense">',
        '##INFO=<ID=PART,Number=1,Type=String,Description="train, valid or test">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    with (folder / "variants.vcf").open("w", encoding="ascii", newline="\n") as out:
        out.writelines(f"{line}\n" for line in header)
        for one, part in sorted(chosen):
            facts = f"EFFECT={one.effect};PART={part}"
            out.write(f"{genome.name}\t{one.position + 1}\t.\t{one.ref}\t{one.alt}\t.\t.\t{facts}\n")
    counts = Counter(f"{part} {one.effect}" for one, part in chosen)
    return {"variants": dict(sorted(counts.items()))}


PREPARATION = Preparation(
    name="stop_mutations", version=1, source=SOURCE, members=members((NAME,)), build=build
)

prepare = partial(prepare_set, PREPARATION)
"""Make the data set unless it is there; see `prepare_set`."""
