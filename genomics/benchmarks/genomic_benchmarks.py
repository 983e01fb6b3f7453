"""Genomic Benchmarks (Gresova et al. 2023, doi:10.1186/s12863-023-01123-8): nine sets, in both forms.

* Sequences: ``<set>/{train,test}/<class>/<id>.txt``, one sequence a file; also inside ``<set>_v0.zip``.
* Intervals: ``<set>/{train,test}/<class>.csv.gz`` with the columns ``id,region,start,end,strand``, 0-based
  and half-open, on genomes that have to be at hand; minus-strand rows are reverse complements.

Classes are numbered by their sorted names. The published loaders number them in the order in which the
folder lists them, for train and test apart.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from genomics.benchmarks.benchmark import Benchmark, PaperSettings
from genomics.benchmarks.examples import Example, collect, tokens_of
from genomics.benchmarks.tables import Row, read_rows
from genomics.datasets.records import LabelledSequences
from genomics.fasta import Fasta
from genomics.intervals import Interval
from seqmamba.errors import UserError
from seqmamba.paths import expand

SETS = {
    "demo_coding_vs_intergenomic_seqs": ("coding_seqs", "intergenomic_seqs"),
    "demo_human_or_worm": ("human", "worm"),
    "drosophila_enhancers_stark": ("negative", "positive"),
    "dummy_mouse_enhancers_ensembl": ("negative", "positive"),
    "human_enhancers_cohn": ("negative", "positive"),
    "human_enhancers_ensembl": ("negative", "positive"),
    "human_ensembl_regulatory": ("enhancer", "ocr", "promoter"),
    "human_nontata_promoters": ("negative", "positive"),
    "human_ocr_ensembl": ("negative", "positive"),
}
"""Set -> its classes."""

PARTS = ("train", "test")
_COLUMNS = {name: (name,) for name in ("id", "region", "start", "end")}
Genomes = str | Path | Mapping[str, str | Path]


def read_genomic_benchmark(source: Path, name: str, genome: Genomes | None = None) -> LabelledSequences:
    """Read a set from whichever of its two forms is there.

    Args:
        source: Folder that holds the set's folder or its zip archive; or one of these two.
        name: A key of `SETS`.
        genome: FASTA file that the intervals lie on, or class name to FASTA file where classes come from
            different ones (``demo_human_or_worm``: two genomes; ``demo_coding_vs_intergenomic_seqs``:
            transcripts and a genome). Not used for the form that has the sequences.

    Raises:
        UserError: With file and line, for anything missing or wrong.
    """
    folder = source / name if (source / name).is_dir() else source
    archives = [source / f"{name}_v0.zip", source / f"{name}.zip", source]
    archive = next((path for path in archives if path.is_file() and zipfile.is_zipfile(path)), None)
    if (folder / "train" / f"{SETS[name][0]}.csv.gz").is_file():
        return collect(_from_intervals(folder, name, genome), str(folder))
    if (folder / "train" / SETS[name][0]).is_dir():
        return collect(_from_folders(folder, name), str(folder))
    if archive is not None:
        return collect(_from_zip(archive, name), str(archive))
    raise UserError(
        f"{source}: has neither {name}/train/{SETS[name][0]}/ nor {name}/train/{SETS[name][0]}.csv.gz "
        f"nor {name}_v0.zip",
        hint="give the folder that holds the set",
    )


def _from_folders(folder: Path, name: str) -> Iterator[Example]:
    for part in PARTS:
        for label in SETS[name]:
            place = folder / part / label
            if not place.is_dir():
                raise UserError(f"{folder}: has no folder {part}/{label}")
            for path in sorted(place.glob("*.txt"), key=lambda path: _order(path.stem)):
                tokens = tokens_of(path.read_bytes().strip(), str(path))
                yield Example(path.stem, tokens, label, part, f"{path}:1")


def _from_zip(archive: Path, name: str) -> Iterator[Example]:
    classes = {(part, label) for part in PARTS for label in SETS[name]}
    try:
        with zipfile.ZipFile(archive) as members:
            found = []
            for member in members.namelist():
                steps = PurePosixPath(member).parts
                if len(steps) >= 3 and steps[-1].endswith(".txt") and (steps[-3], steps[-2]) in classes:
                    found.append((steps[-3] == "test", steps[-2], _order(steps[-1][:-4]), member))
            for is_test, label, (_, _, stem), member in sorted(found):
                where = f"{archive}:{member}"
                tokens = tokens_of(members.read(member).strip(), where)
                yield Example(stem, tokens, label, "test" if is_test else "train", where)
    except zipfile.BadZipFile as error:
        raise UserError(f"{archive}: is damaged ({error})", hint="download it again") from None


def _order(stem: str) -> tuple[bool, int, str]:
    """Order ids as numbers where they are numbers: a folder lists its files in no order at all."""
    return (not stem.isdigit(), int(stem) if stem.isdigit() else 0, stem)


def _from_intervals(folder: Path, name: str, genome: Genomes | None) -> Iterator[Example]:
    if genome is None:
        raise UserError(
            f"{folder}: holds intervals, so the genome that they lie on is needed",
            hint="add --genome FASTA (metadata.yaml names it), or CLASS=FASTA for each class",
        )
    opened: dict[Path, _Reference] = {}
    for part in PARTS:
        for label in SETS[name]:
            path = _genome_of(label, genome)
            reference = opened.setdefault(path, _Reference(path))
            for row in read_rows(folder / part / f"{label}.csv.gz", _COLUMNS, {"strand": ("strand",)}):
                interval = _interval(row, reference)
                tokens = reference.fasta.fetch(interval.chrom, interval.start, interval.end, interval.strand)
                yield Example(row["id"], tokens, label, part, row.where, interval)


def _genome_of(label: str, genome: Genomes) -> Path:
    if isinstance(genome, str | Path):
        return expand(genome)
    if label not in genome:
        raise UserError(f"genome: names no FASTA file for the class {label!r}")
    return expand(genome[label])


class _Reference:
    """A FASTA file whose names may carry a version that the intervals leave out (``ENST0001.8``)."""

    def __init__(self, path: Path) -> None:
        self.fasta = Fasta(path)
        self._unversioned = {name.partition(".")[0]: name for name in self.fasta.names}

    def resolve(self, region: str, where: str) -> str:
        if region in self._unversioned:
            return self._unversioned[region]
        try:
            return self.fasta.resolve(region)
        except UserError as error:
            raise UserError(f"{where}: {error.message}", hint=error.hint) from None


def _interval(row: Row, reference: _Reference) -> Interval:
    chrom = reference.resolve(row["region"], row.where)
    interval = row.interval(chrom, row.integer("start"), row.integer("end"), row.get("strand") or "+")
    if interval.end > reference.fasta.length(chrom):
        raise UserError(
            f"{row.where}: {interval} ends past the end of {chrom} ({reference.fasta.length(chrom)} bases)",
            hint="check that the genome is the build that metadata.yaml names",
        )
    return interval


_MAX_LENGTH_AND_LR = {
    "demo_coding_vs_intergenomic_seqs": (200, 1e-3),
    "demo_human_or_worm": (200, 1e-3),
    "drosophila_enhancers_stark": (4096, 1e-3),  # in no Caduceus table; longer than its longest sequence
    "dummy_mouse_enhancers_ensembl": (1024, 2e-3),
    "human_enhancers_cohn": (500, 2e-3),
    "human_enhancers_ensembl": (512, 1e-3),
    "human_ensembl_regulatory": (512, 1e-3),
    "human_nontata_promoters": (251, 2e-3),
    "human_ocr_ensembl": (512, 2e-3),
}
"""Set -> longest input and peak learning rate of Caduceus-PS."""


def _paper(name: str) -> PaperSettings:
    length, lr = _MAX_LENGTH_AND_LR[name]
    return PaperSettings(
        "Caduceus (Schiff et al. 2024, arXiv:2403.03234), appendix D.1 and table 5", max_length=length, lr=lr
    )


BENCHMARKS = tuple(
    Benchmark(f"genomic_benchmarks/{name}", read_genomic_benchmark, "accuracy", _paper(name), on_genome=True)
    for name in SETS
)
"""The nine sets."""
