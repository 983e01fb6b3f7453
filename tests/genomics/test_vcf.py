"""VCF files and tables: what is read, what is refused, and what comes out byte for byte."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_cases import COLUMNS, HEADER, genome_letters, other_base, write_genome

from genomics.fasta import Fasta
from genomics.variant_results import AddedField, AddedFields, Results, Score
from genomics.variant_tables import TableWriter, VariantTable, write_parquet
from genomics.variants import Haplotypes, Reason, Variant, VariantWindows
from genomics.vcf import Vcf, VcfWriter
from seqmamba.errors import UserError

LETTERS = genome_letters()
FIELDS = AddedFields("SM", [Score("LLR", 'a "quoted" \\ sentence\nof two lines'), Score("L2", "b")])
ROWS = [
    "chr1\t5\trs1\tA\tC\t30\tPASS\tAF=0.1\tGT:DP\t0/1:5",
    "chr1\t9\t.\tA\tC,<DEL>\t.\t.\t.\tGT\t1|2",
    "chr1\t9\t.\tA\t.\t.\tq10;s50\tDB;AF=.;\tGT\t./.",
]
BODY = "\n".join([f"{COLUMNS}\tFORMAT\tsample é", *ROWS]) + "\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def scored(variant: Variant, value: float = 0.5, *, mismatch: bool = False) -> Results:
    """Values for alleles with sequences."""
    reasons = tuple(Reason.SYMBOLIC if alt.startswith(b"<") else None for alt in variant.alts)
    values = np.array(
        [[np.nan, np.nan] if reason else [value, -1e-7] for reason in reasons] or [[np.nan] * 2]
    )
    return Results(reasons or (Reason.NO_ALT,), values, mismatch)


def copied(source: Vcf | VariantTable, writer: VcfWriter | TableWriter) -> str:
    lines = [writer.lines(variant, scored(variant)) for variant in source.variants()]
    return (writer.header + b"".join(lines)).decode()


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


BASES = st.text("ACGTNacgt", min_size=1, max_size=5)
ALTS = st.one_of(BASES, st.sampled_from(["*", "<DEL>", "<INS:ME>", "G]chr2:5]", "[<c>:2[T", ".A", "<*>"]))


@st.composite
def rows(draw: st.DrawFn) -> str:
    position = draw(st.integers(0, 402))
    true = LETTERS[position - 1 : position - 1 + draw(st.integers(1, 4))] if 0 < position <= 400 else "N"
    ref = draw(st.sampled_from([true, true.lower(), other_base(true[0])]) | BASES)
    alt = draw(st.just(".") | st.lists(ALTS, min_size=1, max_size=3).map(",".join))
    chrom = draw(st.sampled_from(["chr1", "1", "chr2", "2", "scaffold_9"]))
    info = draw(st.sampled_from([".", "AF=0.1", "DB", "AF=1;DB;"]))
    return f"{chrom}\t{position}\t.\t{ref}\t{alt}\t.\tPASS\t{info}"


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file, in which some bytes of the body were replaced, removed, repeated or cut off."""
    lines = draw(st.lists(rows(), max_size=6))
    head = draw(st.sampled_from([f"##fileformat=VCFv4.2\n{COLUMNS}\n", f"{HEADER}{COLUMNS}\n"]))
    body = bytearray("".join(line + "\n" for line in lines).encode())
    for _ in range(draw(st.integers(0, 4))):
        if not body:
            break
        place = draw(st.integers(0, len(body) - 1))
        kind = draw(st.sampled_from(["replace", "remove", "repeat", "cut"]))
        if kind == "replace":
            body[place] = draw(
                st.sampled_from(list(b"\t\n\r\0 .,;<>[]*ACGTN09-#\xff\xc3")) | st.integers(0, 255)
            )
        elif kind == "remove":
            del body[place : place + draw(st.integers(1, 6))]
        elif kind == "repeat":
            body[place:place] = body[place : place + draw(st.integers(1, 20))]
        else:
            del body[place:]
    if draw(st.booleans()):
        head, body = head.replace("\n", "\r\n"), body.replace(b"\n", b"\r\n")
    return head.encode() + bytes(body)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> VariantWindows:
    folder = tmp_path_factory.mktemp("fuzz")
    return VariantWindows(write_genome(folder / "g.fa", chr1=LETTERS, chr2=LETTERS[::-1]), 32)


