"""Prepare cds_intergenic: coding and intergenic windows of two genomes, and the two mixed for transfer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genomics.alphabet import TokenArray, decode
from genomics.features import AnnotatedSequence
from genomics.similarity import most_alike
from genomics.splits import SplitConfig
from recipes.genomics.cds_intergenic.windows import CLASSES, Window, WindowConfig, cut_windows
from recipes.genomics.genomes import GENOMES, SOURCE, members
from recipes.genomics.writing import write_fasta, write_labels
from recipes.prepared import Preparation, prepare_set
from seqmamba.stratify import PARTS

NAMES = {"ecoli": "escherichia_coli", "bjaponicum": "bradyrhizobium_japonicum"}
CONFIGS = {"ecoli": WindowConfig(train_stride=5), "bjaponicum": WindowConfig()}
"""E. coli leaves little between its genes, so its training windows start closer together."""

Cut = tuple[AnnotatedSequence, list[Window]]


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the Debian package already on disk.

    Returns:
        The folder with a FASTA file and a table (name, label, split) for ``ecoli``, ``bjaponicum``,
        ``ecoli_to_bjaponicum`` and ``bjaponicum_to_ecoli``, and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path, configs: dict[str, WindowConfig] = CONFIGS) -> dict[str, Any]:
    """Write the four sets; returns how many windows of each class every part of each has."""
    cuts: dict[str, Cut] = {}
    for short, name in NAMES.items():
        genome = GENOMES[name].read(unpacked)
        cuts[short] = genome, cut_windows(genome, configs[short])
    counts = {short: _write(folder / short, [cut]) for short, cut in cuts.items()}
    for ours, theirs in (("ecoli", "bjaponicum"), ("bjaponicum", "ecoli")):
        (genome, windows), (other, _) = cuts[ours], cuts[theirs]
        known = [window for window in windows if window.part != "test"]
        config = _everywhere(configs[theirs])
        foreign = [replace(window, part="test") for window in cut_windows(other, config)]
        name = f"{ours}_to_{theirs}"
        counts[name] = _write(folder / name, [(genome, known), (other, foreign)])
    return {"windows": counts}


def _everywhere(config: WindowConfig) -> WindowConfig:
    """Cut a whole genome as the test part of a split is cut."""
    return replace(config, train_stride=config.width)


def _write(stem: Path, cuts: Iterable[Cut]) -> dict[str, dict[str, int]]:
    tokens: list[TokenArray] = []
    rows: list[tuple[str, str, str]] = []
    for genome, windows in cuts:
        for window in windows:
            end = window.start + WindowConfig.width
            tokens.append(genome.tokens[window.start : end])
            rows.append((f"{genome.name}:{window.start}-{end}", window.label, window.part))
    kept = np.flatnonzero(~_repeats(tokens, [part for _, _, part in rows])).tolist()
    write_fasta(stem.with_suffix(".fa"), ((rows[i][0], decode(tokens[i])) for i in kept))
    write_labels(stem.with_suffix(".tsv"), (rows[i] for i in kept))
    counts = Counter((rows[i][2], rows[i][1]) for i in kept)
    return {part: {label: counts[part, label] for label in CLASSES} for part in PARTS}


def _repeats(tokens: list[TokenArray], parts: list[str]) -> npt.NDArray[np.bool_]:
    """Mark training windows that look like a held-out one, and validation windows that look like a test one.

    Genomes repeat themselves: ribosomal operons and mobile elements would leak from block to block.
    """
    level = np.array([("test", "validation", "train").index(part) for part in parts])
    match, _ = most_alike(tokens, level, SplitConfig().similarity)
    return match >= 0


PREPARATION = Preparation(
    name="cds_intergenic",
    version=2,
    source=SOURCE,
    members=members(NAMES.values()),
    build=build,
)
