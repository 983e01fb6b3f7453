"""Cutting a genome into protein-coding and intergenic windows, block by block.

A coding window lies inside one coding sequence; an intergenic window touches no annotated feature. Both are
read from the strand that the genome file has, so neither the strand nor the reading frame of a gene is given
away. The genome is dealt to train, validation and test in blocks, and no window crosses the border of a
block. Validation and test windows do not overlap each other. Training windows do: they start every few bases,
which is the augmentation that a shifted reading frame asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genomics.features import AnnotatedSequence, covered
from seqmamba.stratify import PARTS, deal_groups

Starts = npt.NDArray[np.int64]
Stretch = tuple[int, int]
"""A stretch of the genome, 0-based and half-open."""

CLASSES = ("intergenic", "cds")


@dataclass(frozen=True)
class WindowConfig:
    """How to cut a genome.

    Attributes:
        width: Length of a window in bases.
        train_stride: Distance between the starts of training windows; elsewhere it is `width`.
        block_size: Length of a block in bases.
        validation_fraction: Share of the windows to validate on.
        test_fraction: Share of the windows to test on.
        seed: Decides which blocks go where and which coding windows are taken.
    """

    width: int = 200
    train_stride: int = 20
    block_size: int = 100_000
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    seed: int = 0


@dataclass(frozen=True, order=True)
class Window:
    """A labelled stretch of a genome: its first base (0-based), its class and its part of the split."""

    start: int
    label: str
    part: str


def cut_windows(genome: AnnotatedSequence, config: WindowConfig) -> list[Window]:
    """Cut one genome into windows, with as many of one class as of the other in every part.

    Args:
        genome: A sequence and its features.
        config: How to cut.

    Returns:
        The windows in the order of the genome.
    """
    stretches = {"intergenic": intergenic_stretches(genome), "cds": coding_stretches(genome)}
    tiled = {name: _starts(stretches[name], config, config.width) for name in CLASSES}
    part_of_block = _deal_blocks(len(genome.tokens), tiled, config)
    generator = np.random.default_rng(config.seed)
    windows: list[Window] = []
    for part in PARTS:
        candidates = tiled
        if part == "train":
            candidates = {name: _starts(stretches[name], config, config.train_stride) for name in CLASSES}
        inside = [
            starts[part_of_block[starts // config.block_size] == part] for starts in candidates.values()
        ]
        fewest = min(len(starts) for starts in inside)
        for name, starts in zip(CLASSES, inside, strict=True):
            taken = generator.choice(starts, fewest, replace=False)
            windows += [Window(int(start), name, part) for start in taken]
    return sorted(windows)


def coding_stretches(genome: AnnotatedSequence) -> list[Stretch]:
    """Return the stretches of coding sequence: one for each piece of a gene, none for pseudogenes."""
    genes = [f for f in genome.features if f.kind == "CDS" and "pseudo" not in f.qualifiers]
    return sorted(part for gene in genes for part in gene.parts)


def intergenic_stretches(genome: AnnotatedSequence) -> list[Stretch]:
    """Return the stretches that no feature covers; ``source``, which covers everything, does not count."""
    length = len(genome.tokens)
    free = ~covered((feature for feature in genome.features if feature.kind != "source"), length)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _starts(stretches: Iterable[Stretch], config: WindowConfig, stride: int) -> Starts:
    """Starts of the windows that fit, at least `stride` apart, each run of them centred in its stretch."""
    runs = [np.empty(0, np.int64)]
    for start, end in stretches:
        room = end - start - config.width
        if room >= 0:
            runs.append(np.arange(start + room % stride // 2, end - config.width + 1, stride, dtype=np.int64))
    apart: list[int] = []
    for start in np.unique(np.concatenate(runs)).tolist():  # genes may overlap each other
        if not apart or start >= apart[-1] + stride:
            apart.append(start)
    starts = np.array(apart, dtype=np.int64)
    last = starts + config.width - 1
    return starts[starts // config.block_size == last // config.block_size]


def _deal_blocks(length: int, tiled: dict[str, Starts], config: WindowConfig) -> npt.NDArray[np.str_]:
    """Return the part of every block (empty without windows), dealt by the class of fewer windows."""
    scarce = min(tiled.values(), key=len)
    used, groups = np.unique(scarce // config.block_size, return_inverse=True)
    held_out = {"validation": config.validation_fraction, "test": config.test_fraction}
    fractions = {"train": 1.0 - sum(held_out.values()), **held_out}
    parts = deal_groups(groups, np.zeros_like(groups), fractions, seed=config.seed)
    part_of_block = np.full(length // config.block_size + 1, "", dtype="<U10")
    part_of_block[used[groups]] = parts
    return part_of_block
