from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from annotated_genomes import (
    STOPS,
    annotated,
    of_positions,
    planted,
    spliced,
    turned,
    write_fasta,
    write_genbank,
    write_gff3,
)
from Bio.Seq import Seq
from Bio.SeqFeature import BeforePosition, CompoundLocation, SeqFeature, SimpleLocation
from hypothesis import given, settings
from hypothesis import strategies as st

from genomics.alphabet import decode
from genomics.annotations import label_bases, read_labelled
from genomics.features import Feature
from genomics.gene_decoding import segments
from genomics.gene_labels import CODING, GENES, UNKNOWN, complement_labels
from seqmamba.errors import UserError

LETTERS = "ACGTTGCA" * 50


def cds(place: object, **qualifiers: str) -> SeqFeature:
    return SeqFeature(place, "CDS", qualifiers={key: [value] for key, value in qualifiers.items()})


def labels_of(tmp_path: Path, *features: SeqFeature, circular: bool = False) -> np.ndarray:
    path = write_genbank(tmp_path / "x.gb", LETTERS, list(features), circular)
    (chromosome,) = read_labelled(path, CODING)
    assert (chromosome.name, decode(chromosome.tokens)) == ("TOY.1", LETTERS)
    assert chromosome.labels.dtype == np.int8
    return chromosome.labels


@pytest.mark.parametrize("seed", range(5))
def test_genes_translate_from_their_first_codon_to_their_stop(tmp_path: Path, seed: int) -> None:
    letters, features = planted(seed)
    (chromosome,) = read_labelled(write_genbank(tmp_path / "x.gb", letters, features), CODING)
    found = segments(chromosome.labels)
    assert len(found) == len(features)
    for segment, feature in zip(found, features, strict=True):
        assert (segment.start, segment.end) == (feature.location.start, feature.location.end)
        coding = Seq(decode(chromosome.tokens)[segment.start : segment.end])
        coding = coding if segment.strand == "+" else coding.reverse_complement()
        assert coding == feature.extract(Seq(letters))
        protein = str(coding.translate())
        assert protein[0] == "M"
        assert protein.find("*") == len(protein) - 1
    # The first bases of codons are where Biopython reads them.
    assert (chromosome.labels == of_positions(features, len(letters))).all()
    for start in np.flatnonzero(chromosome.labels == CODING.of("cds+0")):
        codon = letters[start : start + 3]
        assert (codon in STOPS) == (chromosome.labels[start + 3] != CODING.of("cds+0"))


@pytest.mark.parametrize("strand", [1, -1])
def test_exons_carry_the_frame_over_introns(tmp_path: Path, strand: int) -> None:
    feature = cds(spliced((10, 20), (60, 75), (110, 121), strand=strand))
    assert (labels_of(tmp_path, feature) == of_positions([feature], len(LETTERS))).all()


@pytest.mark.parametrize("strand", [1, -1])
def test_a_gene_across_the_origin_keeps_its_frame(tmp_path: Path, strand: int) -> None:
    places = [SimpleLocation(380, 400, strand), SimpleLocation(0, 13, strand)]
    feature = cds(CompoundLocation(places if strand == 1 else places[::-1]))
    labels = labels_of(tmp_path, feature, circular=True)
    assert (labels == of_positions([feature], len(LETTERS))).all()
    assert (labels[13:380] == 0).all()


def test_bases_that_a_ribosome_skips_or_reads_twice_are_unknown(tmp_path: Path) -> None:
    skips = cds(spliced((10, 40), (41, 71), strand=1), exception="ribosomal slippage")
    repeats = cds(spliced((100, 131), (130, 159), strand=-1), ribosomal_slippage="")
    labels = labels_of(tmp_path, skips, repeats)
    assert np.flatnonzero(labels == UNKNOWN).tolist() == [40, 130]
    assert labels[39] == CODING.of("cds+2")
    assert labels[41] == CODING.of("cds+0")
    assert labels[158] == CODING.of("cds-0")
    assert labels[131] == CODING.of("cds-0")  # the 28th base; the 29th is read again as the 30th
    assert labels[129] == CODING.of("cds-0")


def test_a_partial_gene_starts_in_the_frame_that_it_says(tmp_path: Path) -> None:
    partial = cds(SimpleLocation(BeforePosition(0), 29, 1), codon_start="3")
    labels = labels_of(tmp_path, partial)
    assert labels[:6].tolist() == [CODING.of(f"cds+{p}") for p in (1, 2, 0, 1, 2, 0)]
    other_end = cds(SimpleLocation(BeforePosition(100), 120, -1))  # its end is missing, not its start
    labels = labels_of(tmp_path, other_end)
    assert labels[119] == CODING.of("cds-0")


def test_what_has_no_frame_is_unknown(tmp_path: Path) -> None:
    shifted = cds(SimpleLocation(10, 31, 1), pseudo="")
    broken = cds(SimpleLocation(50, 70, 1))
    trans = cds(CompoundLocation([SimpleLocation(100, 112, 1), SimpleLocation(130, 142, -1)]))
    gene = SeqFeature(SimpleLocation(200, 230, -1), "gene", qualifiers={"pseudogene": ["unknown"]})
    labels = labels_of(tmp_path, shifted, broken, trans, gene)
    expected = np.zeros(len(LETTERS), dtype=np.int8)
    for start, end in ((10, 31), (50, 70), (100, 112), (130, 142), (200, 230)):
        expected[start:end] = UNKNOWN
    assert (labels == expected).all()


