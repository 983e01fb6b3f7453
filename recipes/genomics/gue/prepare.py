"""Prepare gue: the promoter, mouse and human transcription-factor tasks of GUE, as released."""

from __future__ import annotations

from functools import partial

from recipes.file_sets import prepare_files, released

COMMIT = "486343e5212361d6cd7ed03c624f430ed3d5f02e"

PREPARATION = released(
    __file__,
    version=1,
    base=f"https://raw.githubusercontent.com/wds-seu/DeepGene/{COMMIT}/data/GUE/",
)

prepare = partial(prepare_files, PREPARATION)
