"""VCF files: what is read, what is refused, and what comes out byte for byte."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from Bio import bgzf
from variant_cases import COLUMNS, HEADER
from written_variants import BODY, FIELDS, ROWS, copied, scored, write

from genomics.variant_results import AddedField, AddedFields, Score
from genomics.variant_tables import TableWriter, VariantTable
from genomics.vcf import Vcf, VcfWriter
from seqmamba.errors import UserError


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, "bgzip"])
def test_rows_and_header_stay_byte_for_byte(tmp_path: Path, ending: str, pack: object) -> None:
    text = (HEADER + BODY).replace("\n", ending)
    path = tmp_path / "in.vcf"
    if pack == "bgzip":
        with bgzf.open(path, "wb") as handle:
            handle.write(text.encode())
    else:
        assert callable(pack)
        write(path, pack(text.encode()))
    source = Vcf(path)
    found = copied(source, VcfWriter(FIELDS, source, "x=y"))
    added = [line for line in found.split(ending) if line.startswith(("##INFO=<ID=SM_", "##x=y"))]
    assert added == [
        '##INFO=<ID=SM_LLR,Number=A,Type=Float,Description="a \\"quoted\\" \\\\ sentence of two lines">',
        '##INFO=<ID=SM_L2,Number=A,Type=Float,Description="b">',
        next(line for line in added if "SM_SKIPPED,Number=.,Type=String" in line),
        next(line for line in added if "SM_REF_MISMATCH,Number=0,Type=Flag" in line),
        "##x=y",
    ]
    rest = "".join(line + ending for line in found.split(ending)[:-1] if line not in added)
    rest = rest.replace(";SM_LLR=0.5;SM_L2=-1e-07", "").replace(";SM_SKIPPED=NO_ALT", ";")
    rest = rest.replace("DB;AF=.;;", "DB;AF=.;")
    assert "\tSM_LLR=0.5,.;SM_L2=-1e-07,.;SM_SKIPPED=.,SYMBOLIC\t" in rest
    rest = rest.replace("SM_LLR=0.5,.;SM_L2=-1e-07,.;SM_SKIPPED=.,SYMBOLIC", ".")
    assert rest.replace("SM_SKIPPED=NO_ALT", "") == text


def test_a_file_without_samples_or_a_last_newline_stays_so(tmp_path: Path) -> None:
    source = Vcf(write(tmp_path / "a.vcf", f"##fileformat=VCFv4.3\n{COLUMNS}\nchr1\t5\t.\tA\tC\t.\t.\t."))
    assert copied(source, VcfWriter(FIELDS, source, "x=y")).endswith(
        "##x=y\n" + COLUMNS + "\nchr1\t5\t.\tA\tC\t.\t.\tSM_LLR=0.5;SM_L2=-1e-07"
    )
    empty = Vcf(write(tmp_path / "b.vcf", f"##fileformat=VCFv4.3\n{COLUMNS}"))
    assert copied(empty, VcfWriter(FIELDS, empty, "x=y")).endswith(f"##x=y\n{COLUMNS}")
    assert list(empty.variants()) == []


def test_a_mismatch_is_a_flag(tmp_path: Path) -> None:
    source = Vcf(write(tmp_path / "a.vcf", HEADER + BODY))
    first = next(source.variants())
    line = VcfWriter(FIELDS, source, "x=y").lines(first, scored(first, mismatch=True))
    assert b"\tAF=0.1;SM_LLR=0.5;SM_L2=-1e-07;SM_REF_MISMATCH\tGT:DP\t" in line


def test_rows_have_their_coordinates_and_line_numbers(tmp_path: Path) -> None:
    found = list(Vcf(write(tmp_path / "a.vcf", b"\xef\xbb\xbf" + (HEADER + BODY).encode())).variants())
    assert [(v.line, v.chrom, v.position, v.ref, v.alts) for v in found] == [
        (6, "chr1", 5, b"A", (b"C",)),
        (7, "chr1", 9, b"A", (b"C", b"<DEL>")),
        (8, "chr1", 9, b"A", ()),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty (0 bytes)"),
        ("chrom\tpos\n", ":1: a VCF file starts with '##fileformat=VCF'"),
        ("##fileformat=VCFv4.2\n", ": ends before the line of column names"),
        ("##fileformat=VCFv4.2\nchr1\t5\n", ":2: expected the line of column names"),
        ("##fileformat=VCFv4.2\n#CHROM POS ID\n", ":2: expected the columns #CHROM, POS"),
        (HEADER + COLUMNS + "\tGT\ts1\n", ":5: expected the columns #CHROM, POS"),
        (HEADER + BODY + "\n", ":9: is blank"),
        (HEADER + BODY + ROWS[0] + "\t0/1\n", ":9: expected 10 columns with tabs between them, got 11"),
        (HEADER + BODY + ROWS[0].replace("\t", " ") + "\n", ":9: expected 10 columns"),
        (HEADER + BODY + ROWS[0].replace("\trs1\t", "\t\t") + "\n", ":9: ID: is empty"),
        (HEADER + BODY + ROWS[0].replace("\t5\t", "\tx\t") + "\n", ":9: POS: expected a whole number"),
        (HEADER + BODY + ROWS[0].replace("rs1\tA", "rs1\tE") + "\n", ":9: REF: expected bases"),
        (HEADER + BODY + COLUMNS + "\tFORMAT\ts\n", ":9: CHROM: expected a name"),
        (HEADER + BODY + "a\0b\n", ":9: is not text"),
        ((HEADER + BODY).replace("\n", "\r"), ":1: has a carriage return inside a line"),
        (gzip.compress((HEADER + BODY).encode())[:-20], "the gzip data break off or are damaged"),
    ],
)
def test_what_is_no_vcf_is_refused_in_one_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path / "in.vcf", text)
    with pytest.raises(UserError) as failure:
        list(Vcf(path).variants())
    assert failure.value.message.startswith(str(path))
    assert message in failure.value.message
    assert "\n" not in failure.value.message


def test_fields_that_are_there_already_are_not_written_twice(tmp_path: Path) -> None:
    declared = Vcf(write(tmp_path / "a.vcf", HEADER.replace("ID=AF", "ID=SM_L2") + BODY))
    with pytest.raises(UserError, match="has an INFO field SM_L2 already"):
        VcfWriter(FIELDS, declared, "x=y")
    used = Vcf(write(tmp_path / "b.vcf", (HEADER + BODY).replace("AF=0.1", "AF=0.1;SM_SKIPPED=a")))
    writer = VcfWriter(FIELDS, used, "x=y")
    rows = list(used.variants())
    with pytest.raises(UserError, match=r"b\.vcf:6: has an INFO field SM_SKIPPED already"):
        writer.check(rows[0])
    similar = Vcf(write(tmp_path / "c.vcf", (HEADER + BODY).replace("AF=0.1", "OLD_SM_L2=1;SM_L2B=2")))
    VcfWriter(FIELDS, similar, "x=y").check(next(similar.variants()))
    table = VariantTable(write(tmp_path / "a.tsv", "chrom\tpos\tref\talt\tSM_LLR\n"))
    with pytest.raises(UserError, match="has a column SM_LLR already"):
        TableWriter(FIELDS, table)


def test_names_of_fields_are_legal_and_differ() -> None:
    fields = AddedFields("m1.x", [Score("DELTA_a b", ""), Score("DELTA_a-b", ""), Score("DELTA_é", "")])
    assert [field.id for field in fields.scores] == ["m1.x_DELTA_a_b", "m1.x_DELTA_a_b_", "m1.x_DELTA__"]
    for prefix in ("1000G", "a b", "", "a=b", "é"):
        with pytest.raises(UserError, match="INFO field: expected letters"):
            AddedField(prefix, "Float", "")