def test_overlapping_genes(tmp_path: Path) -> None:
    longer, shorter = cds(SimpleLocation(10, 70, 1)), cds(SimpleLocation(66, 96, 1))
    labels = labels_of(tmp_path, shorter, longer)
    assert (labels[10:70] == of_positions([longer], 400)[10:70]).all()
    assert (labels[70:96] == of_positions([shorter], 400)[70:96]).all()
    equal = cds(SimpleLocation(60, 120, -1))
    labels = labels_of(tmp_path, longer, equal)
    assert (labels[60:70] == UNKNOWN).all()
    assert (labels[70:120] == of_positions([equal], 400)[70:120]).all()
    twice = labels_of(tmp_path, longer, longer)  # agreement is no conflict
    assert (twice == of_positions([longer], 400)).all()
    pseudo = cds(SimpleLocation(0, 400, 1), pseudo="")
    labels = labels_of(tmp_path, pseudo, longer)
    assert (labels[10:70] == of_positions([longer], 400)[10:70]).all()
    assert (labels[:10] == UNKNOWN).all()


def test_unknown_bases_have_no_label() -> None:
    feature = Feature("toy", "CDS", ((0, 12),), "+", partial=False, qualifiers={})
    labels = label_bases(annotated("ACGNNNACGACGNA", feature), CODING)
    assert labels.tolist() == [1, 2, 3, -1, -1, -1, 1, 2, 3, 1, 2, 3, -1, 0]


class TestGff3:
    def test_it_says_what_genbank_says(self, tmp_path: Path) -> None:
        letters, features = planted(7)
        fasta, gff3 = write_fasta(tmp_path / "x.fa", letters), write_gff3(tmp_path / "x.gff3", features)
        (from_gff3,) = read_labelled([fasta, gff3], CODING)
        (from_genbank,) = read_labelled(write_genbank(tmp_path / "x.gb", letters, features), CODING)
        assert (from_gff3.labels == from_genbank.labels).all()
        assert (from_gff3.tokens == from_genbank.tokens).all()

    def test_sequences_inside_of_it(self, tmp_path: Path) -> None:
        letters, features = planted(7)
        gff3 = write_gff3(tmp_path / "x.gff3", features)
        (expected,) = read_labelled([write_fasta(tmp_path / "x.fa", letters), gff3], CODING)
        text = f"{gff3.read_text()}##FASTA\n>TOY.1 toy\n{letters[:100]}\n{letters[100:]}\n"
        gff3.write_bytes(gzip.compress(text.encode()))
        (found,) = read_labelled(gff3, CODING)
        assert (found.labels == expected.labels).all()
        assert (found.tokens == expected.tokens).all()

    def test_two_sequences_of_one_name(self, tmp_path: Path) -> None:
        path = write_genbank(tmp_path / "x.gb", LETTERS, [])
        path.write_text(2 * path.read_text())
        with pytest.raises(UserError, match=r"x\.gb: two sequences are called 'TOY\.1'"):
            read_labelled(path, CODING)

    @pytest.mark.parametrize("strand", [1, -1])
    def test_exons_in_any_order_of_lines(self, tmp_path: Path, strand: int) -> None:
        feature = cds(spliced((10, 20), (60, 75), (110, 121), strand=strand))
        gff3 = write_gff3(tmp_path / "x.gff3", [feature])
        header, *lines = gff3.read_text().splitlines()
        gff3.write_text("\n".join([header, *lines[::-1]]) + "\n")
        (chromosome,) = read_labelled([write_fasta(tmp_path / "x.fa", LETTERS), gff3], CODING)
        assert (chromosome.labels == of_positions([feature], len(LETTERS))).all()

    def test_packed_files_and_names_with_and_without_chr(self, tmp_path: Path) -> None:
        feature = cds(SimpleLocation(30, 60, 1))
        gff3 = write_gff3(tmp_path / "x.gff3", [feature], name="chr1")
        packed = tmp_path / "x.gff3.gz"
        packed.write_bytes(gzip.compress(gff3.read_bytes()))
        (chromosome,) = read_labelled([write_fasta(tmp_path / "x.fa", LETTERS, "1"), packed], CODING)
        assert (chromosome.labels == of_positions([feature], len(LETTERS))).all()

    def test_a_gene_across_the_origin_ends_behind_the_sequence(self, tmp_path: Path) -> None:
        rows = [
            "TOY.1\tx\tregion\t1\t400\t.\t+\t.\tIs_circular=true",
            "TOY.1\tx\tCDS\t381\t413\t.\t-\t0\tID=c",
        ]
        gff3, fasta = tmp_path / "x.gff3", write_fasta(tmp_path / "x.fa", LETTERS)
        gff3.write_text("\n".join(rows) + "\n")
        (chromosome,) = read_labelled([fasta, gff3], CODING)
        places = [SimpleLocation(0, 13, -1), SimpleLocation(380, 400, -1)]
        assert (chromosome.labels == of_positions([cds(CompoundLocation(places))], 400)).all()
        gff3.write_text(rows[1] + "\n")
        with pytest.raises(UserError, match=r"'CDS' feature at 381\.\.413 lies outside the 400 bases"):
            read_labelled([fasta, gff3], CODING)

    def test_another_assembly(self, tmp_path: Path) -> None:
        gff3 = write_gff3(tmp_path / "x.gff3", [cds(SimpleLocation(30, 60, 1))], name="contig_9")
        with pytest.raises(UserError, match="annotates 'contig_9', which"):
            read_labelled([write_fasta(tmp_path / "x.fa", LETTERS), gff3], CODING)

    def test_three_files(self) -> None:
        with pytest.raises(UserError, match="got 3 files"):
            read_labelled(["a", "b", "c"], CODING)


