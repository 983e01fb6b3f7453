"""Windows around variants, against sequences that are edited whole and cut afterwards."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_cases import expected_windows, genome_letters, other_base, variant, write_genome

from genomics.alphabet import decode
from genomics.fasta import Fasta
from genomics.variants import Haplotypes, Reason, Site, VariantWindows, parse_variant
from seqmamba.errors import UserError

LETTERS = genome_letters()


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Fasta:
    folder = tmp_path_factory.mktemp("genome")
    return write_genome(folder / "g.fa", chr1=LETTERS, chr2=LETTERS[:40].lower(), tiny="ACGTACG")


def check(found: Haplotypes | Reason, contig: str, position: int, ref: str, alt: str, window: int) -> None:
    assert isinstance(found, Haplotypes)
    expected = expected_windows(contig, position, ref, alt, window)
    assert decode(found.ref) == expected.ref
    assert decode(found.alt) == expected.alt
    assert found.ref_span == expected.ref_span
    assert found.alt_span == expected.alt_span
    assert found.substitution == (len(ref) == len(alt))
    if found.substitution:
        start, end = found.ref_span
        changed = np.flatnonzero(found.ref != found.alt)
        assert (start, end) == (changed[0], changed[-1] + 1)


@pytest.mark.parametrize("window", [64, 65])
@pytest.mark.parametrize(
    ("name", "ref_length", "alt"),
    [
        ("snv", 1, None),
        ("mnv", 3, "TTT"),
        ("insertion", 1, "+GATTACA"),
        ("deletion", 6, "+"),
        ("replacement", 4, "GG"),
        ("longer replacement", 2, "GGAGG"),
    ],
)
def test_every_kind_of_allele_at_every_place(
    genome: Fasta, name: str, ref_length: int, alt: str | None, window: int
) -> None:
    windows = VariantWindows(genome, window)
    seen = 0
    for position in range(1, len(LETTERS) - ref_length + 2):
        ref = LETTERS[position - 1 : position - 1 + ref_length]
        if "N" in ref:
            continue
        chosen = other_base(ref) if alt is None else alt.replace("+", ref[0])
        site = windows.at(variant("chr1", position, ref, chosen))
        assert not site.mismatch
        if chosen == ref:
            assert site.alleles == (Reason.NO_CHANGE,)
            continue
        check(site.alleles[0], LETTERS, position, ref, chosen, window)
        seen += 1
    assert seen > 370, name


@pytest.mark.parametrize("window", [32, 33])
def test_the_position_has_the_documented_index_on_both_strands(genome: Fasta, window: int) -> None:
    site = VariantWindows(genome, window).at(variant("1", 121, LETTERS[120], other_base(LETTERS[120])))
    pair = site.alleles[0]
    assert isinstance(pair, Haplotypes)
    assert pair.ref_span == pair.alt_span == (window // 2, window // 2 + 1)
    assert decode(pair.ref) == LETTERS[120 - window // 2 : 120 - window // 2 + window]
    turned = pair.reverse_complement()
    index = window // 2 - 1 if window % 2 == 0 else window // 2
    assert turned.ref_span == turned.alt_span == (index, index + 1)
    complement = dict(zip("ACGT", "TGCA", strict=True))
    assert decode(turned.ref)[index] == complement[LETTERS[120]]
    assert decode(turned.alt)[index] == complement[other_base(LETTERS[120])]


def test_windows_are_shifted_at_the_ends_and_never_padded(genome: Fasta) -> None:
    windows = VariantWindows(genome, 64)
    for position, index in ((1, 0), (10, 9), (33, 32), (200, 32), (369, 32), (370, 33), (400, 63)):
        ref = LETTERS[position - 1]
        pair = windows.at(variant("chr1", position, ref, other_base(ref))).alleles[0]
        assert isinstance(pair, Haplotypes)
        assert len(pair.ref) == len(pair.alt) == 64
        assert pair.ref_span[0] == index
    short = windows.at(variant("tiny", 7, "G", "C")).alleles[0]
    assert isinstance(short, Haplotypes)
    assert (decode(short.ref), decode(short.alt)) == ("ACGTACG", "ACGTACC")


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, int, str, list[str], int]:
    contig = draw(st.text("ACGTacgtN", min_size=1, max_size=70) | st.text("CA", min_size=1, max_size=70))
    position = draw(st.integers(1, len(contig)))
    ref = contig[position - 1 : position - 1 + draw(st.integers(1, 9))]
    alts = draw(st.lists(st.text("ACGTNacgt", min_size=1, max_size=9), min_size=1, max_size=3))
    anchored = draw(st.booleans())
    alts = [ref[0] + alt for alt in alts] if anchored else alts
    return contig, position, ref, alts, draw(st.integers(8, 50))


@given(edits())
@settings(max_examples=300, deadline=None)
def test_random_edits_of_random_sequences(
    tmp_path_factory: pytest.TempPathFactory, edit: tuple[str, int, str, list[str], int]
) -> None:
    contig, position, ref, alts, window = edit
    genome = write_genome(tmp_path_factory.mktemp("g") / "g.fa", c=contig)
    site = VariantWindows(genome, window).at(variant("c", position, ref, *alts))
    assert not site.mismatch
    for alt, found in zip(alts, site.alleles, strict=True):
        if isinstance(found, Haplotypes):
            check(found, contig, position, ref, alt, window)
        elif found == Reason.NO_CHANGE:
            assert alt.upper() == ref.upper()
        elif found == Reason.AMBIGUOUS:
            assert "N" in (ref + alt).upper()
        else:
            assert found == Reason.TOO_LONG
            width = min(window, len(contig), len(contig) + len(alt) - len(ref))
            assert max(len(ref), len(alt)) > width // 4


def test_one_indel_written_in_three_ways_is_one_variant(genome: Fasta) -> None:
    start = LETTERS.index("CACACACACA")
    windows = VariantWindows(genome, 64)
    left = windows.at(variant("chr1", start, LETTERS[start - 1] + "CA", LETTERS[start - 1])).alleles[0]
    right = windows.at(variant("chr1", start + 8, "ACA", "A")).alleles[0]
    for found in (left, right):
        assert isinstance(found, Haplotypes)
        (a, b), (c, d) = found.ref_span, found.alt_span
        assert "CACACACACA" in decode(found.ref)[a:b]
        assert b - a == d - c + 2


def reasons(site: Site) -> list[str]:
    return [str(found) if isinstance(found, Reason) else "" for found in site.alleles]


@pytest.mark.parametrize(
    ("chrom", "position", "ref", "alts", "expected"),
    [
        ("chr1", 5, "?", [], ["NO_ALT"]),
        (
            "chr1",
            5,
            "?",
            ["*", "<DEL>", "G]17:198982]", ".G", "<*>"],
            ["STAR", "SYMBOLIC", "BREAKEND", "BREAKEND", "SYMBOLIC"],
        ),
        ("other", 5, "A", ["C", "<DEL>"], ["UNKNOWN_CONTIG", "SYMBOLIC"]),
        ("chr1", 0, "N", ["A", "<DEL>"], ["OUTSIDE", "SYMBOLIC"]),
        ("chr1", 401, "N", ["A"], ["OUTSIDE"]),
        ("chr1", 400, "AA", ["A"], ["OUTSIDE"]),
        ("chr1", 2_000_000_000, "A", ["C"], ["OUTSIDE"]),
        ("chr1", 302, "N", ["A"], ["AMBIGUOUS"]),
        ("chr1", 302, "A", ["C"], ["AMBIGUOUS"]),
        ("chr1", 5, "N", ["A"], ["AMBIGUOUS"]),
        ("chr1", 5, "?", ["N", "R"], ["AMBIGUOUS", "AMBIGUOUS"]),
        ("chr1", 5, "?", ["?"], ["NO_CHANGE"]),
        ("chr1", 5, "?", ["?" + "A" * 16, "?" + "A" * 15], ["TOO_LONG", ""]),
        ("1", 5, "?", ["+"], [""]),
        ("CHR2", 5, "?", ["+"], [""]),
        ("2", 5, "?", ["+"], [""]),
    ],
)
def test_what_has_no_scores_says_why(
    genome: Fasta, chrom: str, position: int, ref: str, alts: list[str], expected: list[str]
) -> None:
    base = LETTERS[position - 1] if position <= 400 else "A"
    alts = [alt.replace("?", base).replace("+", other_base(base)) for alt in alts]
    site = VariantWindows(genome, 64).at(variant(chrom, position, ref.replace("?", base), *alts))
    assert reasons(site) == expected
    assert not site.mismatch


def test_a_wrong_ref_is_flagged_even_beside_alleles_without_sequence(genome: Fasta) -> None:
    wrong = other_base(LETTERS[9])
    windows = VariantWindows(genome, 64)
    site = windows.at(variant("chr1", 10, wrong, LETTERS[9], "<DEL>"))
    assert reasons(site) == ["REF_MISMATCH", "SYMBOLIC"]
    assert site.mismatch
    assert windows.at(variant("chr1", 10, LETTERS[9] + other_base(LETTERS[10]), "<DUP>")).mismatch
    assert not windows.at(variant("chr1", 10, LETTERS[9].lower(), other_base(LETTERS[9]).lower())).mismatch


def test_the_order_of_the_rows_does_not_matter(genome: Fasta) -> None:
    rows = [variant("chr1", p, LETTERS[p - 1], other_base(LETTERS[p - 1])) for p in range(1, 300)]
    rows += [variant("chr2", p, LETTERS[p - 1], other_base(LETTERS[p - 1])) for p in range(1, 40)]
    shuffled = random.Random(0).sample(rows, len(rows))
    windows = VariantWindows(genome, 32)
    for row in shuffled:
        again, alone = windows.at(row).alleles[0], VariantWindows(genome, 32).at(row).alleles[0]
        assert isinstance(again, Haplotypes)
        assert isinstance(alone, Haplotypes)
        assert np.array_equal(again.ref, alone.ref)
        assert np.array_equal(again.alt, alone.alt)


@pytest.mark.parametrize(
    ("chrom", "position", "ref", "alt", "message"),
    [
        ("", "5", "A", "C", "CHROM: expected a name"),
        ("chr 1", "5", "A", "C", "CHROM: expected a name"),
        ("chr1", "-5", "A", "C", "POS: expected a whole number"),
        ("chr1", "5.0", "A", "C", "POS: expected a whole number"),
        ("chr1", "2147483648", "A", "C", "POS: expected a whole number"),
        ("chr1", "²", "A", "C", "POS: expected a whole number"),
        ("chr1", "5", ".", "C", "REF: expected bases, got '.'"),
        ("chr1", "5", "AE", "C", "REF: expected bases, got 'AE'"),
        ("chr1", "5", "A", "C,,G", "ALT: expected bases"),
        ("chr1", "5", "A", "C;G", "ALT: expected bases"),
        ("chr1", "5", "A", "<D EL>", "ALT: expected bases"),
        ("chr1", "5", "A", "<>", "ALT: expected bases"),
        ("chr1", "5", "A", "**", "ALT: expected bases"),
        ("chr1", "5", "A", "-", "ALT: expected bases"),
    ],
)
def test_bad_columns_are_refused(chrom: str, position: str, ref: str, alt: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^x\.vcf:7: ") as failure:
        parse_variant(7, chrom, position.encode(), ref.encode(), alt.encode(), (), b"", "x.vcf:7")
    assert message in failure.value.message
    assert "\n" not in failure.value.message


def test_a_window_too_small_is_refused(genome: Fasta) -> None:
    with pytest.raises(UserError, match="--window: expected at least 8 bases, got 7"):
        VariantWindows(genome, 7)


def test_a_large_allele_needs_no_large_read_twice(tmp_path: Path) -> None:
    letters = "ACGGTTCA" * 5_000
    genome = write_genome(tmp_path / "g.fa", c=letters)
    site = VariantWindows(genome, 1_024).at(variant("c", 1_000, letters[999:31_000], letters[999]))
    assert reasons(site) == ["TOO_LONG"]
    assert not site.mismatch
