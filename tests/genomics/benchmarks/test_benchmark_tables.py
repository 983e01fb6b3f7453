from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest

from genomics.benchmarks.tables import read_rows
from seqmamba.errors import UserError

REQUIRED = {"chrom": ("CHROM", "chromosome"), "pos": ("POS",)}


def write(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


@pytest.mark.parametrize("separator", [",", "\t"])
def test_columns_are_found_by_any_of_their_names_in_any_case(tmp_path: Path, separator: str) -> None:
    lines = [["id", "Chromosome", "pos", "tissue"], ["a", "chr1", "12", ""], ["b", "2", "7.0", "liver"]]
    path = write(tmp_path, "\n".join(separator.join(line) for line in lines) + "\n")
    rows = list(read_rows(path, REQUIRED, {"tissue": ("Tissue",), "distance": ("distance",)}))
    assert [row["chrom"] for row in rows] == ["chr1", "2"]
    assert [row.integer("pos") for row in rows] == [12, 7]
    assert [row.get("tissue") for row in rows] == [None, "liver"]
    assert [row.get("distance") for row in rows] == [None, None]
    assert [row.where for row in rows] == [f"{path}:2", f"{path}:3"]


def test_titles_above_the_column_names_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, "Variant ID,,\n,,reads\nchromosome,POS,x\n17,5,\n")
    assert [(row["chrom"], row.where) for row in read_rows(path, REQUIRED)] == [("17", f"{path}:4")]


def test_quoted_cells_may_hold_commas(tmp_path: Path) -> None:
    path = write(tmp_path, 'CHROM,POS,H\nchr1,3,"[0, 1]"\n')
    assert next(read_rows(path, REQUIRED, {"h": ("H",)}))["h"] == "[0, 1]"


def test_an_excel_file_reads_as_its_text_would(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for line in (["Variant ID"], [], ["chromosome", "POS", "score"], [17, 41276135, -0.37], [17, 5, None]):
        book.active.append(line)
    book.save(tmp_path / "t.xlsx")
    rows = list(read_rows(tmp_path / "t.xlsx", REQUIRED, {"score": ("score",)}))
    assert [(row["chrom"], row.integer("pos"), row.get("score")) for row in rows] == [
        ("17", 41276135, "-0.37"),
        ("17", 5, None),
    ]
    assert rows[0].where.endswith("t.xlsx:4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CHROM,x\nchr1,3\n", r"t\.csv: has no column 'pos'"),
        ("CHROM,POS,pos\nchr1,3,4\n", r"t\.csv:1: two columns can be 'pos': POS, pos"),
        ("CHROM,POS\nchr1,3,4\n", r"t\.csv:2: expected 2 cells, got 3"),
        ("CHROM,POS\nchr1,\n", r"t\.csv:2: the column 'pos' is empty"),
        ('CHROM,POS\n"chr1,3\n', r"t\.csv:2: cannot be read as a table"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(read_rows(write(tmp_path, text), REQUIRED))


@pytest.mark.parametrize("cell", ["x", "nan", "inf", "1.5"])
def test_numbers_are_checked(tmp_path: Path, cell: str) -> None:
    row = next(read_rows(write(tmp_path, f"CHROM,POS\nchr1,{cell}\n"), REQUIRED))
    with pytest.raises(UserError, match=r"t\.csv:2: pos: expected a"):
        row.integer("pos")


def test_a_zip_that_is_no_excel_file(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "t.csv", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(UserError, match="no readable Excel file"):
        list(read_rows(tmp_path / "t.csv", REQUIRED))
