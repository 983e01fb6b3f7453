"""Which stretches of a genome are for training, which for validation and which for the test."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from genomics.datasets.records import PART_NAMES
from genomics.fasta import Fasta
from genomics.intervals import Interval, match_chrom, read_bed
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS


@dataclass(frozen=True)
class GenomeConfig:
    """A genome and its parts.

    With a BED file, its rows are all that is used, and column 4 names the part of a row. The fourth columns
    of the published splits are known: ``train``, ``valid``, ``test``. For others, such as the folds of
    Borzoi, `validation` and `test` list the values that are held out. Without a BED file they list
    chromosomes. Whatever is not held out or excluded is for training.

    Args:
        fasta: FASTA file, plain or compressed.
        name: Species; None means the file's name.
        split: BED file (0-based, half-open): chromosome, start, end, name of the part.
        validation: Names held out for validation.
        test: Names held out for the test.
        exclude: Names that are not used at all, for example a mitochondrion.

    Raises:
        UserError: If a name is in two lists.
    """

    fasta: str
    name: str | None = None
    split: str | None = None
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("validation", "test", "exclude"):
            object.__setattr__(self, field, tuple(map(str, getattr(self, field))))  # YAML delivers lists
        names = [*self.validation, *self.test, *self.exclude]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"genomes: {self.fasta}: {twice!r} is held out or excluded twice")

    @property
    def species(self) -> str:
        """The name to show."""
        return self.name or Path(self.fasta).name.split(".")[0]


Regions = dict[str, list[Interval]]
"""Part to its stretches, sorted; none of them overlap or touch."""


def read_regions(config: GenomeConfig, fasta: Fasta) -> Regions:
    """Return the stretches of every part of a genome.

    Rows of one part that overlap or touch become one stretch.

    Args:
        config: How to split it.
        fasta: The genome.

    Raises:
        UserError: If a name does not occur, or stretches of two parts overlap.
    """
    named = _from_bed(config, fasta) if config.split else _from_chromosomes(fasta)
    known = {name for name, _, _ in named}
    given = {"validation": config.validation, "test": config.test, "exclude": config.exclude}
    part_of: dict[str, str] = {}
    for part, names in given.items():
        for name in names:
            found = name if name in known else None if config.split else match_chrom(name, known)
            if found is None:
                shown = ", ".join(sorted(known)[:5]) + (", ..." if len(known) > 5 else "")
                raise UserError(
                    f"genomes: {config.fasta}: {part}: there is no {name!r}", hint=f"there are {shown}"
                )
            part_of[found] = part
    held_out = bool(config.validation or config.test)
    rows: list[tuple[Interval, str, str]] = []
    for name, interval, source in named:
        rest = "train" if held_out or not config.split else PART_NAMES.get(name.lower(), "")
        part = part_of.get(name, rest)
        if not part:
            raise UserError(
                f"{source}: expected train, validation or test in column 4, got {name!r}",
                hint="list the names that are held out: validation: [...], test: [...]",
            )
        if part != "exclude":
            rows.append((interval, part, source))
    return _merge(rows)


def _from_chromosomes(fasta: Fasta) -> list[tuple[str, Interval, str]]:
    return [(name, Interval(name, 0, fasta.length(name)), f"{fasta.path}:{name}") for name in fasta.names]


def _from_bed(config: GenomeConfig, fasta: Fasta) -> list[tuple[str, Interval, str]]:
    named = []
    for row in read_bed(config.split or ""):
        source = f"{config.split}:{row.line}"
        if row.name is None:
            raise UserError(f"{source}: expected the name of a part in column 4")
        named.append((row.name, fasta.place(row.interval, source), source))
    return named


def _merge(rows: list[tuple[Interval, str, str]]) -> Regions:
    """Join what touches, after checking that the parts are apart."""
    by_chrom: dict[str, list[tuple[Interval, str, str]]] = defaultdict(list)
    for row in rows:
        by_chrom[row[0].chrom].append(row)
    regions: Regions = {part: [] for part in PARTS}
    for chrom, members in by_chrom.items():
        members.sort(key=lambda row: (row[0].start, row[0].end))
        reach: dict[str, tuple[int, str]] = {}  # how far each part's rows reach so far, and whose row that is
        for interval, part, source in members:
            for other, (end, where) in reach.items():
                if other != part and interval.start < end:
                    raise UserError(f"{source}: {interval} for {part} overlaps the {other} row at {where}")
            done = regions[part]
            if done and done[-1].chrom == chrom and interval.start <= done[-1].end:
                last = done.pop()
                done.append(Interval(chrom, last.start, max(last.end, interval.end)))
            else:
                done.append(Interval(chrom, interval.start, interval.end))
            if interval.end > reach.get(part, (0, ""))[0]:
                reach[part] = interval.end, source
    return regions
