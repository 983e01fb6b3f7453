"""What the preparations write that keep alike sequences together, on small sources like the real ones."""

from __future__ import annotations

import csv
import gzip
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from recipe_builders import random_letters

from genomics.alphabet import encode
from genomics.benchmarks import SpeciesDataModule
from genomics.benchmarks.species import SpeciesForm
from genomics.datasets import SequenceDataModule
from genomics.fasta import read_fasta
from genomics.splits import SplitConfig
from recipes.catalogue import RECIPES
from recipes.genomics.amr_class import prepare as amr_class
from recipes.genomics.grouping import join_groups
from recipes.genomics.species_context import prepare as species_context
from recipes.genomics.splice_uci import prepare as splice_uci
from recipes.genomics.tss_fly import prepare as tss_fly
from seqmamba.errors import UserError

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def load(folder: Path, stem: str) -> SequenceDataModule:
    data = SequenceDataModule(
        str(folder / f"{stem}.fa"), str(folder / f"{stem}.tsv"), split=SplitConfig(by="column")
    )
    data.setup()
    return data


class TestJoinGroups:
    def test_chains_are_followed_through_every_grouping(self) -> None:
        by_name = np.array([0, 0, 1, 1, 2, 3])
        alike = np.array([0, 1, 1, 2, 3, 3])
        assert join_groups(by_name, alike).tolist() == [0, 0, 0, 0, 1, 1]

    def test_nothing_in_common(self) -> None:
        apart = np.arange(4)
        assert join_groups(apart, apart[::-1]).tolist() == [0, 1, 2, 3]


class TestSpliceUci:
    @pytest.fixture
    def letters(self) -> list[str]:
        return [random_letters(splice_uci.LENGTH, seed) for seed in range(9)]

    def write(self, path: Path, letters: list[str], classes: tuple[str, ...] = ("ei", "ie", "n")) -> None:
        rdata, pd = pytest.importorskip("rdata"), pytest.importorskip("pandas")
        bits = {"A": "100", "C": "010", "G": "001", "T": "000"}
        rows = [list("".join(bits[letter] for letter in row)) for row in letters]
        frame = pd.DataFrame(rows, columns=[f"V{i}" for i in range(1, len(rows[0]) + 1)], dtype="category")
        frame["Class"] = pd.Categorical([classes[i % len(classes)] for i in range(len(rows))])
        rdata.write_rda(path, {"DNA": frame})

    def test_indicators_become_letters_again(self, letters: list[str], tmp_path: Path) -> None:
        self.write(tmp_path / "DNA.rda", letters)
        made = splice_uci.build(tmp_path, tmp_path)
        assert made == {"records": {"donor.fa": 3, "acceptor.fa": 3, "neither.fa": 3}}
        for number, name in enumerate(("donor", "acceptor", "neither")):
            found = [(r.name, r.sequence.decode()) for r in read_fasta(tmp_path / f"{name}.fa")]
            assert found == [(f"row{i + 1}", letters[i]) for i in range(number, 9, 3)]

    def test_another_table_is_refused(self, letters: list[str], tmp_path: Path) -> None:
        self.write(tmp_path / "DNA.rda", [row[:59] for row in letters], ("ei", "x"))
        with pytest.raises(
            UserError, match="expected 180 indicators and the classes ei, ie, n, got 177 and ei, x"
        ):
            splice_uci.build(tmp_path, tmp_path)

    def test_the_missing_package_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rdata", None)
        with pytest.raises(UserError, match="needs the package rdata") as caught:
            splice_uci.build(tmp_path, tmp_path)
        assert caught.value.hint == "pip install 'seqmamba[rdata]'"


