from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genomics.gene_decoding import BREACH, EDGE, Segment, grammar, likeliest_labels, overlaps, segments
from genomics.gene_labels import CODING, GENES, UNKNOWN, complement_labels
from seqmamba.errors import UserError

labels_of_any_kind = arrays(np.int8, st.integers(0, 40), elements=st.integers(-1, 6))


def gene(codons: int, strand: str = "+") -> list[int]:
    places = list(range(3)) * codons
    first = CODING.of(f"cds{strand}0")
    return [first + place for place in (places if strand == "+" else places[::-1])]


def noisy(labels: np.ndarray, wrong: list[int], classes: int = 7, sure: float = 0.9) -> np.ndarray:
    """Log-probabilities that say these labels, but for background at some bases."""
    said = labels.copy()
    said[wrong] = 0
    probabilities = np.full((len(labels), classes), (1 - sure) / (classes - 1))
    probabilities[np.arange(len(labels)), said] = sure
    return np.log(probabilities)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_all_labellings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length, classes = 6, 4
    scores = rng.normal(size=(length, classes)).astype(np.float32)
    cost = rng.uniform(0, 2, (classes, classes)).astype(np.float32)

    def value(labels: tuple[int, ...]) -> float:
        steps = sum(cost[a, b] for a, b in pairwise(labels))
        return float(sum(scores[t, k] for t, k in enumerate(labels)) - steps)

    best = max(product(range(classes), repeat=length), key=value)
    assert likeliest_labels(scores, cost).tolist() == list(best)


def test_without_a_grammar_it_is_the_likeliest_class() -> None:
    scores = np.random.default_rng(0).normal(size=(1000, 15)).astype(np.float16)
    labels = likeliest_labels(scores, np.zeros((15, 15), dtype=np.float32))
    assert labels.dtype == np.int8
    assert (labels == scores.argmax(1)).all()


def test_errors_inside_a_gene_are_mended_and_the_frame_is_kept() -> None:
    truth = np.array([0] * 30 + gene(20) + [0] * 30 + gene(15, "-") + [0] * 20, dtype=np.int8)
    wrong = [40, 41, 55, 70, 130, 140]
    assert (likeliest_labels(noisy(truth, wrong), grammar(CODING)) == truth).all()
    assert (noisy(truth, wrong).argmax(1) != truth).sum() == len(wrong)


def test_a_lone_codon_is_no_gene_but_abutting_genes_are_two() -> None:
    lone = np.array([0] * 30 + gene(1) + [0] * 30, dtype=np.int8)
    assert not likeliest_labels(noisy(lone, [], sure=0.7), grammar(CODING)).any()
    # the second gene's first four bases lie under the first one, as in ATGA
    abutting = np.array([0] * 10 + gene(20) + gene(20)[4:] + [0] * 10, dtype=np.int8)
    assert (likeliest_labels(noisy(abutting, []), grammar(CODING)) == abutting).all()
    assert segments(abutting) == [Segment(10, 70, "+", 0), Segment(70, 126, "+", 2)]


@pytest.mark.parametrize("scheme", [CODING, GENES], ids=["coding", "genes"])
def test_the_grammar_holds_on_both_strands(scheme: object) -> None:
    cost = grammar(scheme)  # type: ignore[arg-type]
    swap = list(scheme.complement)  # type: ignore[attr-defined]
    assert (cost == cost[np.ix_(swap, swap)].T).all()
    assert set(np.unique(cost)) == {0.0, EDGE, BREACH}


def test_the_steps_of_the_grammar() -> None:
    allowed = {
        (GENES.classes[a], GENES.classes[b])
        for a, b in zip(*np.nonzero(grammar(GENES) < BREACH), strict=True)
    }
    for right in (
        *(("background", "cds+0"), ("cds+2", "background"), ("background", "cds-2"), ("cds-0", "background")),
        *(
            ("cds+0", "cds+1"),
            ("cds-1", "cds-0"),
            ("cds-0", "cds-2"),
            ("cds+1", "donor+"),
            ("donor+", "intron+"),
        ),
        *(("intron+", "acceptor+"), ("acceptor+", "cds+2"), ("cds-2", "acceptor-"), ("intron-", "donor-")),
    ):
        assert right in allowed
    for wrong in (
        *(("background", "cds+1"), ("cds+0", "background"), ("cds+0", "cds+2"), ("cds+0", "cds-0")),
        *(("intron+", "cds+0"), ("donor+", "acceptor+"), ("donor-", "intron-"), ("background", "intron+")),
    ):
        assert wrong not in allowed


def test_a_chromosome_keeps_its_small_differences() -> None:
    truth = np.array((gene(30) + [0] * 30 + gene(30, "-") + [0] * 20) * 700, dtype=np.int8)
    wrong = list(range(7, len(truth), 31))
    decoded = likeliest_labels(noisy(truth, wrong), grammar(CODING))
    assert (decoded == truth).mean() > 0.999
    assert (decoded[-2000:] == truth[-2000:]).all()


def test_what_cannot_be_decoded() -> None:
    scores = np.zeros((5, 7))
    with pytest.raises(UserError, match=r"expected \(length >= 1, 7 classes\), got \(0, 7\)"):
        likeliest_labels(scores[:0], grammar(CODING))
    with pytest.raises(UserError, match=r"got \(5, 6\)"):
        likeliest_labels(scores[:, :6], grammar(CODING))
    scores[3, 2] = np.nan
    with pytest.raises(UserError, match="got NaN"):
        likeliest_labels(scores, grammar(CODING))


def walked(labels: np.ndarray) -> list[Segment]:
    """Cut labels base by base."""
    found: list[list[int]] = []
    for t, label in enumerate(labels.tolist()):
        if not 1 <= label <= 6:
            continue
        if t and found and found[-1][-1] == t - 1:
            before = int(labels[t - 1])
            step = (label - before) % 3 if label <= 3 else (before - label) % 3
            if (before <= 3) == (label <= 3) and step == 1:
                found[-1].append(t)
                continue
        found.append([t])
    result = []
    for bases in found:
        forward = labels[bases[0]] <= 3
        place = int(labels[bases[0 if forward else -1]] - 1) % 3
        result.append(Segment(bases[0], bases[-1] + 1, "+" if forward else "-", (3 - place) % 3))
    return result


@settings(max_examples=300, deadline=None)
@given(labels_of_any_kind)
def test_segments_are_those_of_a_walk_and_turn_with_the_strand(labels: np.ndarray) -> None:
    found = segments(labels)
    assert found == walked(labels)
    length = len(labels)
    turned = [
        Segment(length - s.end, length - s.start, "-" if s.strand == "+" else "+", s.phase)
        for s in found[::-1]
    ]
    assert segments(complement_labels(labels, CODING)) == turned
    assert (complement_labels(labels, CODING) == UNKNOWN).sum() == (labels == UNKNOWN).sum()


@settings(max_examples=200, deadline=None)
@given(labels_of_any_kind, labels_of_any_kind)
def test_overlaps_are_those_of_all_pairs(one: np.ndarray, other: np.ndarray) -> None:
    ours, theirs = segments(one), segments(other)
    pairs = [
        (i, j, min(a.end, b.end) - max(a.start, b.start))
        for i, a in enumerate(ours)
        for j, b in enumerate(theirs)
        if a.strand == b.strand and min(a.end, b.end) > max(a.start, b.start)
    ]
    assert overlaps(ours, theirs) == pairs
