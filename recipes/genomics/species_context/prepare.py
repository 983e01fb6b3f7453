"""Prepare species_context: complete chromosomes of strains of four bacteria, from the examples of Ragout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from genomics.alphabet import decode, encode
from genomics.fasta import read_fasta
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource

_EXAMPLES = "usr/share/doc/ragout/examples"
SHORTEST = 1 << 20
"""Shorter chromosomes are left out: no window of the longest context fits."""

CUT = 3_538_944
"""Of the one strain of E. coli that is no test strain, the bases from here on validate."""


@dataclass(frozen=True)
class Strain:
    """A strain: its species, its name, and its file in the package."""

    species: str
    name: str
    member: str


STRAINS = tuple(
    Strain(species, name.replace("-", "_"), f"{_EXAMPLES}/{folder}/references/{name}.fasta.gz")
    for species, folder, names in (
        ("escherichia_coli", "E.Coli", ("DH1", "MG1655-K12")),
        ("helicobacter_pylori", "H.Pylori", ("ELS37", "G27", "Gambia94_24", "Puno120", "SJM180")),
        ("staphylococcus_aureus", "S.Aureus", ("COL", "JKD6008", "N315", "RF122", "USA300_FPR3757")),
        ("vibrio_cholerae", "V.Cholerae", ("H1", "O1_Inaba", "O1_biovar", "O395")),
    )
    for name in names
)


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write ``genomes/<species>/chr<strain>.fna``, one file a chromosome; returns the bases of each.

    The chromosomes of a strain that has two are told apart by ``_1`` and ``_2``.
    """
    bases: dict[str, dict[str, int]] = {}
    for strain in STRAINS:
        place = folder / "genomes" / strain.species
        place.mkdir(parents=True, exist_ok=True)
        for name, letters in _chromosomes(strain, unpacked / Path(strain.member).name):
            write_fasta(place / f"chr{name}.fna", [(name, letters)])
            bases.setdefault(strain.species, {})[name] = len(letters)
    return {"bases": bases}


def _chromosomes(strain: Strain, path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and letters of what is to become a file; bases that are no A, C, G or T are N."""
    letters = [decode(encode(record.sequence)) for record in read_fasta(path)]
    if strain.name == "DH1":
        yield "DH1_1", letters[0][:CUT]
        yield "DH1_2", letters[0][CUT:]
        return
    for number, chromosome in enumerate(letters, start=1):
        if len(chromosome) < SHORTEST:
            continue
        yield strain.name if len(letters) == 1 else f"{strain.name}_{number}", chromosome


PREPARATION = Preparation(
    name="species_context",
    version=1,
    source=DebSource(
        package="ragout-examples",
        version="2.3-4",
        filename="ragout-examples_2.3-4_all.deb",
        sha256="cbe6d0dd8b0e36ef2c93c9b9655955f42019dcd9e9b77388ee58ee54d50bd140",
    ),
    members=tuple(strain.member for strain in STRAINS),
    build=build,
)

prepare = partial(prepare_set, PREPARATION)
