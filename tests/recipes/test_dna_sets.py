"""What the preparations write, on small sources laid out like the real ones."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from recipe_builders import genbank, random_letters

from genomics.alphabet import encode
from genomics.datasets import SequenceDataModule
from genomics.fasta import Fasta, read_fasta
from genomics.features import AnnotatedSequence, Feature, covered
from genomics.genome_regions import GenomeConfig, read_regions
from genomics.intervals import parse_header
from genomics.splits import SplitConfig
from recipes.genomics.cds_intergenic import prepare as cds_intergenic
from recipes.genomics.cds_intergenic.windows import WindowConfig, cut_windows
from recipes.genomics.genomes import GENOMES, Genome
from recipes.genomics.oct4_mafk import prepare as oct4_mafk
from recipes.genomics.pretrain_prokaryotes import prepare as pretrain_prokaryotes
from recipes.genomics.pretrain_yeast_ecoli import prepare as pretrain_yeast_ecoli
from recipes.genomics.species import prepare as species
from seqmamba.errors import UserError

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def feature(kind: str, *parts: tuple[int, int], **qualifiers: str) -> Feature:
    return Feature("toy", kind, parts, "+", partial=False, qualifiers=qualifiers)


def genome_of(length: int, *features: Feature, seed: int = 0) -> AnnotatedSequence:
    tokens = encode(random_letters(length, seed))
    source = feature("source", (0, length))
    return AnnotatedSequence("toy.1", "", tokens, (source, *features), circular=True)


class TestOct4Mafk:
    @pytest.fixture
    def unpacked(self, tmp_path: Path) -> Path:
        for number, file in enumerate(file for files in oct4_mafk.FILES.values() for file in files):
            records = ""
            for i, chrom in enumerate(("chr1", "chr7", "chr8", "chr9") * 3):
                start = 1_000 * number + 60 * i
                records += f">{chrom}:{start}-{start + 50}\n{random_letters(50, seed=start)}\n"
            (tmp_path / file).write_text(records)
        return tmp_path

    def test_both_halves_of_both_classes(self, unpacked: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        assert oct4_mafk.build(unpacked, out) == {"records": {"mafk.fa": 24, "oct4.fa": 24, "unseen.fa": 24}}
        for label, files in oct4_mafk.FILES.items():
            ours = {(record.name, record.sequence) for record in read_fasta(out / f"{label}.fa")}
            theirs = {(r.name, r.sequence) for file in files for r in read_fasta(unpacked / file)}
            assert ours == theirs
        held_out = {record.name.split(":")[0] for record in read_fasta(out / "unseen.fa")}
        assert held_out == {"chr8", "chr9"}

    def test_repeats_are_left_out_on_either_strand(self, unpacked: Path, tmp_path: Path) -> None:
        records = list(read_fasta(unpacked / "sample.fa"))
        first = records[0].sequence.decode()
        with (unpacked / "sample.fa").open("a") as file:
            file.write(f">chr2:0-50\n{first.lower()}\n>chr3:0-50\n{first.translate(COMPLEMENT)[::-1]}\n")
        out = tmp_path / "out"
        out.mkdir()
        assert oct4_mafk.build(unpacked, out)["records"]["oct4.fa"] == 24

    def test_a_peak_of_both_classes_is_refused(self, unpacked: Path, tmp_path: Path) -> None:
        peak = next(read_fasta(unpacked / "sample2.fa")).sequence.decode()
        with (unpacked / "sample.fa").open("a") as file:
            file.write(f">chr2:0-50\n{peak.translate(COMPLEMENT)[::-1]}\n")
        with pytest.raises(UserError, match="listed under mafk as well as oct4"):
            oct4_mafk.build(unpacked, tmp_path)

    def test_headers_must_give_the_place(self, unpacked: Path, tmp_path: Path) -> None:
        (unpacked / "sample.fa").write_text(">chr1:0-60\n" + "A" * 50 + "\n")
        with pytest.raises(UserError, match=r"sample\.fa:1: 'chr1:0-60' gives no coordinates"):
            oct4_mafk.build(unpacked, tmp_path)


class TestWindows:
    CONFIG = WindowConfig(width=50, train_stride=10, block_size=1_000)

    @pytest.fixture
    def genome(self) -> AnnotatedSequence:
        genes = [feature("CDS", (start, start + 330)) for start in range(0, 40_000, 480)]
        overlapping = [feature("CDS", (start + 300, start + 400)) for start in range(0, 40_000, 4_800)]
        other = [feature("tRNA", (410, 470)), feature("CDS", (900, 950), pseudo="")]
        return genome_of(40_000, *genes, *overlapping, *other)

    def test_labels_are_what_the_annotation_says(self, genome: AnnotatedSequence) -> None:
        annotated = covered((f for f in genome.features if f.kind != "source"), 40_000)
        coding = covered(
            (f for f in genome.features if f.kind == "CDS" and "pseudo" not in f.qualifiers), 40_000
        )
        windows = cut_windows(genome, self.CONFIG)
        assert {window.label for window in windows} == {"cds", "intergenic"}
        for window in windows:
            inside = slice(window.start, window.start + 50)
            assert coding[inside].all() if window.label == "cds" else not annotated[inside].any()

    def test_blocks_stay_whole_and_apart(self, genome: AnnotatedSequence) -> None:
        windows = cut_windows(genome, self.CONFIG)
        parts: dict[int, set[str]] = {}
        for window in windows:
            assert window.start // 1_000 == (window.start + 49) // 1_000
            parts.setdefault(window.start // 1_000, set()).add(window.part)
        assert all(len(found) == 1 for found in parts.values())
        shares = Counter(part for found in parts.values() for part in found)
        assert shares["test"] == pytest.approx(8, abs=2)
        assert shares["validation"] == pytest.approx(4, abs=2)

    def test_only_training_windows_overlap(self, genome: AnnotatedSequence) -> None:
        windows = cut_windows(genome, self.CONFIG)
        for label in ("cds", "intergenic"):
            for part, distance in (("train", 10), ("validation", 50), ("test", 50)):
                starts = [w.start for w in windows if (w.label, w.part) == (label, part)]
                gaps = [b - a for a, b in pairwise(starts)]
                assert min(gaps) >= distance
        train = [w.start for w in windows if (w.label, w.part) == ("intergenic", "train")]
        assert min(b - a for a, b in pairwise(train)) == 10

    def test_every_part_is_balanced_and_the_cut_repeatable(self, genome: AnnotatedSequence) -> None:
        windows = cut_windows(genome, self.CONFIG)
        counts = Counter((window.part, window.label) for window in windows)
        for part in ("train", "validation", "test"):
            assert counts[part, "cds"] == counts[part, "intergenic"] > 0
        assert windows == cut_windows(genome, self.CONFIG)
        assert windows == sorted(windows)


class TestCdsIntergenic:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        for seed, name in enumerate(cds_intergenic.NAMES.values()):
            genes = [(start, start + 900) for start in range(0, 60_000, 1_500)]
            letters = random_letters(60_000, seed)
            repeat = letters[1_000:1_400]  # an intergenic element in every fourth gap
            for start in range(1_000, 60_000, 6_000):
                letters = letters[:start] + repeat + letters[start + 400 :]
            path = tmp_path / PurePosixPath(GENOMES[name].member).name.removesuffix(".gz")
            path.write_text(genbank(GENOMES[name].accession, letters, genes))
            if GENOMES[name].member.endswith(".gz"):
                path.rename(f"{path}.gz")  # the reader looks at the content, not at the name
        folder = tmp_path / "out"
        folder.mkdir()
        cds_intergenic.build(
            tmp_path, folder, dict.fromkeys(cds_intergenic.NAMES, WindowConfig(block_size=6_000))
        )
        return folder

    @pytest.mark.parametrize("name", ["ecoli", "bjaponicum", "ecoli_to_bjaponicum", "bjaponicum_to_ecoli"])
    def test_a_set_loads_and_has_no_leak(self, out: Path, name: str) -> None:
        data = SequenceDataModule(
            fasta=str(out / f"{name}.fa"), labels=str(out / f"{name}.tsv"), split=SplitConfig(by="column")
        )
        data.setup()
        assert data.classes == ("cds", "intergenic")
        assert data.records.intervals is not None
        assert (data.records.tokens.lengths == 200).all()
        assert data.leaks.ok, data.leaks.summary()
        genomes = {
            part: {data.records.intervals[i].chrom for i in data.part(part)}
            for part in ("train", "validation", "test")
        }
        ours, _, theirs = name.partition("_to_")
        accession = {short: f"{GENOMES[full].accession}.1" for short, full in cds_intergenic.NAMES.items()}
        assert genomes == {
            "train": {accession[ours]},
            "validation": {accession[ours]},
            "test": {accession[theirs or ours]},
        }

    def test_windows_are_where_their_names_say(self, out: Path, tmp_path: Path) -> None:
        from genomics.features import read_genbank

        genome = GENOMES["escherichia_coli"].read(tmp_path)
        assert genome.name == next(read_genbank(tmp_path / "NC_000913.gbk.gz")).name
        for record in read_fasta(out / "ecoli.fa"):
            interval = parse_header(record.header, len(record.sequence))
            assert interval is not None
            assert (encode(record.sequence) == genome.tokens[interval.start : interval.end]).all()


def test_another_genome_than_expected_is_refused(tmp_path: Path) -> None:
    (tmp_path / "NC_000913.gbk.gz").write_text(genbank("NC_999999", random_letters(600, 1), []))
    with pytest.raises(UserError, match=r"expected the record NC_000913, got NC_999999\.1"):
        GENOMES["escherichia_coli"].read(tmp_path)


def test_species_windows_lie_on_a_grid_and_are_not_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(genome: object, unpacked: Path) -> AnnotatedSequence:
        sequence = genome_of(30_500, seed=len(repr(genome)))
        sequence.tokens[4_000:5_000] = sequence.tokens[9_000:10_000]
        sequence.tokens[6_500] = encode("N")[0]
        return sequence

    monkeypatch.setattr(Genome, "read", read)
    assert species.build(tmp_path, tmp_path, windows=20) == {"windows": dict.fromkeys(GENOMES, 20)}
    for name in GENOMES:
        starts = [
            int(record.name.split(":")[1].split("-")[0]) for record in read_fasta(tmp_path / f"{name}.fa")
        ]
        assert starts == sorted(set(starts))
        assert not {4_000, 6_000, 9_000, 30_000} & set(starts)
        assert not np.mod(starts, 1_000).any()


def test_genomes_for_pretraining_keep_their_chromosomes(tmp_path: Path) -> None:
    yeast = "".join(
        f">x|{n}| S288c chromosome {n}, complete\n{random_letters(90, i)}\n"
        for i, n in enumerate(("IV", "XVI"))
    )
    (tmp_path / "fungus.fna").write_text(yeast)
    (tmp_path / "bacteria.fna").write_text(f">E.coli\n{random_letters(1_050_000, 3)}\n")
    out = tmp_path / "out"
    out.mkdir()
    parts = {"train": 850_000, "valid": 100_000, "test": 100_000}
    assert pretrain_yeast_ecoli.build(tmp_path, out) == {"bases": {"yeast": 180, "ecoli": parts}}
    assert [record.name for record in read_fasta(out / "yeast.fa")] == ["chrIV", "chrXVI"]
    regions = read_regions(
        GenomeConfig(str(out / "ecoli.fa"), split=str(out / "ecoli.bed")), Fasta(out / "ecoli.fa")
    )
    assert {part: sum(map(len, rows)) for part, rows in regions.items()} == {
        "train": 850_000,
        "validation": 100_000,
        "test": 100_000,
    }
    assert [row.start for row in regions["validation"]] == [800_000]
    (tmp_path / "fungus.fna").write_text(">plasmid\nACGT\n")
    with pytest.raises(UserError, match="'plasmid' does not name a chromosome"):
        pretrain_yeast_ecoli.build(tmp_path, out)


def test_the_genome_for_later_tasks_is_not_pretrained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Genome, "read", lambda genome, unpacked: genome_of(500, seed=len(genome.name)))
    made = pretrain_prokaryotes.build(tmp_path, tmp_path)["bases"]
    assert made == {name: {"train": 500} for name in GENOMES if name != "bradyrhizobium_japonicum"}
    assert {path.stem for path in tmp_path.glob("*.fa")} == set(made)
