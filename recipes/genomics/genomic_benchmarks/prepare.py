"""Prepare genomic_benchmarks: the intervals of all nine sets, without the genomes that they lie on."""

from __future__ import annotations

from functools import partial

from recipes.file_sets import prepare_files, released

COMMIT = "605d8539830e16c85abe7826990958303ffc5e1c"

PREPARATION = released(
    __file__,
    version=1,
    base=f"https://raw.githubusercontent.com/ML-Bioinfo-CEITEC/genomic_benchmarks/{COMMIT}/datasets/",
)

prepare = partial(prepare_files, PREPARATION)
