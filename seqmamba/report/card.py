"""The model card of a run: README.md as the Hugging Face hub reads it, filled from the run's files.

What was not measured is said so; nothing is left to be filled in later. A domain adds what only it knows
through the entry-point group ``seqmamba.cards``: a function from a run folder and the name of a model's
class to a `DomainCard`.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from seqmamba.metrics import Estimate
from seqmamba.report.verdict import Finding, Run
from seqmamba.report.words import Wording, duration, interval, metric_name, number
from seqmamba.stratify import PARTS

UNKNOWN_LICENCE = "unknown"
_NOT_EVALUATED = (
    "**Not evaluated.** There are no results of a test part: nothing is known about its accuracy."
)
_FAVOURABLE = ("good", "info")
_MOST_ROWS = 40  # classes in a table


@dataclass(frozen=True)
class Source:
    """A file or folder that a run read.

    Attributes:
        name: Its last two names; where it was is nobody's business.
        size: In bytes, or None where it is no longer there.
        origin: What it was made from, if it was prepared by a recipe.
        licence: Licence of the data, if a recipe knows it.
    """

    name: str
    size: int | None = None
    origin: str = ""
    licence: str = ""


@dataclass(frozen=True)
class DomainCard:
    """What a domain knows about a run.

    Attributes:
        wording: Its words.
        usage: Command lines that apply the model, which stands as MODEL in them.
        tags: For the hub.
        pipeline: The hub's name of the task, or None.
        results: Of a test, where they are those of a classifier or a model that gives values.
        findings: What the results mean.
        facts: Sentences about the data.
        parameters: Of the model; 0 where nothing says so.
        leaks: Sentences about copies between the parts; empty where no check ran.
    """

    wording: Wording
    usage: Sequence[str]
    tags: Sequence[str] = ()
    pipeline: str | None = None
    results: Run | None = None
    findings: Sequence[Finding] = ()
    facts: Sequence[str] = ()
    parameters: int = 0
    leaks: Sequence[str] = ()


@dataclass(frozen=True)
class CardFacts:
    """What every run knows about itself.

    Attributes:
        name: Title of the card.
        architecture: Class of the model.
        stored: How many numbers its file of weights holds.
        version: Of seqmamba that wrote it.
        licence: Of the weights; None: nobody said.
        where: What `seqmamba pull` takes, or None for a folder.
        sources: What was read in training.
        metrics: Metrics of results that no domain reads.
        exported: What ``export.json`` says, of a model with int8 weights.
    """

    name: str
    architecture: str
    stored: int
    version: str
    licence: str | None = None
    where: str | None = None
    sources: Sequence[Source] = ()
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    exported: Mapping[str, Any] | None = None


def model_card(facts: CardFacts, domain: DomainCard) -> str:
    """Write the card.

    Args:
        facts: About the run.
        domain: What its domain adds.

    Returns:
        Markdown with the hub's YAML header.
    """
    metrics = domain.results.metrics if domain.results is not None else facts.metrics
    sections = [
        f"---\n{_header(facts, domain, metrics).to_yaml()}\n---",
        f"# {facts.name}",
        _summary(facts, domain),
        "\n\n".join(("## Use", _usage(facts, domain))),
        "\n\n".join(("## Data", _data(facts, domain))),
        "\n\n".join(("## Split", _split(domain))),
        "\n\n".join(("## Results", _results(facts, domain, metrics))),
        "\n\n".join(("## Leaks between the parts", _leaks(domain))),
        "\n\n".join(("## Limits", _limits(domain, metrics))),
        "\n\n".join(("## Licence", _licence(facts))),
        "\n\n".join(("## How it was made", _made(facts, domain))),
    ]
    return "\n\n".join(sections) + "\n"


def _header(facts: CardFacts, domain: DomainCard, metrics: Mapping[str, Estimate]) -> ModelCardData:
    found = [
        EvalResult(
            task_type=domain.pipeline or "other",
            dataset_type="own",
            dataset_name="test part of the run",
            metric_type=name,
            metric_name=metric_name(name),
            metric_value=estimate.value,
        )
        for name, estimate in metrics.items()
        if math.isfinite(estimate.value)
    ]
    return ModelCardData(
        library_name="seqmamba",
        license=facts.licence or UNKNOWN_LICENCE,
        pipeline_tag=domain.pipeline,
        tags=["mamba", "state-space-model", *domain.tags],
        model_name=facts.name if found else None,
        eval_results=found or None,
    )


def _summary(facts: CardFacts, domain: DomainCard) -> str:
    size = f"{domain.parameters:,} parameters" if domain.parameters else f"{facts.stored:,} numbers"
    what = f"A {facts.architecture} with {size}, written by seqmamba {facts.version}."
    if domain.results is None:
        return what
    classes = list(domain.results.classes)
    shown = ", ".join(classes[:_MOST_ROWS]) + (" and others" if len(classes) > _MOST_ROWS else "")
    return f"{what} Task: {domain.results.task} of {domain.wording.item}s: {shown}."


def _usage(facts: CardFacts, domain: DomainCard) -> str:
    folder = "MODEL"
    lines = ["pip install seqmamba"] if facts.exported is None else ["pip install 'seqmamba[quantise]'"]
    if facts.where is not None:
        lines.append(f"seqmamba pull {facts.where} {folder}")
    lines += domain.usage
    code = "\n".join(f"    {line}" for line in lines)
    python = f'`seqmamba.from_pretrained("{folder}")` loads it'
    return f"{code}\n\nMODEL is the folder of this card. In Python, {python}."


def _data(facts: CardFacts, domain: DomainCard) -> str:
    pieces = []
    if domain.results is not None and domain.results.data.n:
        pieces.append(f"{domain.results.data.n:,} {domain.wording.item}s. {' '.join(domain.facts)}".strip())
    if facts.sources:
        rows = [
            [
                f"`{source.name}`",
                "gone" if source.size is None else f"{source.size:,}",
                source.origin or "not recorded",
            ]
            for source in facts.sources
        ]
        pieces.append(table(["read in training", "bytes", "made from"], rows))
    return "\n\n".join(pieces) or "Not recorded: the run has neither results nor a recipe."


def _split(domain: DomainCard) -> str:
    if domain.results is None or not domain.results.split.counts:
        return "Not recorded."
    counts = domain.results.split.counts
    explanation: str = getattr(domain.results.split, "explanation", "")
    parts = [part for part in PARTS if part in counts]
    names = list(dict.fromkeys(name for part in parts for name in counts[part]))
    rows = [[name, *(f"{counts[part].get(name, 0):,}" for part in parts)] for name in names[:_MOST_ROWS]]
    if len(names) > _MOST_ROWS:
        rest = names[_MOST_ROWS:]
        sums = (sum(counts[part].get(name, 0) for name in rest) for part in parts)
        rows.append([f"{len(rest)} more", *(f"{total:,}" for total in sums)])
    return "\n\n".join(filter(None, (explanation, table(["", *parts], rows))))


def _results(facts: CardFacts, domain: DomainCard, metrics: Mapping[str, Estimate]) -> str:
    pieces = []
    if not metrics:
        pieces.append(_NOT_EVALUATED)
    else:
        beside = domain.results.baselines if domain.results is not None else {}
        others = [domain.wording.baseline(name).name for name in beside]
        header = ["test part", "this model", "95 % interval", *others]
        rows = [
            [
                metric_name(name),
                number(estimate.value),
                interval(estimate),
                *(_baseline_cell(summary.metrics.get(name)) for summary in beside.values()),
            ]
            for name, estimate in metrics.items()
        ]
        pieces.append(table(header, rows))
        if not beside:
            pieces.append("No baseline was trained on the same split.")
        pieces += [_sentence(finding) for finding in domain.findings if finding.level in _FAVOURABLE]
    if facts.exported is not None:
        pieces.append(_int8(facts.exported))
    return "\n\n".join(pieces)


def _baseline_cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{number(estimate.value)} ({interval(estimate)})"


def _int8(exported: Mapping[str, Any]) -> str:
    """Say what int8 weights lose."""
    original, smaller = exported["original"], exported["smaller"]
    part = exported.get("part")
    text = f"The weights are int8: {smaller['bytes']:,} bytes, {original['bytes']:,} before. " + (
        f"On the {part} part:" if part else "What that loses was not measured."
    )
    measured = smaller["metrics"]
    rows = [
        [name, number(value, 4), number(measured[name], 4)] for name, value in original["metrics"].items()
    ]
    return text if not rows else f"{text}\n\n{table(['', 'original', 'int8'], rows)}"


def _leaks(domain: DomainCard) -> str:
    return " ".join(domain.leaks) or "No check for copies between the parts ran."


def _limits(domain: DomainCard, metrics: Mapping[str, Estimate]) -> str:
    findings = [f"- {_sentence(each)}" for each in domain.findings if each.level not in _FAVOURABLE]
    if not metrics:
        findings.append("- Not evaluated: do not rely on its answers before you have tested it.")
    else:
        findings.append(
            f"- The numbers hold for {domain.wording.item}s like those of the test part; for others nothing "
            "was measured."
        )
    return "\n".join(findings)


def _sentence(finding: Finding) -> str:
    return f"**{finding.headline}** {finding.detail}".rstrip()


def _licence(facts: CardFacts) -> str:
    weights = "Weights: nobody stated a licence." if facts.licence is None else f"Weights: {facts.licence}."
    of_data = dict.fromkeys(source.licence for source in facts.sources if source.licence)
    return f"{weights} Data: {', '.join(of_data) or 'not recorded'}."


def _made(facts: CardFacts, domain: DomainCard) -> str:
    results = domain.results
    if results is None or not results.created:
        return "Not recorded."
    facts_of_run = [
        f"seed {results.seed}" if results.seed is not None else "",
        results.hardware,
        duration(results.seconds) if math.isfinite(results.seconds) else "",
        *(f"{name} {version}" for name, version in results.versions.items()),
    ]
    line = ", ".join(filter(None, [results.created[:10], *facts_of_run]))
    command = f"\n\n    {without_folders(results.command)}" if results.command else ""
    return f"{line}.{command}"


def without_folders(command: str) -> str:
    """Return a command line in which the names of files stand without the folders of whoever ran it."""
    words = (re.sub(r"^([\w.-]*=)?(~|/|\.\./).*/", r"\1", word) for word in shlex.split(command))
    return shlex.join(words)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; a bar in a cell does not end it.

    Args:
        header: Of each column.
        rows: Cells.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
