"""A label for every base of an annotated genome, from GenBank, GFF3, or FASTA and GFF3.

Files count from 1 and include the end; everything here is 0-based and half-open. Where annotation overlaps,
these rules decide, and none of them depends on the strand that the file happens to give:

* coding sequence comes before splice sites, these before other exon bases, these before introns, and all of
  them before pseudogenes, whose bases are `UNKNOWN`;
* of two coding sequences (or transcripts) the longer one has the bases that both cover; of two equally long
  ones neither, if they disagree: those bases are `UNKNOWN`;
* bases that a ribosome skips or reads twice (programmed frameshifts) are `UNKNOWN`, and so is a complete
  coding sequence of no whole number of codons, since its frame is not known, and one on both strands
  (trans-splicing). A gap of at least `SHORTEST_INTRON` bases is an intron.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from genomics.alphabet import N, TokenArray, encode
from genomics.fasta import FastaRecord, read_fasta
from genomics.features import (
    AnnotatedSequence,
    Feature,
    is_gff3,
    read_genbank,
    read_gff3,
    read_gff3_sequences,
)
from genomics.gene_labels import CODON, UNKNOWN, LabelArray, LabelScheme
from genomics.intervals import match_chrom
from genomics.transcripts import CodingRegion, Part, coding_regions, transcripts
from seqmamba.errors import UserError, quoted

SHORTEST_INTRON = 20
"""Bases; the shortest spliceosomal introns known are a little longer, programmed frameshifts far shorter."""

_SITE = 2  # bases of a splice site: GT and AG as a rule


@dataclass(frozen=True)
class LabelledChromosome:
    """A sequence with a label for every base: two bytes a base.

    Attributes:
        name: Its name.
        tokens: Ids of `genomics.alphabet`, uint8 (length,).
        labels: Class numbers, or `UNKNOWN`, int8 (length,).
    """

    name: str
    tokens: TokenArray
    labels: LabelArray


def read_labelled(paths: str | Path | Sequence[str | Path], scheme: LabelScheme) -> list[LabelledChromosome]:
    """Read an annotated genome.

    Args:
        paths: A GenBank or GFF3 file with sequences, or a FASTA file and a GFF3 file in this order; plain or
            gzip.
        scheme: Which classes to tell apart.

    Returns:
        Its sequences, in the order of the file.

    Raises:
        UserError: If a file cannot be read, a feature lies outside its sequence, names do not match, or two
            sequences have one name.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(given) == 1 and is_gff3(given[0]):
        records: Iterable[AnnotatedSequence] = _annotated(read_gff3_sequences(given[0]), *given, *given)
    elif len(given) == 1:
        records = read_genbank(given[0])
    elif len(given) == 2:
        records = _annotated(read_fasta(given[0]), *given)
    else:
        raise UserError(f"expected a GenBank file, or a FASTA file and a GFF3 file, got {len(given)} files")
    found: dict[str, LabelledChromosome] = {}
    for record in records:
        if record.name in found:
            raise UserError(f"{given[0]}: two sequences are called {quoted(record.name)}")
        found[record.name] = LabelledChromosome(record.name, record.tokens, label_bases(record, scheme))
    return list(found.values())


def label_bases(record: AnnotatedSequence, scheme: LabelScheme) -> LabelArray:
    """Label every base of an annotated sequence; see the module for what goes before what.

    Args:
        record: Sequence and features.
        scheme: Which classes to tell apart.

    Returns:
        int8 (length,).
    """
    length = len(record.tokens)
    labels = np.zeros(length, dtype=np.int8)
    regions = list(coding_regions(record.features))
    uncertain, introns, exons, sites, coding = layers = [_Layer(length) for _ in range(5)]
    for feature in record.features:
        if _is_pseudo(feature):
            uncertain.paint(feature.parts, UNKNOWN, 1)
    if "intron+" in scheme.classes:
        for strand, parts, weight in transcripts(record.features, regions):
            _paint_transcript(parts, strand, weight, (introns, exons, sites), scheme, length)
    for region in regions:
        if not _is_pseudo(region.feature):
            _paint_coding(region, coding, uncertain, scheme, length)
    for layer in layers:
        np.copyto(labels, layer.labels, where=layer.weights > 0)
    labels[record.tokens == N] = UNKNOWN
    return labels


class _Layer:
    """Labels with the weight of what gave them: heavier wins, equally heavy ones must agree."""

    def __init__(self, length: int) -> None:
        self.labels = np.zeros(length, dtype=np.int8)
        self.weights = np.zeros(length, dtype=np.int32)

    def paint(self, parts: Iterable[tuple[int, int]], label: int | LabelArray, weight: int) -> None:
        """Label the bases of some parts; an array of labels belongs to a single part."""
        for start, end in parts:
            here, weights = self.labels[start:end], self.weights[start:end]
            conflict = (weights == weight) & (here != label)
            wins = weights < weight
            np.copyto(here, np.asarray(label, dtype=np.int8), where=wins)
            here[conflict] = UNKNOWN
            weights[wins] = weight


