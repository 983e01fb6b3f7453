"""What a DNA run adds to its model card; see `seqmamba.report.card`."""

from __future__ import annotations

import math

from genomics.report.verdict import WORDING, judge
from genomics.results import Results
from seqmamba.predictions import Predictions
from seqmamba.report.card import DomainCard
from seqmamba.training.run_folder import RunFolder

_PREDICT = "seqmamba genomics predict MODEL X.fa -o predictions.tsv"
_EMBED = "seqmamba genomics embed MODEL X.fa -o embeddings.npz"
_VARIANTS = "seqmamba genomics score-variants MODEL --genome G.fa --vcf X.vcf -o scores.vcf"
_TRACK = "seqmamba genomics track MODEL --genome G.fa -o track.bw"
USAGE: dict[str, tuple[str, ...]] = {
    "BinnedTrackModel": (_TRACK,),
    "EnsembleModel": (_PREDICT,),
    "MaskedModel": (_EMBED, _VARIANTS),
    "PairedAlleleModel": (_VARIANTS,),
    "SegmentationModel": (_TRACK,),
    "SequenceModel": (_PREDICT, _EMBED, _VARIANTS),
}
"""Command lines that apply a model, by its class."""


def describe(run: RunFolder, architecture: str) -> DomainCard:
    """Read what the card of a DNA model says beyond what every card does.

    Args:
        run: The run folder, tested or not, or a folder with a model.
        architecture: Class of the model; only sequence models have results that are read here.

    Raises:
        UserError: If the results or the predictions are damaged.
    """
    usage, tags = USAGE.get(architecture, ()), ("dna", "genomics")
    if architecture != "SequenceModel" or not run.results.is_file():
        return DomainCard(WORDING, usage, tags)
    results, test = Results.load(run.results), None
    if run.predictions.is_file():
        test = Predictions.load(run.predictions, results.task, results.classes).part("test")
    facts = []
    if results.data.lengths:
        low, middle, high = (results.data.lengths.get(key, math.nan) for key in ("min", "median", "max"))
        facts.append(f"Length {low:,.0f} to {high:,.0f} bases, median {middle:,.0f}.")
    if math.isfinite(results.data.gc):
        facts.append(f"GC content {results.data.gc:.1%}.")
    leaks = [str(results.leaks["summary"])] if results.leaks.get("summary") else []
    return DomainCard(
        WORDING,
        usage,
        tags,
        results=results,
        findings=judge(results, test) if results.metrics else (),
        facts=facts,
        parameters=results.model.parameters,
        leaks=leaks,
    )
