"""Substitutions in genes: their effects, the counting that they are compared with, and the comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq
from recipe_builders import genbank, random_letters

from genomics.alphabet import A, encode
from genomics.benchmarks.brca1 import harm_areas
from genomics.features import AnnotatedSequence, Feature, read_genbank
from genomics.vcf import Vcf
from recipes.genomics.genomes import GENOMES, Genome
from recipes.genomics.variant_effects import brca1, evaluate, prepare
from recipes.genomics.variant_effects.evaluate import compare, read_scored
from recipes.genomics.variant_effects.flanks import SIDE, FlankTable
from recipes.genomics.variant_effects.mutations import Code, Mutation, mutations, sample, write_vcf

CODE = Code.of()


def gene(start: int, end: int, strand: str = "+", **qualifiers: str) -> Feature:
    tag = {"locus_tag": f"b{start}"} | qualifiers
    return Feature("toy.1", "CDS", ((start, end),), strand, partial=False, qualifiers=tag)


def genome_of(letters: str, *features: Feature) -> AnnotatedSequence:
    return AnnotatedSequence("toy.1", "", encode(letters), features, circular=True)


def found_in(genome: AnnotatedSequence, allowed: np.ndarray | None = None) -> list[Mutation]:
    everything = np.ones(len(genome.tokens), dtype=bool)
    return list(mutations(genome, everything if allowed is None else allowed, CODE))


class TestMutations:
    @pytest.mark.parametrize("strand", ["+", "-"])
    def test_effects_are_those_of_translation(self, strand: str) -> None:
        letters = random_letters(90, seed=3)
        genome = genome_of(letters, gene(6, 84, strand))

        def protein(sequence: str) -> str:
            coding = Seq(sequence[6:84])
            return str((coding if strand == "+" else coding.reverse_complement()).translate(table=11))

        before = protein(letters)
        changes = found_in(genome)
        for one in changes:
            assert letters[one.position] == one.ref != one.alt
            after = protein(letters[: one.position] + one.alt + letters[one.position + 1 :])
            changed = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
            assert one.effect == (
                "synonymous" if not changed else "nonsense" if changed[0][1] == "*" else "missense"
            )
            distance = one.position - 6 if strand == "+" else 83 - one.position
            assert one.codon_position == distance % 3 + 1
        inner = [codon for codon in before[1:-1] if codon != "*"]
        assert len(changes) == len({(c.position, c.alt) for c in changes}) == 9 * len(inner)

    def test_genes_that_are_not_plain_take_no_part(self) -> None:
        letters = random_letters(600, seed=4)
        partial = Feature("toy.1", "CDS", ((0, 60),), "+", partial=True, qualifiers={})
        pieces = Feature("toy.1", "CDS", ((60, 90), (100, 130)), "+", partial=False, qualifiers={})
        shifted = gene(140, 201)
        pseudo = gene(210, 270, pseudo="")
        assert found_in(genome_of(letters, partial, pieces, shifted, pseudo)) == []

    def test_codons_in_two_genes_or_outside_take_no_part(self) -> None:
        genome = genome_of(random_letters(300, seed=5), gene(0, 150), gene(120, 240, "-"))
        allowed = np.zeros(300, dtype=bool)
        allowed[61:235] = True
        places = {one.position for one in found_in(genome, allowed)}
        assert places
        assert all(63 <= place < 120 or 150 <= place < 234 for place in places)

    def test_unknown_bases_take_no_part(self) -> None:
        genome = genome_of("ATG" + "NAA" + "CTG" + "TAA", gene(0, 12))
        assert {one.position for one in found_in(genome)} == {6, 7, 8}

    def test_as_many_of_each_and_repeatable(self) -> None:
        changes = found_in(genome_of(random_letters(900, seed=6), gene(0, 900)))
        chosen = sample(changes, 12, seed=0)
        assert [one.effect for one in sorted(chosen, key=lambda one: one.effect)] == (
            ["missense"] * 12 + ["nonsense"] * 12 + ["synonymous"] * 12
        )
        assert chosen == sorted(set(chosen)) == sample(changes, 12, seed=0)

    def test_positions_are_written_from_one(self, tmp_path: Path) -> None:
        genome = genome_of("ATGCTGTAA", gene(0, 9))
        write_vcf(tmp_path / "x.vcf", genome, found_in(genome))
        variants = list(Vcf(tmp_path / "x.vcf").variants())
        assert [(v.position, v.ref, v.alts) for v in variants[:2]] == [(4, b"C", (b"A",)), (4, b"C", (b"G",))]
        assert variants[0].fields[7] == b"EFFECT=missense;GENE=b0;CODON_POS=1"


def test_the_set_has_substitutions_of_test_blocks_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accession = GENOMES["escherichia_coli"].accession
    genes = [(start, start + 900) for start in range(0, 1_050_000, 10_000)]
    record = genbank(accession, random_letters(1_050_000, 3), genes)
    (tmp_path / "x.gbk").write_text(record)
    (whole,) = read_genbank(tmp_path / "x.gbk")
    monkeypatch.setattr(Genome, "read", lambda genome, unpacked: whole)
    made = prepare.build(tmp_path, tmp_path, each=50)
    assert made["variants"] == {"missense": 50, "nonsense": 50, "synonymous": 50}
    positions = [variant.position for variant in Vcf(tmp_path / "variants.vcf").variants()]
    assert positions == sorted(positions)
    assert all(900_000 < position <= 1_000_000 for position in positions)


class TestFlankTable:
    def test_it_knows_what_it_counted_on_both_strands(self) -> None:
        motif = "AAAACGGGG"
        table = FlankTable([encode(motif * 50)])
        places = np.array([SIDE])
        assert table.ratios(encode(motif), places, np.array([A]))[0] < -2
        assert table.ratios(encode("CCCCGTTTT"), places, np.array([A]))[0] < -2
        assert table.ratios(encode("AAAAAGGGG"), places, encode("C"))[0] > 2

    def test_ratios_are_those_of_counts(self) -> None:
        letters = random_letters(5_000, seed=1)
        table = FlankTable([encode(letters)])
        other = str(Seq(letters).reverse_complement())
        place = 2_000
        left, right = letters[place - SIDE : place], letters[place + 1 : place + 1 + SIDE]

        def count(base: str) -> int:
            word = left + base + right
            return 1 + sum(s[i:].startswith(word) for s in (letters, other) for i in range(len(s)))

        alt = "ACGT"[("ACGT".index(letters[place]) + 1) % 4]
        ratio = table.ratios(encode(letters), np.array([place]), encode(alt).astype(np.int64))
        assert ratio[0] == pytest.approx(np.log(count(alt) / count(letters[place])))

    def test_ends_and_unknown_bases_have_none(self) -> None:
        tokens = encode("ACGTNACGTACGTACGT")
        ratios = FlankTable([encode(random_letters(100, 2))]).ratios(
            tokens, np.array([1, 6, 9, 12, 15]), np.full(5, A)
        )
        assert np.isnan(ratios).tolist() == [True, True, False, False, True]


class TestEvaluation:
    HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"

    def write(self, path: Path, rows: list[tuple[int, str]]) -> Path:
        lines = (f"c\t{position}\t.\tA\tC\t.\t.\t{info}\n" for position, info in rows)
        path.write_text(self.HEADER + "".join(lines))
        return path

    def effects(self) -> list[tuple[int, str]]:
        return [
            (10, "EFFECT=synonymous;CODON_POS=3;SM_LLR=-1"),
            (11, "EFFECT=synonymous;CODON_POS=1;SM_LLR=-3"),
            (12, "EFFECT=missense;CODON_POS=3;SM_LLR=-2"),
            (13, "EFFECT=missense;CODON_POS=2;SM_LLR=-4"),
            (14, "EFFECT=nonsense;CODON_POS=1;SM_LLR=."),
            (15, "EFFECT=nonsense;CODON_POS=1"),
        ]

    def test_areas_by_hand(self, tmp_path: Path) -> None:
        scored = read_scored(self.write(tmp_path / "x.vcf", self.effects()), "SM_LLR")
        assert scored.without == 2
        found = compare(scored, scored.effect)
        assert {name: areas["auroc"].value for name, areas in found.items()} == {
            "missense against synonymous": 0.75,
            "missense against synonymous, third bases": 1.0,
        }

    def test_a_file_without_scores(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "x.vcf", self.effects())
        with pytest.raises(SystemExit, match="no variant has a number OTHER"):
            evaluate.main([str(path), "--field", "OTHER"])

    def test_the_command_compares_with_counting(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        letters = random_letters(1_000, seed=8)
        (tmp_path / "escherichia_coli.fa").write_text(f">c\n{letters}\n")
        (tmp_path / "escherichia_coli.bed").write_text("c\t0\t900\ttrain\nc\t900\t1000\ttest\n")
        path = self.write(tmp_path / "x.vcf", self.effects())
        evaluate.main([str(path), "--data", str(tmp_path), "-o", str(tmp_path / "out.json")])
        printed = capsys.readouterr().out
        assert printed.startswith("4 variants, 2 more without a score\n")
        written = json.loads((tmp_path / "out.json").read_text())
        assert set(written) == {"model", "flanks", "codon position"}
        by_place = written["codon position"]
        assert by_place["missense against synonymous"]["auroc"]["value"] == 0.5
        assert by_place["missense against synonymous, third bases"]["auroc"]["value"] == 0.5
        assert written["model"]["missense against synonymous"]["auroc"]["value"] == 0.75

    def test_brca1(self, tmp_path: Path) -> None:
        columns = "chromosome,position (hg19),reference,alt,function.score.mean,func.class\n"
        rows = "17,41276135,T,A,-2,LOF\n17,41276134,T,G,0.1,FUNC\n17,41276133,C,G,-0.8,INT\n"
        (tmp_path / "table.csv").write_text(columns + rows)
        brca1.main([str(tmp_path / "table.csv"), "-o", str(tmp_path / "x.vcf")])
        text = (tmp_path / "x.vcf").read_text()
        for position, score in ((41276133, -1), (41276134, -2), (41276135, -3)):
            line = next(line for line in text.splitlines() if f"\t{position}\t" in line)
            text = text.replace(line, f"{line};SM_LLR={score}")
        (tmp_path / "scored.vcf").write_text(text)
        scored = read_scored(tmp_path / "scored.vcf", "SM_LLR")
        found = compare(scored, scored.effect)
        assert list(found) == ["loss of function against the others"]
        assert found["loss of function against the others"]["auroc"].value == 1.0


def test_areas_depend_on_the_order_alone() -> None:
    effects = np.random.default_rng(0).normal(size=200)
    harmful = effects + np.random.default_rng(1).normal(size=200) < 0
    first = harm_areas(effects, harmful, n_bootstrap=0)["auroc"].value
    pairs = effects[harmful][:, None] < effects[~harmful]
    assert first == pytest.approx(pairs.mean())
    assert harm_areas(np.exp(effects), harmful, n_bootstrap=0)["auroc"].value == pytest.approx(first)
