from __future__ import annotations

from pathlib import Path

import numpy as np
import openpyxl
import pytest

from genomics.benchmarks.brca1 import read_brca1, score_brca1, write_vcf
from genomics.vcf import Vcf
from seqmamba.errors import UserError

# The layout of supplementary table 1: two lines of group titles, then the names of 62 columns, these too.
TITLES = [["Variant ID", "", "", "", "", "SGE data (HAP1-Lig4KO)", ""], ["", "", "", "", "", "raw reads", ""]]
NAMES = ["gene", "chromosome", "position (hg19)", "reference", "alt", "function.score.mean", "func.class"]
ROWS = [
    ["BRCA1", 17, 41276135, "T", "G", -0.372610503, "FUNC"],
    ["BRCA1", 17, 41276135, "T", "C", -0.045313469, "FUNC"],
    ["BRCA1", 17, 41276133, "C", "T", -0.973683313, "INT"],
    ["BRCA1", 17, 41276113, "T", "A", -2.05, "LOF"],
]


def as_text(folder: Path, separator: str = ",") -> Path:
    lines = [separator.join(map(str, row)) for row in (*TITLES, NAMES, *ROWS)]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def test_the_table_as_text_and_as_excel(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (*TITLES, NAMES, *ROWS):
        book.active.append(row)
    book.save(tmp_path / "41586_2018_461_MOESM3_ESM.xlsx")
    text, excel = read_brca1(as_text(tmp_path)), read_brca1(tmp_path / "41586_2018_461_MOESM3_ESM.xlsx")
    assert text == excel
    assert read_brca1(as_text(tmp_path, "\t")) == text
    first = text[0]
    assert (first.variant.chrom, first.variant.position) == ("17", 41276135)  # 1-based
    assert (first.variant.ref, first.variant.alts, first.label) == (b"T", (b"G",), "FUNC")
    assert first.score == pytest.approx(-0.372610503)


def test_the_vcf_reads_back_sorted(tmp_path: Path) -> None:
    write_vcf(read_brca1(as_text(tmp_path)), tmp_path / "x.vcf")
    rows = [line.split("\t") for line in (tmp_path / "x.vcf").read_text().splitlines() if line[0] != "#"]
    assert [(row[1], row[3], row[4]) for row in rows] == [
        ("41276113", "T", "A"),
        ("41276133", "C", "T"),
        ("41276135", "T", "C"),
        ("41276135", "T", "G"),
    ]
    assert rows[0][7] == "SGE_SCORE=-2.05;SGE_CLASS=LOF"
    assert [variant.position for variant in Vcf(tmp_path / "x.vcf").variants()] == [
        int(row[1]) for row in rows
    ]


def test_scoring(tmp_path: Path) -> None:
    variants = read_brca1(as_text(tmp_path))
    perfect = score_brca1(variants, np.array([0.0, 1e-9, -3.0, -7e5]), n_bootstrap=20)
    assert perfect["auroc"].value == perfect["auprc"].value == 1
    # INT above LOF: one of three pairs is in the wrong order, or none where INT is left out.
    assert score_brca1(variants, np.array([0, 0, -3, -2]), n_bootstrap=0)["auroc"].value == pytest.approx(
        2 / 3
    )
    left_out = score_brca1(variants, np.array([0, 0, -3, -2]), intermediate="left_out", n_bootstrap=0)
    assert left_out["auroc"].value == 1
    assert score_brca1(variants, np.zeros(4), n_bootstrap=0)["auroc"].value == 0.5
    for wrong in (np.zeros(3), np.array([0, 0, np.nan, 0])):
        with pytest.raises(UserError, match="effects: expected 4 finite numbers"):
            score_brca1(variants, wrong)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (6, "GONE", r"t\.csv:4: func\.class: expected one of FUNC, INT, LOF, got 'GONE'"),
        (5, "NA", r"t\.csv:4: score: expected a number, got 'NA'"),
        (4, "GX", r"t\.csv:4: ALT: expected bases"),
        (2, "-5", r"t\.csv:4: POS: expected a whole number"),
    ],
)
def test_a_cell_that_is_wrong(tmp_path: Path, place: int, value: str, message: str) -> None:
    path = as_text(tmp_path)
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    cells[place] = value
    lines[3] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        read_brca1(path)
