"""The annotated genomes that the examples of the CGView Comparison Tool bring along, as a Debian package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from genomics.features import AnnotatedSequence, read_genbank
from recipes.sources import DebSource
from seqmamba.errors import UserError

SOURCE = DebSource(
    package="cct-examples",
    version="1:1.0.3-1",
    filename="cct-examples_1%3a1.0.3-1_all.deb",
    sha256="d053d802a9a9bb2e25c7b098a53c3dfc4b7de8ffbc521837f1ec8c398d1cd7d2",
)


@dataclass(frozen=True)
class Genome:
    """A complete chromosome in the package.

    Attributes:
        name: Genus and species, in lower case, joined by an underscore.
        accession: What its GenBank record has in its LOCUS or ACCESSION line.
        member: Its GenBank file in the package.
    """

    name: str
    accession: str
    member: str

    def read(self, unpacked: Path) -> AnnotatedSequence:
        """Read the genome from the folder that its file was unpacked into.

        Raises:
            UserError: If the file does not hold this one record.
        """
        path = unpacked / PurePosixPath(self.member).name
        records = list(read_genbank(path))
        if len(records) != 1 or not records[0].name.startswith(self.accession):
            found = ", ".join(record.name for record in records)
            raise UserError(f"{path}: expected the record {self.accession}, got {found}")
        return records[0]


_EXAMPLES = "usr/share/doc/cct/examples/sample_projects"
_ARCHAEA = f"{_EXAMPLES}/sample_project_2"
_BACTERIA = f"{_EXAMPLES}/sample_project_3"

GENOMES = {
    genome.name: genome
    for genome in (
        Genome("bradyrhizobium_japonicum", "NC_004463", f"{_BACTERIA}/reference_genome/NC_004463.gbk.gz"),
        Genome("escherichia_coli", "NC_000913", f"{_BACTERIA}/comparison_genomes/NC_000913.gbk.gz"),
        Genome(
            "methanococcus_maripaludis",
            "NC_005791",
            f"{_ARCHAEA}/comparison_genomes/Methanococcus_maripaludis.gbk.gz",
        ),
        Genome(
            "methanosarcina_acetivorans",
            "NC_003552",
            f"{_ARCHAEA}/comparison_genomes/Methanosarcina_acetivorans.gbk.gz",
        ),
        Genome(
            "methanothermobacter_thermautotrophicus",
            "NC_000916",
            f"{_ARCHAEA}/reference_genome/Methanobacterium_thermoautotrophicum.gbk.gz",
        ),
        Genome(
            "roseobacter_denitrificans",
            "NC_008209",
            "usr/share/cct/lib/scripts/cgview_xml_builder/test_input/R_denitrificans.gbk",
        ),
        Genome(
            "thermococcus_kodakaraensis",
            "NC_006624",
            f"{_ARCHAEA}/comparison_genomes/Thermococcus_kodakaraensis.gbk.gz",
        ),
    )
}


def members(names: Iterable[str]) -> tuple[str, ...]:
    """Return the files of some genomes in the package."""
    return tuple(GENOMES[name].member for name in names)
