"""Prepare tss_fly: of 2 kb upstream of fly genes, the 300 bases at the gene against the 300 furthest away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from genomics.alphabet import TokenArray, decode, encode
from genomics.coordinates import Coordinates, most_overlapping
from genomics.fasta import read_fasta
from genomics.intervals import Interval
from genomics.similarity import similarity_clusters
from genomics.splits import SplitConfig
from recipes.genomics.grouping import join_groups
from recipes.genomics.writing import write_fasta, write_labels
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS, deal_groups

LENGTH = 2_000
WIDTH = 300
CLASSES = ("far", "tss")
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
SEED = 0

_HEADER = re.compile(r"\S+_([fr]) (\S+):(-?[0-9]+)-([0-9]+)$")
"""Strand and place, 1-based and closed."""


Region = tuple[Interval, TokenArray]


@dataclass(frozen=True)
class Window:
    """A labelled stretch: where it lies, its bases 5' to 3' on the gene's strand, its class and region."""

    interval: Interval
    tokens: TokenArray
    label: str
    region: int


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write ``windows.fa`` and ``windows.tsv`` (name, label, split); returns the windows of every part.

    Regions are those that differ in place; transcripts that begin at one base share theirs. A window far from
    its gene that overlaps the window in front of another gene, on either strand, is left out: it would have
    both labels.
    """
    regions = read_regions(unpacked / "dm3_upstream2000.fa.gz")
    groups = group_regions(regions)
    windows = [window for number, region in enumerate(regions) for window in _cut(number, *region)]
    touched = _touched(windows)
    kept = [window for window, hit in zip(windows, touched.tolist(), strict=True) if not hit]
    strata = np.array([CLASSES.index(window.label) for window in kept])
    members = np.unique([groups[window.region] for window in kept], return_inverse=True)[1]
    parts = deal_groups(members, strata, FRACTIONS, seed=SEED).tolist()
    names = [str(window.interval) for window in kept]
    write_fasta(folder / "windows.fa", zip(names, (decode(w.tokens) for w in kept), strict=True))
    rows = zip(names, (window.label for window in kept), parts, strict=True)
    write_labels(folder / "windows.tsv", rows)
    counts = Counter((part, window.label) for part, window in zip(parts, kept, strict=True))
    return {
        "regions": len(regions),
        "groups": int(groups.max()) + 1,
        "left_out": int(touched.sum()),
        "windows": {part: {label: counts[part, label] for label in CLASSES} for part in PARTS},
    }


def read_regions(path: Path) -> list[Region]:
    """Read the regions that differ in place and lie whole on their chromosome, in the order of the file.

    Raises:
        UserError: With file and line, if a header gives no strand, or no place that fits the sequence.
    """
    regions: dict[Interval, TokenArray] = {}
    for record in read_fasta(path):
        found = _HEADER.match(record.header)
        if found is None:
            raise UserError(f"{path.name}:{record.line}: {record.header!r} gives no strand and place")
        start, end = int(found[3]) - 1, int(found[4])
        if start < 0 or len(record.sequence) != LENGTH:  # reaches over the end of the chromosome
            continue
        if end - start != LENGTH:
            raise UserError(f"{path.name}:{record.line}: {record.header!r} is no place of {LENGTH} bases")
        interval = Interval(found[2], start, end, "+" if found[1] == "f" else "-")
        regions.setdefault(interval, encode(record.sequence))
    return list(regions.items())


def group_regions(regions: list[Region]) -> Int[np.ndarray, " regions"]:
    """Number the groups that must not be parted: regions that overlap, or have a window that is alike.

    Args:
        regions: Place and bases of each.

    Returns:
        The group of each, from 0 without gaps.
    """
    order = sorted(range(len(regions)), key=lambda i: (regions[i][0].chrom, regions[i][0].start))
    place = np.zeros(len(regions), dtype=np.int64)
    for before, i in pairwise(order):
        ours, left = regions[i][0], regions[before][0]
        place[i] = place[before] + (not ours.overlaps(left))  # all are of one length
    halves = [half for _, tokens in regions for half in (tokens[:WIDTH], tokens[-WIDTH:])]
    alike = similarity_clusters(halves, SplitConfig().similarity)
    return join_groups(np.repeat(place, 2), np.repeat(np.arange(len(regions)), 2), alike)[::2]


def _cut(number: int, interval: Interval, tokens: TokenArray) -> Iterator[Window]:
    """Cut a region's two windows; its bases begin furthest from the gene, on the gene's strand."""
    low = replace(interval, end=interval.start + WIDTH)
    high = replace(interval, start=interval.end - WIDTH)
    far, front = (low, high) if interval.strand == "+" else (high, low)
    yield Window(far, tokens[:WIDTH], "far", number)
    yield Window(front, tokens[-WIDTH:], "tss", number)


def _touched(windows: list[Window]) -> Bool[np.ndarray, " windows"]:
    """Mark the windows far from their gene that overlap a window in front of another."""
    level = np.array([CLASSES.index("tss") - CLASSES.index(window.label) for window in windows])
    match, _ = most_overlapping(Coordinates.of([window.interval for window in windows]), level)
    return match >= 0


PREPARATION = Preparation(
    name="tss_fly",
    version=1,
    source=DebSource(
        package="r-bioc-biostrings",
        version="2.66.0-1",
        filename="r-bioc-biostrings_2.66.0-1_amd64.deb",
        sha256="94ba289411284aaf42501357cac6f50b559d23d5f9c1300fa1e4f2e91cd4fa12",
    ),
    members=("usr/lib/R/site-library/Biostrings/extdata/dm3_upstream2000.fa.gz",),
    build=build,
)

prepare = partial(prepare_set, PREPARATION)
