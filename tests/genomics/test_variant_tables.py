"""Tables of variants, read, written and turned into VCF and Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest
from variant_cases import COLUMNS, HEADER, genome_letters, write_genome
from written_variants import BODY, FIELDS, copied, write

from genomics.fasta import Fasta
from genomics.variant_tables import TableWriter, VariantTable, write_parquet
from genomics.vcf import Vcf, VcfWriter
from seqmamba.errors import UserError

LETTERS = genome_letters()
TABLE = (
    "id\tchromosome\tPosition\treference\talt\tnote\n"
    "v1\t1\t005\ta\tC,G\té\n"
    "v2\tchr1\t9\tA\t\t\n"
    "v3\tchr1\t9\tA\tC\tx\n"
)


def test_tables_have_a_row_an_allele_and_keep_their_columns(tmp_path: Path) -> None:
    source = VariantTable(write(tmp_path / "in.tsv", "##comment\n" + TABLE))
    assert [(v.line, v.chrom, v.position, v.ref, v.alts) for v in source.variants()] == [
        (3, "1", 5, b"a", (b"C", b"G")),
        (4, "chr1", 9, b"A", ()),
        (5, "chr1", 9, b"A", (b"C",)),
    ]
    assert copied(source, TableWriter(FIELDS, source)).split("\n") == [
        "id\tchromosome\tPosition\treference\talt\tnote\tSM_LLR\tSM_L2\tSM_SKIPPED\tSM_REF_MISMATCH",
        "v1\t1\t5\ta\tC\té\t0.5\t-1e-07\t\t0",
        "v1\t1\t5\ta\tG\té\t0.5\t-1e-07\t\t0",
        "v2\tchr1\t9\tA\t.\t\t\t\tNO_ALT\t0",
        "v3\tchr1\t9\tA\tC\tx\t0.5\t-1e-07\t\t0",
        "",
    ]


def test_a_table_becomes_a_vcf_with_the_genomes_names(tmp_path: Path) -> None:
    genome = write_genome(tmp_path / "g.fa", chr1=LETTERS, other="ACGT")
    source = VariantTable(write(tmp_path / "in.tsv", TABLE))
    path = write(tmp_path / "out.vcf", copied(source, VcfWriter(FIELDS, genome, "x=y")))
    again = Vcf(path)
    assert again.header[:3] == [
        b"##fileformat=VCFv4.3\n",
        b"##contig=<ID=chr1,length=400>\n",
        b"##contig=<ID=other,length=4>\n",
    ]
    rows = list(again.variants())
    assert [(v.chrom, v.position, v.alts) for v in rows] == [
        ("chr1", 5, (b"C", b"G")),
        ("chr1", 9, ()),
        ("chr1", 9, (b"C",)),
    ]
    assert rows[1].fields[5:] == (b".", b".", b"SM_SKIPPED=NO_ALT")


def test_a_vcf_becomes_a_table_and_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet

    source = Vcf(write(tmp_path / "in.vcf", HEADER + BODY))
    text = write(tmp_path / "rows.tsv", copied(source, TableWriter(FIELDS, source)))
    write_parquet(text, tmp_path / "out.parquet", FIELDS)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist()[1] == {
        "chrom": "chr1",
        "pos": 9,
        "id": ".",
        "ref": "A",
        "alt": "C",
        "SM_LLR": 0.5,
        "SM_L2": -1e-07,
        "SM_SKIPPED": None,
        "SM_REF_MISMATCH": False,
    }
    assert table.column("SM_SKIPPED").to_pylist() == [None, None, "SYMBOLIC", "NO_ALT"]
    assert table.column("SM_LLR").to_pylist() == [0.5, 0.5, None, None]
    empty = Vcf(write(tmp_path / "empty.vcf", f"##fileformat=VCFv4.3\n{COLUMNS}\n"))
    text = write(tmp_path / "rows.tsv", copied(empty, TableWriter(FIELDS, empty)))
    write_parquet(text, tmp_path / "empty.parquet", FIELDS)
    assert parquet.read_table(tmp_path / "empty.parquet").schema == table.schema


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chrom,pos,ref,alt\n", ":1: expected a column 'chrom', got 'chrom,pos,ref,alt'"),
        ("chrom\tpos\tref\n", ":1: expected a column 'alt'"),
        ("chrom\tCHR\tpos\tref\talt\n", ":1: expected one column 'chrom', got chrom and CHR"),
        ("chrom\tpos\tref\talt\tx\tx\n", ":1: has the column 'x' twice"),
        ("##a\n", ": ends before the line of column names"),
        ("chrom\tpos\tref\talt\nchr1\t5\tA\n", ":2: expected 4 columns, got 3"),
        ("chrom\tpos\tref\talt\nchr1\t5\tA\tC\n\n", ":3: expected 4 columns, got 1"),
        ("chrom\tpos\tref\talt\nchr1\t5\tA\tC/G\n", ":2: ALT: expected bases"),
    ],
)
def test_what_is_no_table_of_variants_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "in.tsv", text)
    with pytest.raises(UserError) as failure:
        list(VariantTable(path).variants())
    assert message in failure.value.message


def test_a_genome_of_another_fasta_is_another_key(tmp_path: Path) -> None:
    one = write_genome(tmp_path / "1.fa", chr1="ACGT")
    two = write_genome(tmp_path / "2.fa", **{"1": "ACGT"})
    assert isinstance(one, Fasta)
    source = VariantTable(write(tmp_path / "in.tsv", "chrom\tpos\tref\talt\n1\t1\tA\tC\n"))
    for genome, name in ((one, "chr1"), (two, "1")):
        assert f"\n{name}\t1\t.\tA\tC" in copied(source, VcfWriter(FIELDS, genome, "x=y"))