class TestAmrClass:
    @pytest.mark.parametrize(
        ("name", "family"),
        [
            ("blaNDM-19_1_MF370080", "blaNDM"),
            ("blaTEM-1B_1_AY458016", "blaTEM"),
            ("blaZ_5_X1", "blaZ"),
            ("mcr-1.12_1_LC337668", "mcr-1"),
            ("dfrA18_1_AY034138", "dfrA"),
            ("qnrB19_1_EU432277", "qnrB"),
            ("sul1_2_U12338", "sul1"),
            ("tet(47)_1_KR857681", "tet(47)"),
            ("aac(6')-Ib11_1_AY136758", "aac(6')-Ib"),
            ("aac(6')-Ib_2_M23634", "aac(6')-Ib"),
        ],
    )
    def test_alleles_have_the_name_of_their_gene(self, name: str, family: str) -> None:
        assert amr_class.family_name(name) == family

    def test_families_are_whole_and_copies_gone(self, tmp_path: Path) -> None:
        for number, label in enumerate(amr_class.CLASSES):
            records = []
            for gene in range(10):
                letters = random_letters(300, seed=100 * number + gene)
                other = letters[:20] + random_letters(10, seed=gene + 5_000) + letters[30:]
                distant = random_letters(300, seed=100 * number + gene + 7_000)
                records += [
                    (f"g{gene}X1_1_A{number}", letters),
                    (f"h{gene}X_1_B{number}", other),  # alike, under another name
                    (f"g{gene}X2_1_C{number}", distant),  # of the name, not alike
                    (f"copy{gene}_1_D{number}", letters.translate(COMPLEMENT)[::-1]),
                ]
            text = "".join(f">{name}\n{letters}\n" for name, letters in records)
            (tmp_path / f"{label}.fsa").write_text(text)
        made = amr_class.build(tmp_path, tmp_path)
        rows = read_table(tmp_path / "genes.tsv")
        assert len(rows) == 300
        assert not any("copy" in row["name"] for row in rows)
        # g0X of one class and of the next have a name in common.
        parts: dict[str, set[str]] = {}
        for row in rows:
            parts.setdefault(row["name"].split("_")[0].strip("12")[1:], set()).add(row["split"])
        assert len(parts) == 10
        assert all(len(found) == 1 for found in parts.values())
        counts = Counter((row["split"], row["label"]) for row in rows)
        assert made["genes"]["test"] == {label: counts["test", label] for label in amr_class.CLASSES}
        data = load(tmp_path, "genes")
        assert data.classes == amr_class.CLASSES
        assert data.leaks.ok, data.leaks.summary()