def _is_pseudo(feature: Feature) -> bool:
    if feature.kind.lower() in ("pseudogene", "pseudogenic_transcript", "pseudogenic_exon"):
        return True
    marks = feature.qualifiers
    pseudo = "pseudogene" in marks or marks.get("pseudo", "false") != "false"
    biotype = marks.get("gene_biotype", marks.get("biotype", ""))
    return feature.kind in ("CDS", "gene") and (pseudo or biotype.endswith("pseudogene"))


def _paint_coding(
    region: CodingRegion, coding: _Layer, uncertain: _Layer, scheme: LabelScheme, length: int
) -> None:
    """Label the codons of a coding sequence, or mark it as unknown if its frame is."""
    spans = [(part.start, part.end) for part in region.parts]
    strand = region.feature.strand
    if strand not in ("+", "-") or not (region.in_frame or region.feature.partial):
        uncertain.paint(spans, UNKNOWN, 1)
        return
    first = scheme.of(f"cds{strand}0")
    for part in region.parts:
        places = (np.arange(part.end - part.start) - part.phase) % CODON
        ordered = places if strand == "+" else places[::-1]
        coding.paint([(part.start, part.end)], (first + ordered).astype(np.int8), region.bases)
    for start, end in _gaps(region.parts, strand, length):
        if end - start < SHORTEST_INTRON:
            coding.paint([(start, end)], UNKNOWN, region.bases)


def _gaps(parts: Sequence[Part], strand: str, length: int) -> Iterator[tuple[int, int]]:
    """Yield what lies between neighbouring parts; nothing where the origin or an overlap lies there."""
    for before, after in pairwise(parts):
        left, right = (before, after) if strand == "+" else (after, before)
        if left.end < right.start:
            yield left.end, right.start
        elif right.start + length > left.end >= right.end:  # across the origin of a circle
            yield from ((a, b) for a, b in ((left.end, length), (0, right.start)) if a < b)


def _paint_transcript(
    parts: tuple[Part, ...],
    strand: str,
    weight: int,
    layers: tuple[_Layer, _Layer, _Layer],
    scheme: LabelScheme,
    length: int,
) -> None:
    introns, exons, sites = layers
    exons.paint([(part.start, part.end) for part in parts], scheme.of(f"utr{strand}"), weight)
    for start, end in _gaps(parts, strand, length):
        if end - start < SHORTEST_INTRON:
            continue
        introns.paint([(start, end)], scheme.of(f"intron{strand}"), weight)
        left, right = ("donor", "acceptor") if strand == "+" else ("acceptor", "donor")
        sites.paint([(start, start + _SITE)], scheme.of(f"{left}{strand}"), weight)
        sites.paint([(end - _SITE, end)], scheme.of(f"{right}{strand}"), weight)


def _annotated(
    records: Iterable[FastaRecord], fasta: str | Path, gff3: str | Path
) -> Iterator[AnnotatedSequence]:
    """Yield the sequences of a file with their features of a GFF3 file."""
    sequences = {record.name: encode(record.sequence) for record in records}
    of: dict[str, list[Feature]] = {name: [] for name in sequences}
    for feature in read_gff3(gff3):
        name = match_chrom(feature.chrom, sequences)
        if name is None:
            raise UserError(
                f"{gff3}: annotates {quoted(feature.chrom)}, which {fasta} does not have",
                hint="use the sequences that the annotation was made for, or cut it to those there are",
            )
        of[name].append(feature)
    for name, tokens in sequences.items():
        circular = any(
            f.qualifiers.get("Is_circular") == "true" and (f.start, f.end) == (0, len(tokens))
            for f in of[name]
        )
        features = tuple(_wrapped(f, len(tokens), circular, gff3) for f in of[name])
        yield AnnotatedSequence(name, "", tokens, features, circular)


def _wrapped(feature: Feature, length: int, circular: bool, path: str | Path) -> Feature:
    """Bring a GFF3 feature into its sequence: one that crosses the origin ends behind it."""
    (start, end), *_ = feature.parts
    if end <= length:
        return feature
    if not circular or start >= length or end > 2 * length:
        raise UserError(
            f"{path}: a {feature.kind!r} feature at {start + 1}..{end} lies outside the {length} bases of "
            f"{feature.chrom}",
            hint="is the annotation that of another assembly?",
        )
    order = ((start, length), (0, end - length))
    return Feature(
        feature.chrom,
        feature.kind,
        order[::-1],
        feature.strand,
        feature.partial,
        feature.qualifiers,
        feature.phase,
        order[::-1] if feature.strand == "-" else order,
    )