def check_mutated(path: Path, content: bytes, windows: VariantWindows) -> bool:
    """Read a file; say whether all of it was accepted."""
    path.write_bytes(content)
    refusal = ""
    try:
        source = Vcf(path)
        writer = VcfWriter(FIELDS, source, "x=y")
        for variant in source.variants():
            writer.check(variant)
            check_row(variant, content.split(b"\n")[variant.line - 1], writer, windows)
    except UserError as error:
        refusal = error.message
    assert not refusal or re.fullmatch(rf"{re.escape(str(path))}:\d+: [^\n]+", refusal), refusal
    return not refusal


def check_row(variant: Variant, line: bytes, writer: VcfWriter, windows: VariantWindows) -> None:
    columns = line.rstrip(b"\r").split(b"\t")
    assert variant.position == int(columns[1])
    assert variant.chrom.encode("utf-8" if _utf8(columns[0]) else "latin-1") == columns[0]
    written = writer.lines(variant, scored(variant)).rstrip(b"\r\n").split(b"\t")
    assert written[:7] + written[8:] == columns[:7] + columns[8:]
    assert b"\n" not in b"\t".join(written)
    contig = LETTERS if variant.chrom.lower() in ("chr1", "1") else LETTERS[::-1]
    for found in windows.at(variant).alleles:
        if isinstance(found, Haplotypes):
            assert _same(contig[variant.position - 1 :], columns[3].decode().upper().replace("U", "T"))
            assert len(found.ref) == len(found.alt) == windows.window


def _same(letters: str, ref: str) -> bool:
    """Say whether REF is what the genome begins with, as far as both are known."""
    pairs = zip(letters, ref, strict=False)
    return len(letters) >= len(ref) and all(a == b or a == "N" or b not in "ACGT" for a, b in pairs)


def _utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(content=mutated())
@settings(max_examples=300, deadline=None)
def test_mutated_files_are_read_right_or_refused_by_line(
    tmp_path_factory: pytest.TempPathFactory, windows: VariantWindows, content: bytes
) -> None:
    check_mutated(tmp_path_factory.getbasetemp() / "mutated.vcf", content, windows)


@pytest.mark.slow
@given(content=mutated())
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_mutated_files_are_read_right_or_refused_by_line(
    tmp_path_factory: pytest.TempPathFactory, windows: VariantWindows, content: bytes
) -> None:
    check_mutated(tmp_path_factory.getbasetemp() / "mutated.vcf", content, windows)


@given(content=st.binary(max_size=200) | st.text("chrompsefalt\t\n\r19ACGT.,", max_size=200).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_no_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for prefix in (b"", b"chrom\tpos\tref\talt\n", b"##fileformat=VCFv4.2\n"):
        path.write_bytes(prefix + content)
        for kind in (Vcf, VariantTable):
            refusal = str(path)
            try:
                source = kind(path)
                writer = TableWriter(FIELDS, source)
                for variant in source.variants():
                    writer.lines(variant, scored(variant))
            except UserError as error:
                refusal = error.message
            assert refusal.startswith(str(path))
            assert "\n" not in refusal


def test_a_fuzzed_file_can_pass(tmp_path: Path, windows: VariantWindows) -> None:
    content = f"{HEADER}{COLUMNS}\nchr1\t5\t.\t{LETTERS[4]}\t{other_base(LETTERS[4])}\t.\t.\t.\n".encode()
    assert check_mutated(tmp_path / "a.vcf", content, windows)
    assert not check_mutated(tmp_path / "b.vcf", content + b"\n", windows)


def test_a_genome_of_another_fasta_is_another_key(tmp_path: Path) -> None:
    one = write_genome(tmp_path / "1.fa", chr1="ACGT")
    two = write_genome(tmp_path / "2.fa", **{"1": "ACGT"})
    assert isinstance(one, Fasta)
    source = VariantTable(write(tmp_path / "in.tsv", "chrom\tpos\tref\talt\n1\t1\tA\tC\n"))
    for genome, name in ((one, "chr1"), (two, "1")):
        assert f"\n{name}\t1\t.\tA\tC" in copied(source, VcfWriter(FIELDS, genome, "x=y"))
