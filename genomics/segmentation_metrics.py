"""How well bases and genes were found, with intervals from resampling blocks of the genome.

Neighbouring bases are not independent, so the unit of the bootstrap is a block of `BLOCK` bases: a resample
draws blocks, and a gene belongs to the block that holds its first base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from genomics.gene_decoding import Segment, overlaps, segments
from genomics.gene_labels import CODING_CLASSES, UNKNOWN, LabelArray, LabelScheme
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, confusion_metrics, draw_resamples, f1_scores, percentile_interval

BLOCK = 10_000
"""Bases of a block: several genes."""

GENE_CRITERIA = ("exact", "start", "stop", "overlap")
"""When a found gene is a true one: both ends, its first or last base in the order of reading, or more than
half of the longer of the two shared; always on the same strand."""

_COUNTED = ("true", "found", *GENE_CRITERIA)
Counts = Float[np.ndarray, "blocks counts"]


@dataclass(frozen=True)
class Decided:
    """What was said of a stretch of a genome, and what is true.

    Attributes:
        truth: Classes, `UNKNOWN` where nothing counts, int8 (length,).
        likeliest: The likeliest class of every base.
        decoded: The labels that make up genes; see `likeliest_labels`.
    """

    truth: LabelArray
    likeliest: LabelArray
    decoded: LabelArray

    def __post_init__(self) -> None:
        shapes = [self.truth.shape, self.likeliest.shape, self.decoded.shape]
        if len(set(shapes)) != 1 or self.truth.ndim != 1:
            raise UserError(f"expected three equally long rows of labels, got {shapes}")


def evaluate_segmentation(
    stretches: Sequence[Decided], scheme: LabelScheme, *, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Compute all metrics of some stretches of genomes.

    Of the bases: accuracy, balanced accuracy and MCC over all classes (Gorodkin 2004), the F1 of every class
    and their mean ``f1``, and of coding against the rest, whatever its strand and frame,
    ``coding_sensitivity``, ``coding_specificity`` and ``coding_precision`` (which Burset & Guigó 1996,
    doi:10.1006/geno.1996.0298, call specificity).

    ``decoded_accuracy`` and ``decoded_mcc`` are those of the labels that make up genes.

    Of the genes: ``gene_<criterion>_f1`` for every one of `GENE_CRITERIA`, and sensitivity and precision for
    ``exact``. Segments of the true labels are the true genes, so ends that lie under another gene are those
    of its visible part. Genes that touch an unknown base or an end of the stretch do not count, nor does
    what was found mostly there.

    Args:
        stretches: What to evaluate.
        scheme: The classes.
        n_bootstrap: Number of resamples; 0 gives NaN intervals.
        seed: Seed of the resampling.

    Returns:
        The metrics with their 95 % intervals.

    Raises:
        UserError: If no base counts.
    """
    k = len(scheme.classes)
    tables = np.concatenate([_tables(each.truth, each.likeliest, k) for each in stretches])
    decoded = np.concatenate([_tables(each.truth, each.decoded, k) for each in stretches])
    counts = np.concatenate([count_genes(each.truth, each.decoded) for each in stretches])
    if not tables.any():
        raise UserError("segmentation metrics: expected at least one base with a known label, got none")
    blocks = len(tables)
    values = _metrics(np.ones((1, blocks)), tables, decoded, counts, scheme)
    rng = np.random.default_rng(seed)
    drawn = _metrics(draw_resamples(rng, n_bootstrap, blocks), tables, decoded, counts, scheme)
    return {
        name: Estimate(float(row[0]), *percentile_interval([drawn[name]])) for name, row in values.items()
    }


def right_by_block(stretches: Sequence[Decided]) -> list[tuple[int, int]]:
    """Count in every block the bases whose likeliest class is right, and those that count."""
    found = []
    for each in stretches:
        known = each.truth != UNKNOWN
        starts = np.arange(0, len(known), BLOCK)
        right = np.add.reduceat(known & (each.likeliest == each.truth), starts, dtype=np.int64)
        found += list(
            zip(right.tolist(), np.add.reduceat(known, starts, dtype=np.int64).tolist(), strict=True)
        )
    return found


