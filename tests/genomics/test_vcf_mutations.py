"""Random and mutated files of variants: read right, or refused by line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_cases import COLUMNS, HEADER, genome_letters, other_base, write_genome
from written_variants import FIELDS, scored

from genomics.variant_tables import TableWriter, VariantTable
from genomics.variants import Haplotypes, Variant, VariantWindows
from genomics.vcf import Vcf, VcfWriter
from seqmamba.errors import UserError

LETTERS = genome_letters()
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
