from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from release_files import other_strand, random_letters

from genomics.alphabet import decode
from genomics.benchmarks import find_benchmark
from genomics.benchmarks.long_range import LabelledVariant, VariantWindows, read_regions, read_variant_effects
from genomics.benchmarks.long_range_tracks import read_cage, read_chromatin, read_expression
from seqmamba.errors import UserError

LENGTH = 200


@pytest.fixture
def genome(tmp_path: Path) -> str:
    """The letters of chr1, which is in genome.fa."""
    letters = random_letters(np.random.default_rng(0), LENGTH)
    (tmp_path / "genome.fa").write_text(f">chr1\n{letters}\n")
    return letters


def write_eqtl(folder: Path, rows: list[str]) -> None:
    path = folder / "variant_effect_causal_eqtl" / "All_Tissues.csv"
    path.parent.mkdir()
    header = "CHROM,POS,REF,ALT,label,tissue,distance_to_nearest_TSS,split"
    path.write_text("\n".join([header, *rows]) + "\n")


def swapped(base: str) -> str:
    return {"A": "C", "C": "A", "G": "T", "T": "G"}[base]


@pytest.mark.parametrize("length", [20, 21])
def test_eqtl_variants_in_their_windows(tmp_path: Path, genome: str, length: int) -> None:
    place = 100  # 1-based
    ref = genome[place - 1]
    rows = [f"chr1,{place},{ref},{swapped(ref)},1,Whole_Blood,1200.5,train"]
    rows += [f"1,{place},{swapped(ref)},{swapped(ref)},0,Liver,,test", "chr1,5,A,C,0,Liver,3,test"]
    write_eqtl(tmp_path, rows)
    variants = list(read_variant_effects(tmp_path, "causal_eqtl"))
    assert [(v.position, v.label, v.part, v.tissue, v.distance) for v in variants] == [
        (99, 1, "train", "Whole_Blood", 1200.5),
        (99, 0, "test", "Liver", None),
        (4, 0, "test", "Liver", 3.0),
    ]
    windows = VariantWindows(tmp_path / "genome.fa", length)
    pair = windows(variants[0])
    assert pair is not None
    reference, alternative = (decode(tokens) for tokens in pair)
    start = place - 1 - length // 2
    assert reference == genome[start : start + length]
    assert [i for i in range(length) if reference[i] != alternative[i]] == [length // 2]
    assert alternative[length // 2] == swapped(ref)
    assert windows(variants[1]) is not None  # REF is wrong: counted, not dropped
    assert windows(variants[2]) is None  # leaves the chromosome
    assert windows.counts == {"used": 2, "outside": 1, "ref_mismatch": 1}


def test_pathogenic_variants_without_ref_and_with_another_label_column(tmp_path: Path) -> None:
    folder = tmp_path / "variant_effect_pathogenic"
    folder.mkdir()
    (folder / "vep_pathogenic_coding.csv").write_text("CHROM,POS,ALT,INT_LABEL,split\nchr1,7,g,1,train\n")
    (folder / "vep_pathogenic_non_coding_subset.csv").write_text(
        "CHROM,POS,ALT,label,split\nchr2,9,T,0,test\n"
    )
    [coding] = read_variant_effects(tmp_path, "pathogenic_clinvar")
    [other] = read_variant_effects(tmp_path, "pathogenic_omim")
    assert (coding.ref, coding.alt, coding.label, coding.position) == (None, "G", 1, 6)
    assert (other.chrom, other.part) == ("chr2", "test")
    with pytest.raises(UserError, match=r"has no variant_effect_causal_eqtl/All_Tissues\.csv"):
        list(read_variant_effects(tmp_path, "causal_eqtl"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("chr1,0,A,C,1,x,1,train", "POS|position: expected a position from 1"),
        ("chr1,5,A,CT,1,x,1,train", "expected a variant of one base"),
        ("chr1,5,A,N,1,x,1,train", "expected a variant of one base"),
        ("chr1,5,A,C,2,x,1,train", "label: expected 0 or 1"),
        ("chr1,5,A,C,1,x,1,hold", "expected train, validation or test"),
        ("chr1,5,A,C,1,x,far,train", "distance: expected a number"),
    ],
)
def test_a_variant_that_is_wrong(tmp_path: Path, row: str, message: str) -> None:
    write_eqtl(tmp_path, [row])
    with pytest.raises(UserError, match=rf"All_Tissues\.csv:2: .*({message})"):
        list(read_variant_effects(tmp_path, "causal_eqtl"))


def test_an_unknown_chromosome_names_the_row(tmp_path: Path, genome: str) -> None:
    variant = LabelledVariant("chr9", 50, None, "A", 0, "test", None, None, "x.csv:3")
    with pytest.raises(UserError, match=r"x\.csv:3: .*no sequence named 'chr9'"):
        VariantWindows(tmp_path / "genome.fa", 20)(variant)


def test_regions(tmp_path: Path, genome: str) -> None:
    folder = tmp_path / "regulatory_elements"
    folder.mkdir()
    rows = [f"chr1,{11 + 10 * i},{20 + 10 * i},{i % 2},{('train', 'test')[i // 6]}" for i in range(12)]
    text = "CHROM,START,STOP,label,split\n" + "\n".join(rows) + "\n"
    (folder / "promoter_dataset_subset.csv").write_text(text)
    records = read_regions(tmp_path, "promoter", tmp_path / "genome.fa")
    assert decode(records.tokens[0]) == genome[10:20]  # 11 to 20, both counted
    assert records.classes == ("0", "1")
    wider = read_regions(tmp_path, "promoter", tmp_path / "genome.fa", length=30)
    assert decode(wider.tokens[0]) == genome[0:30]
    wider = read_regions(tmp_path, "promoter", tmp_path / "genome.fa", length=40)
    assert len(wider) == 11  # the first would begin at -5
    with pytest.raises(UserError, match="a FASTA file of hg38, is needed"):
        find_benchmark("long_range/promoter").read(tmp_path)


def test_expression_reads_minus_genes_on_their_strand(tmp_path: Path, genome: str) -> None:
    folder = tmp_path / "bulk_rna_expression"
    folder.mkdir()
    (folder / "gene_coordinates.csv").write_text(
        "chrom,strand,CAGE_representative_TSS,split\nchr1,+,101,train\nchr1,-,101,valid\nchr1,+,3,test\n"
    )
    (folder / "rna_expression_values.csv").write_text(",brain,liver\n0,1.5,2\n1,-1,0\n2,3,4\n")
    records = read_expression(tmp_path, tmp_path / "genome.fa", 20)
    assert records.task == "regression"
    assert records.classes == ("brain", "liver")
    assert records.labels.tolist() == [[1.5, 2.0], [-1.0, 0.0]]
    assert decode(records.tokens[0]) == genome[90:110]
    assert decode(records.tokens[1]) == other_strand(genome[90:110])
    assert records.split is not None
    assert records.split.tolist() == ["train", "validation"]
    assert records.notes == ("left out 1 windows that leave their chromosome",)
    (folder / "rna_expression_values.csv").write_text("brain,liver\n1.5,2\n1,x\n")
    with pytest.raises(UserError, match=r"rna_expression_values\.csv:3: expected numbers"):
        read_expression(folder, tmp_path / "genome.fa", 20)
    (folder / "rna_expression_values.csv").write_text("brain,liver\n1.5,2\n")
    with pytest.raises(UserError, match=r"has 3 rows, rna_expression_values\.csv 1"):
        read_expression(folder, tmp_path / "genome.fa", 20)


def test_chromatin_features(tmp_path: Path, genome: str) -> None:
    folder = tmp_path / "chromatin_features"
    folder.mkdir()
    path = folder / "histones_and_dnase_subset.csv"
    path.write_text('CHROM,POS,HISTONES,DNASE,split\nchr1,50,"[1, 0, 1]","[0, 1]",train\n')
    records = read_chromatin(tmp_path, tmp_path / "genome.fa", 20)
    assert records.task == "multilabel"
    assert records.labels.tolist() == [[1, 0, 1, 0, 1]]
    assert records.classes[0] == "histone_0"
    assert records.classes[-1] == "dnase_1"
    assert decode(records.tokens[0]) == genome[39:59]
    for cell in ("[2]", "__import__('os')", "[1"):
        path.write_text(f'CHROM,POS,HISTONES,DNASE,split\nchr1,50,"{cell}","[0, 1]",train\n')
        with pytest.raises(UserError, match=r"subset\.csv:2: histones: expected a list of zeros and ones"):
            read_chromatin(tmp_path, tmp_path / "genome.fa", 20)


def test_cage(tmp_path: Path) -> None:
    folder = tmp_path / "cage_prediction"
    (folder / "targets_subset").mkdir(parents=True)
    rows = ["chrom,start,stop,split,npy_idx"]
    rows += [f"chr1,{1 + 512 * i},{512 * (i + 1)},train,{i}" for i in range(3)] + ["chr2,1,512,test,0"]
    (folder / "sequences_coordinates.csv").write_text("\n".join(rows) + "\n")
    targets = {f"target-train-{i}.npy": np.full((4, 2), i, dtype=np.float16) for i in range(2)}
    with (folder / "targets_subset" / "targets-train-0-1.npz").open("wb") as file:
        np.savez(file, **targets)
    found = list(read_cage(tmp_path))
    assert [(w.interval.start, w.interval.end, w.part) for w in found] == [
        (0, 512, "train"),
        (512, 1024, "train"),
    ]
    assert found[1].targets.tolist() == [[1.0, 1.0]] * 4
    (folder / "targets_subset" / "targets-train-0-1.npz").rename(
        folder / "targets_subset/targets-train-0-2.npz"
    )
    with pytest.raises(UserError, match=r"holds no target-train-2\.npy"):
        list(read_cage(tmp_path))