def accuracy_gain(
    one: Sequence[tuple[int, int]],
    other: Sequence[tuple[int, int]],
    *,
    n_bootstrap: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Return by how much the second of two passes over the same bases is more accurate, with its interval.

    Both are resampled by the same blocks, so what makes a block easy or hard for both does not count.

    Args:
        one: `right_by_block` of the first pass.
        other: That of the second.
        n_bootstrap: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        UserError: If the passes judged different bases.
    """
    first, second = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    if first.shape != second.shape or (first[:, 1] != second[:, 1]).any():
        raise UserError("accuracy gain: expected two passes over the same bases")
    counts = np.stack((second[:, 0] - first[:, 0], first[:, 1]), axis=1)
    gain, bases = counts.sum(0)
    drawn = draw_resamples(np.random.default_rng(seed), n_bootstrap, len(counts)) @ counts
    return Estimate(float(gain / bases), *percentile_interval([drawn[:, 0] / drawn[:, 1]]))


def count_genes(truth: LabelArray, decoded: LabelArray) -> Counts:
    """Count genes in blocks: true ones, found ones, and those found by each of `GENE_CRITERIA`.

    Args:
        truth: True classes.
        decoded: Labels that make up genes.

    Returns:
        float64 (blocks, 6).
    """
    ignored = truth == UNKNOWN
    everywhere = segments(truth)
    true = [gene for gene in everywhere if _is_whole(gene, ignored)]
    # Genes that do not count must not make what was found there wrong.
    excluded = ignored.copy()
    for gene in set(everywhere) - set(true):
        excluded[gene.start : gene.end] = True
    covered = np.r_[0, np.cumsum(excluded)]
    matches = overlaps(true, candidates := segments(decoded))
    matched = {j for _, j, _ in matches}
    found = [
        j
        for j, gene in enumerate(candidates)
        if j in matched or 2 * (covered[gene.end] - covered[gene.start]) <= gene.end - gene.start
    ]
    counts = np.zeros((-(-len(truth) // BLOCK), len(_COUNTED)))
    for gene in true:
        counts[gene.start // BLOCK, 0] += 1
    for j in found:
        counts[candidates[j].start // BLOCK, 1] += 1
    for i, j, shared in matches:
        block = true[i].start // BLOCK
        for column, name in enumerate(GENE_CRITERIA, start=2):
            counts[block, column] += _agrees(name, true[i], candidates[j], shared)
    return counts


def _is_whole(gene: Segment, ignored: np.ndarray) -> bool:
    return (
        gene.start > 0 and gene.end < len(ignored) and not ignored[gene.start - 1] and not ignored[gene.end]
    )


def _agrees(criterion: str, true: Segment, found: Segment, shared: int) -> bool:
    left, right = true.start == found.start, true.end == found.end
    if criterion == "exact":
        return left and right
    if criterion == "overlap":
        return 2 * shared > max(true.end - true.start, found.end - found.start)
    return left if (criterion == "start") == (true.strand == "+") else right


def _tables(
    truth: LabelArray, decision: LabelArray, classes: int
) -> Float[np.ndarray, "blocks classes classes"]:
    """Count (truth, decision) pairs in every block."""
    known = np.flatnonzero(truth != UNKNOWN)
    blocks = -(-len(truth) // BLOCK)
    true, decided = truth[known].astype(np.int64), decision[known].astype(np.int64)
    cells = (known // BLOCK * classes + true) * classes + decided
    return np.bincount(cells, minlength=blocks * classes**2).reshape(-1, classes, classes).astype(np.float64)


def _metrics(
    weights: Float[np.ndarray, "resamples blocks"],
    tables: Float[np.ndarray, "blocks classes classes"],
    decoded: Float[np.ndarray, "blocks classes classes"],
    counts: Counts,
    scheme: LabelScheme,
) -> dict[str, Float[np.ndarray, " resamples"]]:
    confusion = np.tensordot(weights, tables, axes=1)
    of_class = f1_scores(confusion)
    metrics = confusion_metrics(confusion)
    after = confusion_metrics(np.tensordot(weights, decoded, axes=1))
    metrics |= {f"decoded_{name}": after[name] for name in ("accuracy", "mcc")}
    with np.errstate(invalid="ignore", divide="ignore"):
        present = ~np.isnan(of_class)
        metrics["f1"] = np.nansum(of_class, axis=1) / present.sum(1)
        metrics |= {f"f1/{name}": of_class[:, k] for k, name in enumerate(scheme.classes)}
        hits = confusion[:, CODING_CLASSES, CODING_CLASSES].sum((1, 2))
        true, found = confusion[:, CODING_CLASSES].sum((1, 2)), confusion[..., CODING_CLASSES].sum((1, 2))
        total = confusion.sum((1, 2))
        metrics["coding_sensitivity"] = hits / true
        metrics["coding_specificity"] = (total - true - found + hits) / (total - true)
        metrics["coding_precision"] = hits / found
        genes = dict(zip(_COUNTED, (weights @ counts).T, strict=True))
        for name in GENE_CRITERIA:
            metrics[f"gene_{name}_f1"] = 2 * genes[name] / (genes["true"] + genes["found"])
        metrics["gene_exact_sensitivity"] = genes["exact"] / genes["true"]
        metrics["gene_exact_precision"] = genes["exact"] / genes["found"]
    return metrics
