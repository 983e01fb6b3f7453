"""What the codons of a sequence say about where a gene may start, go on and end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from genomics.alphabet import COMPLEMENT, A, T, TokenArray, encode
from genomics.gene_labels import CODON, LabelScheme
from seqmamba.errors import UserError

BACTERIAL = 11
"""NCBI's number of the genetic code of bacteria and archaea."""

STARTS = ("ATG", "GTG", "TTG")
"""Start codons; the few others of code 11 begin far less than one gene in a hundred."""

WRONG_CODON = 600.0
"""What a start without a start codon, an end without a stop codon or a stop inside a gene costs, in nats."""

SHARED = (("cds+2", "cds+1"), ("cds+1", "cds+0"))
"""Steps between two genes that share one or four bases: the left one has them, or the right one."""

_STEPS = ("start", "stop", "go on", "share left", "share right")


def stop_codons(genetic_code: int) -> tuple[str, ...]:
    """Return the stop codons of a genetic code.

    Args:
        genetic_code: NCBI's number of the table.

    Raises:
        UserError: If there is none of that number.
    """
    from Bio.Data.CodonTable import unambiguous_dna_by_id

    if genetic_code not in unambiguous_dna_by_id:
        known = ", ".join(map(str, sorted(unambiguous_dna_by_id)))
        raise UserError(f"genetic_code: expected one of {known}, got {genetic_code}")
    return tuple(unambiguous_dna_by_id[genetic_code].stop_codons)


class CodonCosts(NamedTuple):
    """What steps between the labels of neighbouring bases cost beside `genomics.gene_decoding.grammar`.

    Attributes:
        kind: For (class, next class), which column of `cost` it pays, int8.
        cost: For every base and kind, what the step from its left neighbour's class costs, float32.
    """

    kind: Int[np.ndarray, "classes classes"]
    cost: Float[np.ndarray, "length kinds"]


def codon_costs(
    tokens: TokenArray, scheme: LabelScheme, genetic_code: int = BACTERIAL, wrong: float = WRONG_CODON
) -> CodonCosts:
    """Say at which bases genes may start, go on and end, on either strand.

    A gene on ``+`` starts with a start codon and ends with its first stop codon in frame; one on ``-`` does
    so on the other strand. Two genes of one strand may share one base (TAATG) or four (ATGA), which are
    labelled as those of the longer one. Codons with unknown bases, and those that the ends of the sequence
    cut, may be anything.

    Args:
        tokens: Ids of `genomics.alphabet`, uint8 (length,).
        scheme: The classes.
        genetic_code: NCBI's number of the table that has the stop codons.
        wrong: What a codon costs that the step does not allow.

    Raises:
        UserError: If there is no such genetic code.
    """
    stops = stop_codons(genetic_code)
    forward = _forbidden(tokens, stops)
    backward = _forbidden(COMPLEMENT[tokens][::-1], stops)[::-1]
    free = np.zeros((len(tokens), 1), dtype=bool)
    forbidden = np.concatenate((free, forward[:-1], backward[:-1]), axis=1)
    return CodonCosts(_kinds(scheme), forbidden * np.float32(wrong))


def _forbidden(tokens: TokenArray, stops: tuple[str, ...]) -> Bool[np.ndarray, "boundaries steps"]:
    """Say which `_STEPS` are wrong at every boundary: the left side of every base, and the end."""
    length, margin = len(tokens), 4
    padded = np.pad(tokens, margin + CODON)  # of no base: whatever is there is unknown
    three = [padded[i : len(padded) - CODON + 1 + i] for i in range(CODON)]
    known = np.logical_and.reduce([(each >= A) & (each <= T) for each in three])

    def found(codons: tuple[str, ...]) -> Bool[np.ndarray, " places"]:
        matches = [
            np.logical_and.reduce([each == base for each, base in zip(three, encode(codon), strict=True)])
            for codon in codons
        ]
        return np.logical_or.reduce(matches)

    def at(places: np.ndarray, offset: int) -> np.ndarray:
        first = margin + CODON + offset
        return places[first : first + length + 1]

    stop = found(stops)
    may_start, may_stop = found(STARTS) | ~known, stop | ~known
    shares_left = at(may_stop, -3) & (at(may_start, -4) | at(may_start, -1))
    shares_right = at(may_start, 0) & (at(may_stop, 1) | at(may_stop, -2))
    return np.stack((~at(may_start, 0), ~at(may_stop, -3), at(stop, -3), ~shares_left, ~shares_right), axis=1)


def _kinds(scheme: LabelScheme) -> Int[np.ndarray, "classes classes"]:
    outside = [name for name in ("background", "utr+") if name in scheme.classes]
    steps: list[tuple[str, str, str]] = [(place, "cds+0", "start") for place in outside]
    steps += [("cds+2", place, "stop") for place in outside]
    steps += [
        ("cds+2", "cds+0", "go on"),
        *((*pair, step) for pair, step in zip(SHARED, _STEPS[3:], strict=True)),
    ]
    kinds = np.zeros((len(scheme.classes),) * 2, dtype=np.int8)
    swap = scheme.complement
    for left, right, step in steps:
        first, second, kind = scheme.of(left), scheme.of(right), 1 + _STEPS.index(step)
        kinds[first, second] = kind
        kinds[swap[second], swap[first]] = kind + len(_STEPS)
    return kinds
