from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from genomics import alphabet
from genomics.alphabet import MASK, PAD, SEP, A, N
from genomics.vocabulary import CADUCEUS, PLANT_CADUCEUS, Vocabulary, recognise
from seqmamba.errors import UserError


def test_the_numbering_of_caduceus_is_our_alphabet() -> None:
    tokens = np.arange(alphabet.VOCAB_SIZE, dtype=np.uint8)
    kept = [MASK, PAD, *range(A, N + 1)]
    assert CADUCEUS.from_alphabet(tokens)[kept].tolist() == kept
    assert np.array_equal(CADUCEUS.encode("ACGTNacgtnRU"), alphabet.encode("ACGTNacgtnRU"))
    assert CADUCEUS.size == alphabet.VOCAB_SIZE


def test_plant_caduceus_knows_four_bases_and_one_for_the_rest() -> None:
    assert PLANT_CADUCEUS.encode("acgtNR").tolist() == [3, 4, 5, 6, 2, 2]
    assert PLANT_CADUCEUS.from_alphabet(np.array([[MASK, PAD, SEP]], dtype=np.uint8)).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("vocabulary", [CADUCEUS, PLANT_CADUCEUS])
def test_complements_of_letters(vocabulary: Vocabulary) -> None:
    complement = np.array(vocabulary.complement)
    assert np.array_equal(complement[vocabulary.encode("ACGTN")], vocabulary.encode("TGCAN"))
    assert recognise(vocabulary.complement) is vocabulary


def test_unknown_complements_have_no_letters() -> None:
    vocabulary = recognise((1, 0, 2))
    assert vocabulary == Vocabulary((1, 0, 2))
    with pytest.raises(UserError, match="which token ids stand for A, C, G and T"):
        vocabulary.encode("ACGT")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"complement": (0,)}, "complement: number of ids: expected a whole number >= 2, got 1"),
        ({"complement": (1, 2, 0)}, r"complement: expected pairs of ids below its length, got \(1, 2, 0\)"),
        ({"complement": (0, 5)}, "complement: expected pairs of ids"),
        ({"complement": (0, 1.0)}, "complement: expected pairs of ids"),
        ({"complement": (0, 1), "bases": (0, 1)}, r"bases: expected five ids below 2, got \(0, 1\)"),
        ({"complement": (0, 1), "bases": (0, 1, 2, 0, 1)}, "bases: expected five ids below 2"),
        ({"complement": (0, 1), "mask": 2}, "mask: expected an id below 2 or null, got 2"),
        ({"complement": (0, 1), "pad": -1}, "pad: expected an id below 2 or null, got -1"),
    ],
)
def test_messages(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Vocabulary(**fields)
