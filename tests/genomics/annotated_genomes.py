"""Annotated genomes made up at random, and an independent account of what their bases are."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from genomics.alphabet import encode, reverse_complement
from genomics.features import AnnotatedSequence, Feature

STOPS = ("TAA", "TAG", "TGA")
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in STOPS]


def open_frame(generator: random.Random, codons: int) -> str:
    return "ATG" + "".join(generator.choices(CODONS, k=codons - 2)) + generator.choice(STOPS)


def planted(seed: int, genes: int = 12) -> tuple[str, list[SeqFeature]]:
    """Letters with open reading frames on both strands, apart from each other, and their features."""
    generator = random.Random(seed)
    letters, features = "", []
    for number in range(genes):
        letters += "".join(generator.choices("ACGT", k=generator.randint(5, 40)))
        frame = open_frame(generator, generator.randint(5, 30))
        strand = generator.choice((1, -1))
        place = SimpleLocation(len(letters), len(letters) + len(frame), strand)
        letters += frame if strand == 1 else str(Seq(frame).reverse_complement())
        features.append(SeqFeature(place, "CDS", qualifiers={"gene": [f"g{number}"], "codon_start": ["1"]}))
    return letters + "".join(generator.choices("ACGT", k=20)), features


def write_genbank(path: Path, letters: str, features: list[SeqFeature], circular: bool = False) -> Path:
    """Write a record with Biopython, whose writer knows nothing of our reader."""
    topology = "circular" if circular else "linear"
    annotations: dict[str, Any] = {"molecule_type": "DNA", "topology": topology}
    record = SeqRecord(Seq(letters), id="TOY.1", name="TOY", features=features, annotations=annotations)
    SeqIO.write([record], path, "genbank")
    return path


def write_gff3(path: Path, features: list[SeqFeature], name: str = "TOY.1") -> Path:
    """Write the features, a line a part, with phases counted base by base."""
    lines = ["##gff-version 3"]
    for number, feature in enumerate(features):
        read = 0
        for part in feature.location.parts:
            strand = "+" if part.strand == 1 else "-"
            columns = (
                name,
                "x",
                feature.type,
                part.start + 1,
                part.end,
                ".",
                strand,
                -read % 3,
                f"ID=c{number}",
            )
            lines.append("\t".join(map(str, columns)))
            read += len(part)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_fasta(path: Path, letters: str, name: str = "TOY.1") -> Path:
    path.write_text(f">{name}\n{letters}\n")
    return path


def of_positions(features: list[SeqFeature], length: int) -> np.ndarray:
    """Coding labels of features that do not overlap, from the positions in the order that Biopython reads."""
    labels = np.zeros(length, dtype=np.int8)
    for feature in features:
        for count, position in enumerate(feature.location):
            labels[position] = (1 if feature.location.strand == 1 else 4) + count % 3
    return labels


def spliced(*parts: tuple[int, int], strand: int) -> Any:
    """A location whose parts are given from left to right."""
    places = [SimpleLocation(start, end, strand) for start, end in parts]
    places = places if strand == 1 else places[::-1]
    return CompoundLocation(places) if len(places) > 1 else places[0]


def annotated(letters: str, *features: Feature, circular: bool = False) -> AnnotatedSequence:
    return AnnotatedSequence("toy", "", encode(letters), features, circular)


def turned(record: AnnotatedSequence) -> AnnotatedSequence:
    """The other strand of a record, with its annotation."""
    length = len(record.tokens)

    def mirrored(parts: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((length - end, length - start) for start, end in parts)

    features = tuple(
        replace(
            f,
            parts=tuple(sorted(mirrored(f.parts))),
            strand={"+": "-", "-": "+", ".": "."}[f.strand],
            order=None if f.order is None else mirrored(f.order),
        )
        for f in record.features
    )
    return replace(record, tokens=reverse_complement(record.tokens), features=features)
