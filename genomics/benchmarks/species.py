"""Species classification from raw chromosomes: HyenaDNA's five mammals and Mamba's great apes.

One FASTA file a chromosome, ``<folder>/<species>/chr<NAME>.fna`` (or ``.fa``, ``.gz`` too). Whole chromosomes
are held out. A window is drawn as the papers draw it: a species, one of its chromosomes, and a start, each
uniformly. The published code draws test windows anew in every run, unseeded; here they are a fixed list.

HyenaDNA: Nguyen et al. 2023, arXiv:2306.15794. Mamba: Gu and Dao 2023, arXiv:2312.00752,
section 4.3.3 and appendix E.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from genomics.alphabet import N
from genomics.fasta import Fasta
from seqmamba.errors import UserError
from seqmamba.paths import expand

MAMMALS = ("human", "lemur", "mouse", "pig", "hippo")
GREAT_APES = ("human", "chimpanzee", "gorilla", "orangutan", "bonobo")


@dataclass(frozen=True)
class SpeciesForm:
    """Which species are told apart, and which chromosomes of each are held out.

    Attributes:
        species: Names of the species. Classes are numbered by sorted name.
        validation: Chromosomes to validate on, of every species that has one of the name.
        test: Chromosomes to test on; all others train.
        chromosomes: Pattern of the names that count. Unplaced scaffolds (chrUn_..., chr1_..._random) are
            in no published list.

    Raises:
        UserError: With fewer than two species.
    """

    species: tuple[str, ...]
    validation: tuple[str, ...] = ("1", "3", "12", "13")
    test: tuple[str, ...] = ("5", "7", "9", "10", "11")
    chromosomes: str = "[0-9]+[AB]?|[XY]"

    def __post_init__(self) -> None:
        for name in ("species", "validation", "test"):  # YAML delivers lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(set(self.species)) < 2:
            raise UserError(f"species: expected at least two, got {', '.join(self.species) or 'none'}")


FORMS: Mapping[str, SpeciesForm] = {
    "mammals": SpeciesForm(MAMMALS),
    "great_apes": SpeciesForm(GREAT_APES),
}
"""The two published forms."""

_ENDINGS = (".fna", ".fa", ".fna.gz", ".fa.gz")
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a chromosome: 0-based start, and the label of its species."""

    species: int
    chromosome: int
    start: int


class SpeciesGenomes:
    """The chromosomes of one part of the data.

    Reading is safe in forked workers: every process opens its own files.

    Args:
        folder: Folder with one folder a species.
        form: The species, and what is held out.
        part: "train", "validation" or "test".

    Attributes:
        species: Names, sorted: the classes.

    Raises:
        UserError: If a species has no folder, or no chromosome of the part.
    """

    def __init__(self, folder: str | Path, form: SpeciesForm, part: str) -> None:
        self.species = tuple(sorted(set(form.species)))
        self._chromosomes = [_chromosomes(expand(folder) / name, form, part) for name in self.species]

    def draw(self, length: int, generator: np.random.Generator, species: int | None = None) -> Window:
        """Draw a window: species, chromosome and start uniformly; a chromosome that is shorter starts at 0.

        Args:
            length: Bases of the window.
            generator: Where the numbers come from.
            species: Number of the species, where it is not to be drawn.
        """
        if species is None:
            species = int(generator.integers(len(self.species)))
        chromosome = int(generator.integers(len(self._chromosomes[species])))
        places = self._chromosomes[species][chromosome].length - length + 1
        return Window(species, chromosome, int(generator.integers(max(places, 1))))

    def fetch(self, window: Window, length: int) -> UInt8[np.ndarray, " length"]:
        """Read a window; where the chromosome is shorter it is padded with N on the left, as published.

        Args:
            window: What to read.
            length: Bases of the window.
        """
        chromosome = self._chromosomes[window.species][window.chromosome]
        end = min(window.start + length, chromosome.length)
        tokens = chromosome.fasta.fetch(chromosome.name, window.start, end)
        if len(tokens) == length:
            return tokens
        return np.concatenate([np.full(length - len(tokens), N, dtype=np.uint8), tokens])

    def fixed_list(self, count: int, length: int, seed: int, most_unknown: float = 0.5) -> list[Window]:
        """Draw the windows to evaluate on, the same for every model: as many of each species.

        Args:
            count: Number of windows.
            length: Bases of a window.
            seed: Seed of the list.
            most_unknown: Windows with a larger share of N are drawn again; assembly gaps have no species.
        """
        found: list[Window] = []
        for i in range(count):
            generator = np.random.default_rng((seed, i))
            for _ in range(_DRAWS):
                window = self.draw(length, generator, i % len(self.species))
                if np.mean(self.fetch(window, length) == N) <= most_unknown:
                    break
            else:
                raise UserError(
                    f"{self.species[i % len(self.species)]}: has no window of {length:,} bases that is known "
                    f"to at least {1 - most_unknown:.0%}"
                )
            found.append(window)
        return found

    def describe(self, window: Window, length: int) -> str:
        """Return a name for a window: species, chromosome and 0-based half-open coordinates."""
        name = self._chromosomes[window.species][window.chromosome].name
        return f"{self.species[window.species]}:{name}:{window.start}-{window.start + length}"


@dataclass(frozen=True)
class _Chromosome:
    fasta: Fasta
    name: str
    length: int


def _chromosomes(folder: Path, form: SpeciesForm, part: str) -> list[_Chromosome]:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder", hint="expected one folder a species with chr1.fna, chr2.fna, ..."
        )
    files: dict[str, Path] = {}
    for ending in reversed(_ENDINGS):  # an unpacked copy wins over a packed one
        files |= {
            path.name[3 : -len(ending)]: path
            for path in sorted(folder.glob(f"chr*{ending}"))
            if path.name.endswith(ending)
        }
    named = {"validation": form.validation, "test": form.test}
    held_out = {*form.validation, *form.test}
    files = {name: path for name, path in files.items() if re.fullmatch(form.chromosomes, name)}
    wanted = [
        name for name in sorted(files) if (name in named[part] if part in named else name not in held_out)
    ]
    if not wanted:
        raise UserError(
            f"{folder}: has no chromosome for {part}",
            hint=f"chromosomes {', '.join(form.validation)} validate, {', '.join(form.test)} test, "
            "the others train",
        )
    return [_first_record(files[name]) for name in wanted]


def _first_record(path: Path) -> _Chromosome:
    fasta = Fasta(path)
    if len(fasta.names) != 1:
        raise UserError(f"{path}: expected one sequence, the chromosome, got {len(fasta.names)}")
    name = fasta.names[0]
    return _Chromosome(fasta, name, fasta.length(name))
