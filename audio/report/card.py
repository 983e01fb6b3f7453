"""What an audio run adds to its model card; see `seqmamba.report.card`."""

from __future__ import annotations

from audio.report.classification import WORDING, judge, read_test
from audio.results import Results
from seqmamba.report.card import DomainCard
from seqmamba.report.words import duration
from seqmamba.training.run_folder import RunFolder

USAGE: dict[str, tuple[str, ...]] = {
    "MaskedWaveformModel": ("seqmamba audio fit FOLDER --init-from MODEL -o RUN",),
    "WaveformClassifier": ("seqmamba audio predict MODEL X.wav -o predictions.tsv",),
    "WaveformModel": ("seqmamba audio generate MODEL --seconds 10 -o sound.wav",),
}
"""Command lines that apply a model, by its class."""
_TAGGER = ("seqmamba audio timeline MODEL X.wav -o timeline.tsv",)
_CLASSIFIER = "audio-classification"


def describe(run: RunFolder, architecture: str) -> DomainCard:
    """Read what the card of an audio model says beyond what every card does.

    Args:
        run: The run folder, tested or not, or a folder with a model.
        architecture: Class of the model; only classifiers have results that are read here.

    Raises:
        UserError: If the results or the predictions are damaged.
    """
    usage, tags = USAGE.get(architecture, ()), ("audio",)
    if architecture != "WaveformClassifier" or not run.results.is_file():
        pipeline = _CLASSIFIER if architecture == "WaveformClassifier" else None
        return DomainCard(WORDING, usage, tags, pipeline)
    results = Results.load(run.results)
    test = read_test(run.predictions, results)
    facts = []
    if results.data.rate:
        facts.append(f"{results.data.rate:,} Hz, channels: {results.data.channels}.")
    if "total" in results.data.seconds:
        spoken = {name: duration(seconds) for name, seconds in results.data.seconds.items()}
        facts.append(
            f"{spoken['min']} to {spoken['max']}, median {spoken['median']}; {spoken['total']} in all."
        )
    tagger = results.task == "tagging"
    return DomainCard(
        WORDING,
        _TAGGER if tagger else usage,
        tags,
        None if results.task in ("tagging", "regression") else _CLASSIFIER,
        results,
        judge(results, test) if results.metrics else (),
        facts,
        results.parameters,
    )
