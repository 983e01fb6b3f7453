"""Genes from the classes of bases: the likeliest labels that obey the grammar of genes, and segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from genomics.alphabet import TokenArray
from genomics.codons import BACTERIAL, SHARED, WRONG_CODON, CodonCosts, codon_costs
from genomics.gene_labels import CODING, CODON, LabelArray, LabelScheme
from seqmamba.errors import UserError
from seqmamba.ops.numba_math import kernel

BREACH = 40.0
"""What a step that the grammar does not foresee costs, in nats: the end of a gene under another one, say."""

EDGE = 20.0
"""What the first and the last base of a gene cost each, in nats.

Both are far above what the frequencies of genes would say. Neighbouring bases of a model's answer repeat one
piece of evidence, and a sum of log-probabilities counts it for each of them.
"""

_CODING_CLASSES = len(CODING.classes)


class Segment(NamedTuple):
    """A stretch of coding bases on one strand and in one frame: a gene of a bacterium, or a coding exon.

    Attributes:
        start: First base, counted from 0.
        end: One past the last base.
        strand: "+" or "-".
        phase: Bases in front of its first whole codon, in the order of reading.
    """

    start: int
    end: int
    strand: str
    phase: int


def grammar(
    scheme: LabelScheme, breach: float = BREACH, edge: float = EDGE, shared: float | None = None
) -> Float[np.ndarray, "classes classes"]:
    """Return the cost of every step from a base's class to its right neighbour's.

    Genes consist of whole codons; introns start with a donor and end with an acceptor; what surrounds the
    coding bases of a transcript is ``utr``, or background where it is not annotated. What holds on one strand
    holds on the other, read backwards.

    Args:
        scheme: The classes.
        breach: The cost of a step that is not foreseen.
        edge: The cost of the first and of the last base of a gene.
        shared: The cost of a step between two genes that share bases, see `genomics.codons.SHARED`; None
            does not foresee it.

    Returns:
        Costs of (class, next class): 0 where foreseen, `edge` between background and anything else.
    """
    steps = [("background", "background"), ("background", "cds+0"), ("cds+2", "background")]
    steps += [(f"cds+{p}", f"cds+{(p + 1) % CODON}") for p in range(CODON)]
    if "intron+" in scheme.classes:
        steps += [("donor+", "donor+"), ("donor+", "intron+"), ("intron+", "intron+")]
        steps += [("intron+", "acceptor+"), ("acceptor+", "acceptor+")]
        steps += [("background", "utr+"), ("utr+", "utr+"), ("utr+", "background")]
        steps += [("utr+", "cds+0"), ("cds+2", "utr+"), ("utr+", "donor+"), ("acceptor+", "utr+")]
        for p in range(CODON):
            steps += [(f"cds+{p}", "donor+"), ("acceptor+", f"cds+{p}")]
    cost = np.full((len(scheme.classes),) * 2, breach, dtype=np.float32)
    swap = scheme.complement
    for first, second in ((scheme.of(a), scheme.of(b)) for a, b in steps):
        price = edge if (first == 0) != (second == 0) else 0
        cost[first, second] = cost[swap[second], swap[first]] = price
    if shared is not None:
        for first, second in ((scheme.of(a), scheme.of(b)) for a, b in SHARED):
            cost[first, second] = cost[swap[second], swap[first]] = shared
    return cost


def decode_genes(
    log_probabilities: Float[np.ndarray, "length classes"],
    tokens: TokenArray,
    scheme: LabelScheme,
    *,
    genetic_code: int | None = BACTERIAL,
    edge: float = EDGE,
) -> LabelArray:
    """Return the likeliest labels that make up genes.

    Args:
        log_probabilities: Of every class at every base, any floating dtype.
        tokens: The bases, ids of `genomics.alphabet`, uint8 (length,).
        scheme: The classes.
        genetic_code: NCBI's number of the code whose start and stop codons genes must have; None reads no
            codons.
        edge: The cost of the first and of the last base of a gene, in nats.

    Raises:
        UserError: As `likeliest_labels` and `codon_costs`.
    """
    if genetic_code is None:
        return likeliest_labels(log_probabilities, grammar(scheme, edge=edge))
    # with codons to hold on to, nothing but them may begin or end a gene, or a gene under another one
    cost = grammar(scheme, WRONG_CODON, edge, shared=2 * edge)
    return likeliest_labels(log_probabilities, cost, codon_costs(tokens, scheme, genetic_code))


def likeliest_labels(
    log_probabilities: Float[np.ndarray, "length classes"],
    cost: Float[np.ndarray, "classes classes"],
    codons: CodonCosts | None = None,
) -> LabelArray:
    """Return the labels of the largest sum of log-probabilities less the costs of steps (Viterbi 1967).

    Args:
        log_probabilities: Of every class at every base, any floating dtype.
        cost: Of the steps, see `grammar`; not negative.
        codons: What the sequence says about them, see `genomics.codons`.

    Returns:
        int8 (length,). Of equally good labels those with the smaller classes, from the right.

    Raises:
        UserError: If a number is NaN or the shapes do not fit.
    """
    scores = np.asarray(log_probabilities)
    if scores.ndim != 2 or cost.shape != (scores.shape[1],) * 2 or len(scores) == 0:
        raise UserError(f"log_probabilities: expected (length >= 1, {len(cost)} classes), got {scores.shape}")
    if codons is None:
        codons = CodonCosts(np.zeros(cost.shape, dtype=np.int8), np.zeros((len(scores), 1), dtype=np.float32))
    if codons.kind.shape != cost.shape or len(codons.cost) != len(scores):
        raise UserError(f"codons: expected costs of {len(scores)} bases, got {len(codons.cost)}")
    labels, finite = _viterbi(scores.astype(np.float32), cost.astype(np.float32), codons.kind, codons.cost)
    if not finite:
        raise UserError("log_probabilities: expected numbers, got NaN")
    return labels


def segments(labels: LabelArray) -> list[Segment]:
    """Cut labels into stretches of coding bases on one strand and in one frame.

    Args:
        labels: Classes of either scheme, or `UNKNOWN`, int8 (length,).

    Returns:
        The stretches from left to right. Two genes that abut in one frame are one stretch.
    """
    number = labels.astype(np.int64)
    coding = (number > 0) & (number < _CODING_CLASSES)
    backward = number > CODON
    phase = (number - 1) % CODON
    step = np.where(backward[:-1], phase[:-1] - phase[1:], phase[1:] - phase[:-1]) % CODON
    goes_on = coding[:-1] & coding[1:] & (backward[:-1] == backward[1:]) & (step == 1)
    starts = np.flatnonzero(coding & ~np.r_[False, goes_on])
    ends = np.flatnonzero(coding & ~np.r_[goes_on, False]) + 1
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        first = end - 1 if backward[start] else start
        found.append(Segment(start, end, "-" if backward[start] else "+", int(-phase[first] % CODON)))
    return found


def overlaps(one: Sequence[Segment], other: Sequence[Segment]) -> list[tuple[int, int, int]]:
    """Return the pairs of segments on one strand that share bases.

    Args:
        one: Segments from left to right, disjoint.
        other: Likewise.

    Returns:
        Index in `one`, index in `other`, shared bases.
    """
    starts = np.array([segment.start for segment in other])
    ends = np.array([segment.end for segment in other])
    pairs = []
    for i, segment in enumerate(one):
        candidates: Int[np.ndarray, " n"] = np.arange(
            np.searchsorted(ends, segment.start, side="right"), np.searchsorted(starts, segment.end)
        )
        for j in candidates.tolist():
            if other[j].strand == segment.strand:
                shared = min(segment.end, other[j].end) - max(segment.start, other[j].start)
                pairs.append((i, j, shared))
    return pairs


@kernel()
def _viterbi(
    scores: np.ndarray, cost: np.ndarray, kind: np.ndarray, extra: np.ndarray
) -> tuple[np.ndarray, bool]:
    length, classes = scores.shape
    came_from = np.empty((length, classes), dtype=np.int8)
    best = scores[0].copy()
    new = np.empty(classes, dtype=np.float32)
    finite = True
    for t in range(length):
        for k in range(classes):
            if np.isnan(scores[t, k]):
                finite = False
        if t == 0:
            continue
        for k in range(classes):
            winner, value = 0, best[0] - cost[0, k] - extra[t, kind[0, k]]
            for j in range(1, classes):
                candidate = best[j] - cost[j, k] - extra[t, kind[j, k]]
                if candidate > value:
                    winner, value = j, candidate
            came_from[t, k] = winner
            new[k] = value + scores[t, k]
        largest = new.max()  # float32 sums over a chromosome would lose their small digits
        for k in range(classes):
            best[k] = new[k] - largest
    labels = np.empty(length, dtype=np.int8)
    labels[length - 1] = np.argmax(best)
    for t in range(length - 1, 0, -1):
        labels[t - 1] = came_from[t, labels[t]]
    return labels, finite
