"""Prepare variant_effects: three bacterial genomes to pretrain on, and substitutions in genes of E. coli."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genomics.alphabet import decode
from recipes.genomics.blocks import read_part, write_blocks
from recipes.genomics.genomes import GENOMES, SOURCE, members
from recipes.genomics.variant_effects.mutations import Code, mutations, sample, write_vcf
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set

NAMES = ("escherichia_coli", "bradyrhizobium_japonicum", "roseobacter_denitrificans")
EACH = 2_000
"""Substitutions of every effect."""

SEED = 0


def build(unpacked: Path, folder: Path, each: int = EACH) -> dict[str, Any]:
    """Write the genomes, their blocks, and ``variants.vcf`` from the test blocks of E. coli.

    Returns:
        Bases of each part of each genome, and substitutions of each effect.
    """
    bases = {}
    for name in NAMES:
        genome = GENOMES[name].read(unpacked)
        write_fasta(folder / f"{name}.fa", [(genome.name, decode(genome.tokens))])
        bases[name] = write_blocks(folder / f"{name}.bed", genome.name, len(genome.tokens))
    ecoli = GENOMES[NAMES[0]].read(unpacked)
    allowed = np.zeros(len(ecoli.tokens), dtype=bool)
    for start, end in read_part(folder / f"{NAMES[0]}.bed", "test"):
        allowed[start:end] = True
    chosen = sample(mutations(ecoli, allowed, Code.of()), each, SEED)
    write_vcf(folder / "variants.vcf", ecoli, chosen)
    return {"bases": bases, "variants": dict(Counter(mutation.effect for mutation in chosen))}


PREPARATION = Preparation(
    name="variant_effects", version=1, source=SOURCE, members=members(NAMES), build=build
)

prepare = partial(prepare_set, PREPARATION)
