"""What is pretrained on before short human sequences are classified."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from recipe_builders import random_letters

from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.fasta import Fasta, read_fasta
from genomics.genome_regions import GenomeConfig, read_regions
from recipes.genomics.gue.union import main, write_union
from recipes.genomics.pretrain_human import prepare as pretrain_human
from seqmamba.errors import UserError


def records(sequences: list[str], parts: list[str]) -> LabelledSequences:
    return LabelledSequences(
        [f"s{i}" for i in range(len(sequences))],
        TokenStore.from_letters([sequence.encode() for sequence in sequences]),
        np.arange(len(sequences)) % 2,
        ("0", "1"),
        "classification",
        split=np.array(parts),
    )


def test_the_human_sequence_is_dealt_out_in_blocks(tmp_path: Path) -> None:
    letters = "N" * 1_000 + random_letters(1_049_000, 1)
    place = tmp_path / Path(pretrain_human.MEMBER).name
    place.write_bytes(gzip.compress(f">X  gi|224589822|\n{letters}\n".encode(), 1))
    assert pretrain_human.build(tmp_path, tmp_path) == {
        "bases": {"train": 850_000, "valid": 100_000, "test": 100_000}
    }
    assert [(one.name, len(one.sequence)) for one in read_fasta(tmp_path / "human.fa")] == [
        ("chrX", 1_050_000)
    ]
    place.write_bytes(gzip.compress(b">a\nACGT\n>b\nACGT\n"))
    with pytest.raises(UserError, match="expected one sequence, got 2"):
        pretrain_human.build(tmp_path, tmp_path)


def test_the_union_holds_no_sequence_of_a_held_out_part(tmp_path: Path) -> None:
    kept = [random_letters(70 + i % 3, i) for i in range(60)]
    held_out = random_letters(80, 100)
    turned = held_out[::-1].translate(str.maketrans("ACGT", "TGCA"))
    sets = {
        "one": records([*kept[:55], held_out], ["train"] * 55 + ["test"]),
        "two": records([kept[55], turned, *kept[56:], held_out], ["train"] * 6 + ["validation"]),
    }
    assert write_union(sets, tmp_path) == {"one": 55, "two": 5}
    fasta = Fasta(tmp_path / "union.fa")
    regions = read_regions(GenomeConfig(str(tmp_path / "union.fa"), split=str(tmp_path / "union.bed")), fasta)
    letters = {one.name: one.sequence.decode() for one in read_fasta(tmp_path / "union.fa")}
    found = {
        part: [letters[row.chrom][row.start : row.end] for row in rows] for part, rows in regions.items()
    }
    assert sorted(found["train"] + found["validation"]) == sorted(kept)  # apart, although end to end
    assert found["validation"] == [kept[0], kept[50], kept[55]]
    assert not found["test"]


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "GUE").mkdir()
    with pytest.raises(SystemExit, match=r"error: .*mouse/4/train\.csv"):
        main(["--data", str(tmp_path / "GUE"), "--tasks", "mouse4", "-o", str(tmp_path / "out")])
