"""Prepare cnnprom: five of the seven promoter sets of CNNProm."""

from __future__ import annotations

from functools import partial

from recipes.file_sets import prepare_files, released

COMMIT = "b4d2949e9bc5206f3049b35a488b036125ccc653"

PREPARATION = released(
    __file__,
    version=1,
    base=f"https://raw.githubusercontent.com/solovictor/CNNPromoterData/{COMMIT}/",
)

prepare = partial(prepare_files, PREPARATION)
