from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from variant_cases import genome_letters, other_base, write_genome

from genomics.alphabet import PAD, encode
from genomics.datasets.alleles import ChromosomeSplit, PairedAlleleDataModule
from genomics.labelled_variants import LabelConfig
from seqmamba.errors import UserError

LETTERS = {name: genome_letters(400, seed) for seed, name in enumerate(("chr1", "chr2", "chr3"))}
SPLIT = ChromosomeSplit(validation=("2",), test=("chr3",))
VCF = """##fileformat=VCFv4.2
##INFO=<ID=Y,Number=A,Type=Float,Description="x">
##INFO=<ID=CLASS,Number=1,Type=String,Description="x">
##INFO=<ID=BAD,Number=0,Type=Flag,Description="x">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""
Make = Callable[..., PairedAlleleDataModule]


def row(chrom: str, position: int, ref: str | None, alt: str | None, info: str) -> str:
    base = LETTERS[chrom if chrom.startswith("chr") else f"chr{chrom}"][position - 1]
    ref, alt = ref or base, alt or other_base(base)
    return f"{chrom}\t{position}\t.\t{ref}\t{alt}\t.\t.\t{info}\n"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    write_genome(tmp_path / "g.fa", **LETTERS)

    def of(rows: list[str], labels: LabelConfig, split: ChromosomeSplit = SPLIT, **options: Any) -> Any:
        (tmp_path / "v.vcf").write_text(VCF + "".join(rows))
        data = PairedAlleleDataModule(
            str(tmp_path / "g.fa"),
            str(tmp_path / "v.vcf"),
            labels,
            split,
            **{"window": 40, "batch_size": 3} | options,
        )
        data.setup()
        return data

    return of


def rows_everywhere(info: str = "Y=1") -> list[str]:
    return [row(chrom, place, None, None, info) for chrom in LETTERS for place in (60, 200)]


def test_windows_are_cut_around_variants_and_indels(make: Make) -> None:
    rows = rows_everywhere()
    at = LETTERS["chr1"][99:102]
    rows.append(row("1", 100, at, at[0], "Y=-0.5"))  # a deletion of two, without chr
    rows.append(row("chr1", 5, None, LETTERS["chr1"][4] + "GG", "Y=.25"))  # an insertion near the edge
    data = make(rows, LabelConfig(("Y",), "effects"))
    assert data.assignment.tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2 + ["train"] * 2
    assert data.alleles.values[:, 0].tolist() == [1] * 6 + [-0.5, 0.25]
    seen = {}
    for batch in data.train_dataloader():
        assert batch["reference"].dtype == torch.int64
        lengths = batch.get("lengths", torch.full((len(batch["index"]),), 40)).tolist()
        for i, place in enumerate(batch["index"].tolist()):
            pair = [batch[key][i].numpy() for key in ("reference", "alternative")]
            assert all((tokens[lengths[i] :] == PAD).all() for tokens in pair)
            seen[place] = [tokens[: lengths[i]] for tokens in pair]
    assert sorted(seen) == [0, 1, 6, 7]
    chrom = encode(LETTERS["chr1"])
    reference, alternative = seen[0]
    np.testing.assert_array_equal(reference, chrom[39:79])
    assert np.flatnonzero(reference != alternative).tolist() == [20]
    reference, alternative = seen[6]
    without = np.concatenate([chrom[:100], chrom[102:]])
    np.testing.assert_array_equal(reference, chrom[79:119])
    np.testing.assert_array_equal(alternative, without[79:119])
    reference, alternative = seen[7]
    np.testing.assert_array_equal(reference, chrom[:40])
    np.testing.assert_array_equal(alternative, np.concatenate([chrom[:5], encode("GG"), chrom[5:38]]))


def test_rows_that_take_no_part_are_counted(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_everywhere()
    rows.append(row("chr1", 70, other_base(LETTERS["chr1"][69]), LETTERS["chr1"][69], "Y=1"))  # REF is wrong
    rows.append(row("chr1", 71, None, "<DEL>", "Y=1"))
    rows.append(row("chr1", 72, None, None, "Y=."))
    rows.append("chr9\t5\t.\tA\tC\t.\t.\tY=1\n")
    data = make(rows, LabelConfig(("Y",)))
    assert data.alleles.dropped == {"REF_MISMATCH": 1, "SYMBOLIC": 1, "UNLABELLED": 1, "UNKNOWN_CONTIG": 1}
    printed = capsys.readouterr().out
    assert "6 alleles take part; left out: 1 REF_MISMATCH" in printed
    assert "v.vcf:12; is it the right build?" in printed


def test_values_of_alleles_flags_and_words(make: Make) -> None:
    base = LETTERS["chr1"][89]
    alts = f"{other_base(base)},{other_base(base, 2)}"
    rows = [*rows_everywhere("Y=1;CLASS=bad"), row("chr1", 90, None, alts, "Y=0,.;CLASS=good;BAD")]
    data = make(rows, LabelConfig(("Y", "BAD")))
    np.testing.assert_array_equal(data.alleles.values[-2:], [[0, 1], [np.nan, 1]])
    assert (data.alleles.values[:6] == [1, 0]).all()
    worded = make(rows, LabelConfig(("CLASS",), positive="bad"))
    assert worded.alleles.values[:, 0].tolist() == [1] * 6 + [0, 0]


def test_parts_from_the_file_and_shared_windows(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    places = [(60, "train"), (75, "test"), (79, "TEST"), (81, "test"), (200, "valid"), (350, "train")]
    rows = [row("chr1", place, None, None, f"Y=1;CLASS={part}") for place, part in places]
    data = make(rows, LabelConfig(("Y",), part="CLASS"), ChromosomeSplit())
    assert data.assignment.tolist() == ["train", "test", "test", "test", "validation", "train"]
    assert "2 of 3 test variants lie in the window of a training variant" in capsys.readouterr().out
    rows.append(row("chr1", 90, None, None, "Y=1;CLASS=held"))
    with pytest.raises(UserError, match=r"v.vcf:12: expected train, validation or test.*'held'"):
        make(rows, LabelConfig(("Y",), part="CLASS"), ChromosomeSplit())


def test_a_table(tmp_path: Path) -> None:
    write_genome(tmp_path / "g.fa", **LETTERS)
    lines = ["chromosome\tposition\tref\talt\tslope"]
    for chrom in LETTERS:
        base = LETTERS[chrom][59]
        lines.append(f"{chrom}\t60\t{base}\t{other_base(base)}\t-2.5e-1")
    (tmp_path / "v.tsv").write_text("\n".join(lines) + "\n")
    data = PairedAlleleDataModule(
        str(tmp_path / "g.fa"), str(tmp_path / "v.tsv"), LabelConfig(("slope",), "effects"), SPLIT, window=40
    )
    data.setup()
    assert data.alleles.values.tolist() == [[-0.25]] * 3
    with pytest.raises(UserError, match="has no column 'beta'"):
        PairedAlleleDataModule(
            str(tmp_path / "g.fa"), str(tmp_path / "v.tsv"), LabelConfig(("beta",), "effects"), SPLIT
        ).setup()


@pytest.mark.parametrize(
    ("info", "labels", "split", "message"),
    [
        ("Y=2", LabelConfig(("Y",)), SPLIT, "v.vcf:6: Y: expected 0 or 1, got '2'"),
        ("Y=x", LabelConfig(("Y",), "effects"), SPLIT, "v.vcf:6: Y: expected a number, got 'x'"),
        ("Y=1", LabelConfig(("Z",)), SPLIT, "has no INFO field 'Z'"),
        ("Y=.", LabelConfig(("Y",)), SPLIT, "no allele can be used"),
        (
            "Y=1",
            LabelConfig(("Y",)),
            ChromosomeSplit(("chr9",)),
            "the genome has no sequence",
        ),
        ("Y=1", LabelConfig(("Y",)), ChromosomeSplit(), "no variant is for validation"),
        ("Y=1", LabelConfig(("Y",), part="CLASS"), SPLIT, "labels.part names the parts already"),
    ],
)
def test_what_is_refused(make: Make, info: str, labels: LabelConfig, split: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(rows_everywhere(info), labels, split)


def test_options() -> None:
    with pytest.raises(UserError, match=r"labels.targets: expected different names"):
        LabelConfig(())
    with pytest.raises(UserError, match=r"labels.task: expected labels or effects"):
        LabelConfig(("Y",), "other")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"labels.positive: is for labels"):
        LabelConfig(("Y",), "effects", positive="x")
    with pytest.raises(UserError, match="'chr1' is held out twice"):
        ChromosomeSplit(("chr1",), ("chr1",))
