from __future__ import annotations

import numpy as np
import pytest

from genomics.alphabet import COMPLEMENT, decode, encode
from genomics.codons import STARTS, WRONG_CODON, codon_costs, stop_codons
from genomics.gene_decoding import decode_genes, segments
from genomics.gene_labels import CODING, GENES, complement_labels
from seqmamba.errors import UserError

STOPS = ("TAA", "TAG", "TGA")


def step_cost(sequence: str, base: int, left: str, right: str) -> float:
    costs = codon_costs(encode(sequence), CODING)
    return float(costs.cost[base, costs.kind[CODING.of(left), CODING.of(right)]])


def said(labels: np.ndarray, sure: float = 0.9) -> np.ndarray:
    probabilities = np.full((len(labels), 7), (1 - sure) / 6)
    probabilities[np.arange(len(labels)), labels] = sure
    return np.log(probabilities)


def test_a_gene_starts_with_a_start_codon_and_ends_with_its_first_stop() -> None:
    #           0123456789012345
    sequence = "CCATGCCCTAACTGAC"
    assert step_cost(sequence, 2, "background", "cds+0") == 0
    assert step_cost(sequence, 3, "background", "cds+0") == WRONG_CODON
    assert step_cost(sequence, 11, "cds+2", "background") == 0
    assert step_cost(sequence, 8, "cds+2", "background") == WRONG_CODON
    assert step_cost(sequence, 8, "cds+2", "cds+0") == 0
    assert step_cost(sequence, 11, "cds+2", "cds+0") == WRONG_CODON
    assert step_cost(sequence, 5, "cds+0", "cds+1") == 0


def test_unknown_bases_and_ends_allow_what_they_may_hide() -> None:
    assert step_cost("NTGCCC", 0, "background", "cds+0") == 0
    assert step_cost("CCCCAT", 4, "background", "cds+0") == 0  # AT and what comes after
    assert step_cost("AACCCC", 2, "cds+2", "background") == 0
    assert step_cost("CCANCC", 5, "cds+2", "cds+0") == 0


@pytest.mark.parametrize(
    ("sequence", "base", "step"), [("CATGACC", 5, ("cds+2", "cds+1")), ("CATGACC", 1, ("cds+1", "cds+0"))]
)
def test_genes_may_share_a_start_and_a_stop(sequence: str, base: int, step: tuple[str, str]) -> None:
    assert step_cost(sequence, base, *step) == 0
    assert step_cost(sequence.replace("TG", "CG"), base, *step) == WRONG_CODON
    assert step_cost("CTAATGCC", 4, "cds+2", "cds+1") == 0  # one base


@pytest.mark.parametrize("scheme", [CODING, GENES], ids=["coding", "genes"])
def test_costs_turn_with_the_strand(scheme) -> None:
    tokens = np.random.default_rng(0).choice(encode("ACGTN"), 300, p=[0.24, 0.24, 0.24, 0.24, 0.04])
    one, other = codon_costs(tokens, scheme), codon_costs(COMPLEMENT[tokens][::-1], scheme)
    swap = list(scheme.complement)
    for first in range(len(swap)):
        for second in range(len(swap)):
            forward = one.cost[1:, one.kind[first, second]]
            backward = other.cost[1:, other.kind[swap[second], swap[first]]]
            assert (forward == backward[::-1]).all(), (first, second)


def test_decoded_genes_are_open_reading_frames_whatever_the_scores_say() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(30):
        tokens = encode("".join(rng.choice(list("ACGT"), 400)))
        labels = decode_genes(rng.normal(size=(400, 7)) * 20, tokens, CODING, edge=0)
        letters = decode(tokens)
        for gene in segments(labels):
            read = letters[gene.start : gene.end]
            if gene.strand == "-":
                read = decode(COMPLEMENT[encode(read)][::-1])
            codons = [read[i : i + 3] for i in range(gene.phase, len(read) - 2, 3)]
            assert not set(codons[:-1]) & set(STOPS)
            touches = labels[gene.start - 1] if gene.start else 0, labels[gene.end] if gene.end < 400 else 0
            if gene.start > 3 and gene.end < 397 and touches == (0, 0):
                found += 1
                assert gene.phase == 0
                assert codons[0] in STARTS
                assert codons[-1] in STOPS
    assert found > 20


@pytest.mark.parametrize("strand", ["+", "-"])
def test_ends_that_the_scores_get_wrong_are_put_right(strand: str) -> None:
    letters = "CC" * 10 + "ATG" + "GCC" * 30 + "TAA" + "CC" * 10
    truth = np.array([0] * 20 + [1, 2, 3] * 32 + [0] * 20, dtype=np.int8)
    noisy = truth.copy()
    noisy[18:20] = 2, 3  # two bases too early
    noisy[-24:-20] = 0  # four too late
    tokens = encode(letters)
    if strand == "-":
        tokens = COMPLEMENT[tokens][::-1]
        truth, noisy = (complement_labels(each, CODING) for each in (truth, noisy))
    assert (decode_genes(said(noisy), tokens, CODING) == truth).all()
    assert (decode_genes(said(noisy), tokens, CODING, genetic_code=None) != truth).any()


def test_genetic_codes() -> None:
    assert set(stop_codons(11)) == set(STOPS)
    assert set(stop_codons(4)) == {"TAA", "TAG"}  # Mycoplasma reads TGA as tryptophan
    with pytest.raises(UserError, match=r"genetic_code: expected one of 1, 2, .*, got 7"):
        stop_codons(7)
