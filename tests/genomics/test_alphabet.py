from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genomics import alphabet
from genomics.alphabet import COMPLEMENT, VOCAB_SIZE, decode, encode, gc_fraction, reverse_complement
from seqmamba.errors import UserError

LETTERS = alphabet.LEGAL_LETTERS.decode("ascii")
dna = st.text(alphabet="ACGTN", max_size=200)


def test_ids_are_those_of_the_published_checkpoints() -> None:
    published = {
        "[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "[MASK]": 3, "[PAD]": 4, "[RESERVED]": 5, "[UNK]": 6,
        "A": 7, "C": 8, "G": 9, "T": 10, "N": 11,
    }  # fmt: skip
    ours = {
        name if len(name) == 1 else f"[{name}]": getattr(alphabet, name)
        for name in ("CLS", "SEP", "BOS", "MASK", "PAD", "RESERVED", "UNK", "A", "C", "G", "T", "N")
    }
    assert ours == published
    assert VOCAB_SIZE == 16
    assert {i: int(c) for i, c in enumerate(COMPLEMENT) if i != c} == {7: 10, 8: 9, 9: 8, 10: 7}


@given(dna)
def test_decode_inverts_encode(letters: str) -> None:
    tokens = encode(letters)
    assert tokens.dtype == np.uint8
    assert decode(tokens) == letters
    assert np.array_equal(encode(letters.lower()), tokens)
    assert np.array_equal(encode(letters.replace("T", "U").encode()), tokens)


@given(st.text(alphabet=LETTERS, max_size=100))
def test_ambiguity_codes_read_as_n(letters: str) -> None:
    expected = "".join(c if c in "ACGT" else "T" if c == "U" else "N" for c in letters.upper())
    assert decode(encode(letters)) == expected


@given(dna)
def test_reverse_complement_is_its_own_inverse_and_agrees_with_biopython(letters: str) -> None:
    from Bio.Seq import Seq

    tokens = encode(letters)
    assert decode(reverse_complement(tokens)) == str(Seq(letters).reverse_complement())
    assert np.array_equal(reverse_complement(reverse_complement(tokens)), tokens)


@pytest.mark.parametrize(
    ("letters", "position", "hint"),
    [
        ("ACXG", 3, "protein"),
        ("AC-G", 3, "gaps"),
        ("A CG", 2, "white space"),
        ("ACG7", 4, "expected A"),
        ("Aé", 2, "IUPAC"),
    ],
)
def test_other_letters_are_named_with_their_position(letters: str, position: int, hint: str) -> None:
    with pytest.raises(UserError, match=f"position {position}: '{letters[position - 1]}'") as caught:
        encode(letters)
    assert hint in (caught.value.hint or "")


@given(st.binary(max_size=50))
def test_any_bytes_encode_or_raise_a_user_error(data: bytes) -> None:
    legal = all(byte in alphabet.LEGAL_LETTERS for byte in data)
    try:
        tokens = encode(data)
    except UserError:
        assert not legal
    else:
        assert legal
        assert len(tokens) == len(data)


def test_encoding_is_vectorised() -> None:
    """A loop over bases in Python takes seconds for a bacterial genome; the table takes a fiftieth of one."""
    genome = np.random.default_rng(0).choice(list(b"ACGT"), 9_000_000).astype(np.uint8).tobytes()
    start = time.process_time()
    encode(genome)
    assert time.process_time() - start < 0.5


def test_encoded_tokens_are_writable() -> None:
    encode("ACGT")[0] = 4


def test_decode_drops_padding_and_refuses_other_tokens() -> None:
    assert decode([7, 8, 4, 4]) == "AC"
    with pytest.raises(ValueError, match="bases"):
        decode([0, 7])


def test_gc_fraction_ignores_unknown_bases() -> None:
    assert gc_fraction(encode("GCNNAT")) == 0.5
    assert gc_fraction(encode("NN")) == 0.0
