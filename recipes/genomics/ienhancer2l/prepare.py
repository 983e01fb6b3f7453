"""Prepare ienhancer2l: the four files of the iEnhancer-2L benchmark, layer 1."""

from __future__ import annotations

from functools import partial

from recipes.file_sets import prepare_files, released

COMMIT = "f499f95984d5950f6c799204c4132f38f2776897"

PREPARATION = released(
    __file__,
    version=1,
    base=f"https://raw.githubusercontent.com/chen-bioinfo/iEnhancer-ELM/{COMMIT}/For%20the%20first%20dataset/dataset/",
)

prepare = partial(prepare_files, PREPARATION)
