from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import genomics.segmentation_metrics as segmentation_metrics
from genomics.gene_decoding import segments
from genomics.gene_labels import CODING, UNKNOWN, complement_labels
from genomics.segmentation_metrics import (
    Decided,
    accuracy_gain,
    count_genes,
    evaluate_segmentation,
    right_by_block,
)
from seqmamba.errors import UserError


def gene(codons: int, strand: str = "+") -> list[int]:
    places = list(range(3)) * codons
    first = CODING.of(f"cds{strand}0")
    return [first + place for place in (places if strand == "+" else places[::-1])]


def row(*parts: list[int]) -> np.ndarray:
    return np.array([label for part in parts for label in part], dtype=np.int8)


def of(truth: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    names = ("true", "found", *segmentation_metrics.GENE_CRITERIA)
    return dict(zip(names, count_genes(truth, decoded).sum(0).tolist(), strict=True))


def random_decisions(seed: int = 0, length: int = 35_000) -> Decided:
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 7, length).astype(np.int8)
    decided = np.where(rng.random(length) < 0.6, np.maximum(truth, 0), rng.integers(0, 7, length)).astype(
        np.int8
    )
    return Decided(truth, decided, decided)


def test_metrics_of_bases_are_those_of_scikit_learn() -> None:
    peer = pytest.importorskip("sklearn.metrics")
    parts = [random_decisions(0), random_decisions(1, 12_345)]
    truth = np.concatenate([part.truth for part in parts])
    decided = np.concatenate([part.likeliest for part in parts])[truth != UNKNOWN]
    truth = truth[truth != UNKNOWN]
    found = evaluate_segmentation(parts, CODING, n_bootstrap=0)
    mixed = [Decided(part.truth, np.zeros_like(part.truth), part.decoded) for part in parts]
    decoded = evaluate_segmentation(mixed, CODING, n_bootstrap=0)
    assert decoded["accuracy"].value == pytest.approx((truth == 0).mean())
    for name in ("accuracy", "mcc"):
        assert decoded[f"decoded_{name}"].value == found[f"decoded_{name}"].value
        assert found[f"decoded_{name}"].value == pytest.approx(found[name].value)
    expected = {
        "accuracy": peer.accuracy_score(truth, decided),
        "balanced_accuracy": peer.balanced_accuracy_score(truth, decided),
        "mcc": peer.matthews_corrcoef(truth, decided),
        "f1": peer.f1_score(truth, decided, average="macro"),
        "coding_sensitivity": (decided[truth > 0] > 0).mean(),
        "coding_specificity": (decided[truth == 0] == 0).mean(),
        "coding_precision": (truth[decided > 0] > 0).mean(),
    }
    of_class = peer.f1_score(truth, decided, average=None)
    expected |= {f"f1/{name}": of_class[k] for k, name in enumerate(CODING.classes)}
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
        assert np.isnan(found[name].low)


def test_intervals_come_from_blocks() -> None:
    """Blocks that are all right or all wrong: bases alone would give an interval 100 times narrower."""
    truth = np.zeros(40 * segmentation_metrics.BLOCK, dtype=np.int8)
    right = np.repeat(np.arange(40) % 2 == 0, segmentation_metrics.BLOCK)
    decided = np.where(right, truth, 2).astype(np.int8)
    stretches = [Decided(truth, decided, truth)]
    found = evaluate_segmentation(stretches, CODING, n_bootstrap=2000)["accuracy"]
    assert found.value == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.1)
    assert evaluate_segmentation(stretches, CODING, n_bootstrap=2000)["accuracy"] == found


def test_a_gain_is_paired_by_blocks() -> None:
    """Blocks differ much in how hard they are, and the second pass is a little better in each."""
    rng = np.random.default_rng(0)
    bases = np.full(50, 1000)
    first = rng.integers(200, 900, 50)
    second = first + rng.integers(5, 15, 50)
    one, other = (list(zip(right.tolist(), bases.tolist(), strict=True)) for right in (first, second))
    gain = accuracy_gain(one, other)
    assert gain.value == pytest.approx((second - first).mean() / 1000)
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * (second - first).std() / 1000 / 50**0.5, rel=0.1)
    back = accuracy_gain(other, one)
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low))
    with pytest.raises(UserError, match="the same bases"):
        accuracy_gain(one, other[1:])
    with pytest.raises(UserError, match="the same bases"):
        accuracy_gain(one, [(right, n + 1) for right, n in other])