class TestTssFly:
    def write(self, folder: Path, rows: list[tuple[str, str, int, str, str]]) -> None:
        """Write (name, chromosome, 0-based start, strand, letters) as UCSC names them."""
        with gzip.open(folder / "dm3_upstream2000.fa.gz", "wt") as out:
            for name, chrom, start, strand, letters in rows:
                place = f"{chrom}:{start + 1}-{start + tss_fly.LENGTH}"
                out.write(f">{name}_up_2000_{chrom}_{start + 1}_{strand} {place}\n{letters}\n")

    def chromosome(self) -> tuple[str, list[tuple[str, str, int, str, str]]]:
        letters = random_letters(250_000, seed=5)
        rows = []
        for number, start in enumerate(range(0, 240_000, 4_000)):
            region = letters[start : start + tss_fly.LENGTH]
            strand = "fr"[number % 2]
            bases = region if strand == "f" else region.translate(COMPLEMENT)[::-1]
            rows.append((f"NM_{number}", "chr2L", start, strand, bases))
        return letters, rows

    def test_windows_are_where_their_names_say(self, tmp_path: Path) -> None:
        letters, rows = self.chromosome()
        self.write(tmp_path, [*rows, ("NM_again", *rows[0][1:])])
        made = tss_fly.build(tmp_path, tmp_path)
        assert (made["regions"], made["groups"], made["left_out"]) == (60, 60, 0)
        data = load(tmp_path, "windows")
        assert data.leaks.ok, data.leaks.summary()
        assert data.records.intervals is not None
        for interval, tokens, label in zip(
            data.records.intervals, data.records.tokens, data.records.labels, strict=True
        ):
            region = letters[interval.start : interval.end]
            bases = region if interval.strand == "+" else region.translate(COMPLEMENT)[::-1]
            assert (tokens == encode(bases)).all()
            upstream = interval.start % 4_000 == (0 if interval.strand == "+" else 1_700)
            assert data.classes[label] == ("far" if upstream else "tss")

    def test_regions_that_overlap_or_are_alike_share_a_part(self, tmp_path: Path) -> None:
        letters, rows = self.chromosome()
        shifted = ("NM_shift", "chr2L", 100, "f", letters[100:2_100])
        copied = ("NM_copy", "chr3L", 0, "f", random_letters(1_700, seed=9) + letters[1_700:2_000])
        self.write(tmp_path, [*rows, shifted, copied])
        made = tss_fly.build(tmp_path, tmp_path)
        assert (made["regions"], made["groups"]) == (62, 60)

    def test_a_window_in_front_of_another_gene_is_not_far(self, tmp_path: Path) -> None:
        letters, rows = self.chromosome()
        front = 8_000  # of a region of the forward strand: its far window is 8,000 to 8,300
        crossing = ("NM_cross", "chr2L", front + 250 - tss_fly.LENGTH, "f")
        self.write(tmp_path, [*rows, (*crossing, letters[crossing[2] : crossing[2] + tss_fly.LENGTH])])
        assert tss_fly.build(tmp_path, tmp_path)["left_out"] == 1
        names = [row["name"] for row in read_table(tmp_path / "windows.tsv")]
        assert f"chr2L:{front}-{front + 300}(+)" not in names

    def test_regions_over_the_end_of_a_chromosome_are_left_out(self, tmp_path: Path) -> None:
        _, rows = self.chromosome()
        self.write(tmp_path, [*rows, ("NM_end", "chr3R", -1_647, "f", random_letters(353, seed=1))])
        assert tss_fly.build(tmp_path, tmp_path)["regions"] == 60

    @pytest.mark.parametrize(
        ("header", "message"),
        [("NM_1 chr2L", "gives no strand and place"), ("a_f chr2L:1-1999", "is no place of 2000 bases")],
    )
    def test_headers_must_give_the_place(self, tmp_path: Path, header: str, message: str) -> None:
        with gzip.open(tmp_path / "dm3_upstream2000.fa.gz", "wt") as out:
            out.write(f">{header}\n{random_letters(tss_fly.LENGTH, seed=1)}\n")
        with pytest.raises(UserError, match=rf"dm3_upstream2000\.fa\.gz:1: '{header}' {message}"):
            tss_fly.read_regions(tmp_path / "dm3_upstream2000.fa.gz")


def test_strains_are_held_out_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(species_context, "SHORTEST", 1_000)
    monkeypatch.setattr(species_context, "CUT", 1_500)
    for seed, strain in enumerate(species_context.STRAINS):
        path = tmp_path / "unpacked" / Path(strain.member).name
        path.parent.mkdir(exist_ok=True)
        two = strain.species == "vibrio_cholerae"
        sizes = (2_500, 1_200 if strain.name != "H1" else 900) if two else (2_500,)
        records = (f">c{i}\n{random_letters(n, 10 * seed + i)}\n" for i, n in enumerate(sizes))
        path.write_bytes(gzip.compress("".join(records).encode()))
    made = species_context.build(tmp_path / "unpacked", tmp_path)["bases"]
    assert made["escherichia_coli"] == {"DH1_1": 1_500, "DH1_2": 1_000, "MG1655_K12": 2_500}
    assert "H1_2" not in made["vibrio_cholerae"]  # too short
    recipe = next(recipe for recipe in RECIPES if recipe.name == "genomics/species_context")
    form = yaml.safe_load((recipe.folder / recipe.configs[0]).read_text())["data"]["init_args"]["form"]
    assert {*form["validation"], *form["test"]} < {name for names in made.values() for name in names}
    data = SpeciesDataModule(
        str(tmp_path / "genomes"),
        SpeciesForm(**form),
        length=200,
        train_windows=8,
        eval_windows=8,
        batch_size=4,
    )
    data.setup()
    chromosomes: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for name, part in zip(data.records.names, data.assignment.tolist(), strict=True):
        chromosomes[part].add(name.split(":")[1])
    assert chromosomes["test"] <= set(form["test"])
    assert chromosomes["validation"] <= set(form["validation"])
    assert not chromosomes["train"] & {*form["validation"], *form["test"]}