class TestSplicing:
    @staticmethod
    def transcript(strand: str) -> list[Feature]:
        def line(kind: str, start: int, end: int, phase: int | None = None, **marks: str) -> Feature:
            return Feature("toy", kind, ((start, end),), strand, False, marks, phase)

        exons = [line("exon", start, end, Parent="t") for start, end in ((20, 60), (100, 130), (180, 220))]
        # 20 bases of the first exon, the second, 10 of the last: read from either side they are 60
        coding = {
            "+": ((40, 60, 0), (100, 130, 1), (180, 190, 1)),
            "-": ((40, 60, 2), (100, 130, 2), (180, 190, 0)),
        }
        parts = [line("CDS", start, end, phase, ID="c", Parent="t") for start, end, phase in coding[strand]]
        return [line("mRNA", 20, 220, ID="t"), *exons, *parts]

    @pytest.mark.parametrize("strand", "+-")
    def test_introns_splice_sites_and_the_rest_of_exons(self, strand: str) -> None:
        labels = label_bases(annotated(LETTERS, *self.transcript(strand)), GENES)
        left, right = ("donor", "acceptor") if strand == "+" else ("acceptor", "donor")
        expected = np.zeros(400, dtype=np.int8)
        for start, end in ((20, 60), (100, 130), (180, 220)):
            expected[start:end] = GENES.of(f"utr{strand}")
        for start, end in ((60, 100), (130, 180)):
            expected[start:end] = GENES.of(f"intron{strand}")
            expected[start : start + 2] = GENES.of(f"{left}{strand}")
            expected[end - 2 : end] = GENES.of(f"{right}{strand}")
        sign = 1 if strand == "+" else -1
        coding = of_positions([cds(spliced((40, 60), (100, 130), (180, 190), strand=sign))], 400)
        expected[coding > 0] = coding[coding > 0]
        assert (labels == expected).all()

    def test_coding_labels_do_not_depend_on_the_scheme(self) -> None:
        record = annotated(LETTERS, *self.transcript("-"))
        coding, genes = label_bases(record, CODING), label_bases(record, GENES)
        assert (np.where(genes <= 6, genes, 0) == coding).all()

    def test_a_genbank_transcript_and_a_coding_sequence_without_one(self, tmp_path: Path) -> None:
        mrna = SeqFeature(spliced((20, 60), (100, 130), strand=1), "mRNA")
        lone = cds(spliced((200, 230), (260, 290), strand=-1))
        path = write_genbank(tmp_path / "x.gb", LETTERS, [mrna, lone])
        (chromosome,) = read_labelled(path, GENES)
        names = [GENES.classes[label] for label in chromosome.labels]
        assert names[20] == names[129] == "utr+"
        assert names[60:62] == ["donor+"] * 2
        assert names[230:232] == ["acceptor-"] * 2
        assert names[258:260] == ["donor-"] * 2


features_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from(["CDS", "CDS", "CDS", "exon", "gene"]),
        st.lists(st.integers(0, 199), min_size=2, max_size=6, unique=True),
        st.sampled_from("+-."),
        st.booleans(),
        st.sampled_from([None, 0, 1, 2]),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(features_of_any_kind, st.sampled_from([CODING, GENES]))
def test_the_other_strand_has_the_swapped_labels(drawn: list, scheme: object) -> None:
    features = []
    for number, (kind, ends, strand, pseudo, phase) in enumerate(drawn):
        ends = sorted(ends)
        parts = tuple(zip(ends[::2], ends[1::2], strict=False))
        marks = {"Parent": f"t{number}"} | ({"pseudo": ""} if pseudo and kind == "CDS" else {})
        features.append(Feature("toy", kind, parts, strand, phase == 2, marks, phase))
    record = annotated("ACGTTGCAAN" * 20, *features)
    there = label_bases(turned(record), scheme)  # type: ignore[arg-type]
    assert (there == complement_labels(label_bases(record, scheme), scheme)).all()  # type: ignore[arg-type]


def test_the_genome_is_given_by_features_alone(tmp_path: Path) -> None:
    assert (labels_of(tmp_path) == 0).all()