def test_right_bases_by_block() -> None:
    parts = [random_decisions(0), random_decisions(1, 12_345)]
    found = right_by_block(parts)
    assert len(found) == 4 + 2
    size = segmentation_metrics.BLOCK
    truth, decided = parts[0].truth[size : 2 * size], parts[0].likeliest[size : 2 * size]
    assert found[1] == ((truth == decided)[truth != UNKNOWN].sum(), (truth != UNKNOWN).sum())
    accuracy = evaluate_segmentation(parts, CODING, n_bootstrap=0)["accuracy"].value
    assert sum(r for r, _ in found) / sum(n for _, n in found) == pytest.approx(accuracy)


def test_genes_by_criterion() -> None:
    truth = row([0] * 9, gene(10), [0] * 9, gene(10, "-"), [0] * 9)
    assert of(truth, truth) == {"true": 2, "found": 2, "exact": 2, "start": 2, "stop": 2, "overlap": 2}
    # the first without its first two codons, the second without its stop codon: on the left
    cut = truth.copy()
    cut[9:15] = 0
    cut[48:51] = 0
    assert of(truth, cut) == {"true": 2, "found": 2, "exact": 0, "start": 1, "stop": 1, "overlap": 2}
    wrong_strand = row([0] * 9, gene(10, "-"), [0] * 9, gene(10), [0] * 9)
    assert of(truth, wrong_strand) == {"true": 2, "found": 2, "exact": 0, "start": 0, "stop": 0, "overlap": 0}
    halves = truth.copy()
    halves[24:27] = 0  # two pieces of 15 and 12 bases: neither has more than half
    assert of(truth, halves) == {"true": 2, "found": 3, "exact": 1, "start": 2, "stop": 2, "overlap": 1}


def test_genes_that_do_not_count() -> None:
    whole = row(gene(10), [0] * 9, gene(10), [0] * 9, gene(10), [0] * 9, gene(10))
    truth = whole.copy()
    truth[50:54] = UNKNOWN  # in the second; the first and the last touch the ends
    assert of(truth, whole) == {"true": 1, "found": 1, "exact": 1, "start": 1, "stop": 1, "overlap": 1}
    truth[78 + 30] = UNKNOWN  # right behind the third
    assert of(truth, whole) == {"true": 0, "found": 0, "exact": 0, "start": 0, "stop": 0, "overlap": 0}
    nothing = np.zeros_like(whole)
    found = np.where(whole == 0, 0, 0).astype(np.int8)
    found[32:38] = gene(2)
    assert of(nothing, found)["found"] == 1


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_counts_do_not_depend_on_the_strand(data: st.DataObject) -> None:
    pieces = st.lists(
        st.one_of(
            st.integers(1, 6).map(lambda n: [0] * n),
            st.integers(1, 4).map(gene),
            st.integers(1, 4).map(lambda n: gene(n, "-")),
            st.just([UNKNOWN]),
        ),
        min_size=1,
        max_size=8,
    )
    truth = row(*data.draw(pieces))
    changed = data.draw(arrays(np.int8, len(truth), elements=st.integers(-1, 6)))
    decoded = np.where(changed == -1, np.maximum(truth, 0), changed).astype(np.int8)
    here = of(truth, decoded)
    there = of(complement_labels(truth, CODING), complement_labels(decoded, CODING))
    assert here == there
    exact = set(segments(truth)) & set(segments(decoded))
    assert here["exact"] <= min(here["start"], here["stop"], len(exact))
    assert max(here["start"], here["stop"], here["overlap"]) <= min(here["true"], here["found"])


def test_a_class_that_never_comes_does_not_count_and_perfect_is_one() -> None:
    truth = row([0] * 30, gene(10), [0] * 30)
    found = evaluate_segmentation([Decided(truth, truth, truth)], CODING, n_bootstrap=20)
    assert np.isnan(found["f1/cds-0"].value)
    names = ("accuracy", "f1", "mcc", "coding_sensitivity", "coding_specificity", "gene_exact_f1")
    assert all(found[name].value == 1 for name in names)


def test_what_cannot_be_evaluated() -> None:
    nothing = np.full(10, UNKNOWN, dtype=np.int8)
    with pytest.raises(UserError, match="at least one base with a known label"):
        evaluate_segmentation([Decided(nothing, nothing, nothing)], CODING)
    with pytest.raises(UserError, match="three equally long rows"):
        Decided(nothing, nothing, nothing[1:])
