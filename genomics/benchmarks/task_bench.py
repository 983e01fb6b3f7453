"""Benchmark tasks on variants and binned tracks: what a frozen model makes of them, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from genomics.benchmarks import variant_probe, zero_shot
from genomics.benchmarks.cage_probe import cage_rows
from genomics.benchmarks.catalogue import window_of
from genomics.benchmarks.long_range import RELEASE, WINDOW, read_variant_effects
from genomics.benchmarks.task_rows import TaskRow, write_rows
from genomics.benchmarks.variant_features import variant_features
from genomics.protocols import ProtocolName
from seqmamba.errors import UserError
from seqmamba.model_identity import fingerprint
from seqmamba.paths import data_dir, expand
from seqmamba.training.exported import load_any_model


@dataclass(frozen=True)
class TaskPlan:
    """What to run.

    Args:
        name: A key of `TASKS`, or one with ``@<bases>`` behind it.
        output: Folder of features, scores and the table.
        encoder: The frozen model: a run folder, a folder of a model, or a repository.
        genome: FASTA file of the genome.
        source: A copy of the release; None takes the one in the data folder.
        protocols: Which of ``paper`` and ``sound``.
        seeds: Number of seeds of the paper's protocol.
        device: Where the frozen model runs.
    """

    name: str
    output: Path
    encoder: str
    genome: str
    source: str | None = None
    protocols: tuple[ProtocolName, ...] = ("sound",)
    seeds: int = 1
    device: str = "auto"

    @property
    def plain(self) -> str:
        """The name without the window."""
        return self.name.partition("@")[0]

    @property
    def task(self) -> str:
        """Name of the task inside the release."""
        return self.plain.partition("/")[2]

    def window(self, default: int) -> int:
        """Return the bases of a window."""
        return window_of(self.name, default)


Run = Callable[[TaskPlan, nn.Module, Path], list[TaskRow]]


def run_task(plan: TaskPlan) -> str:
    """Run a task and write its table.

    Returns:
        The table as Markdown.

    Raises:
        UserError: If the release or the model is not there, or a file of it cannot be read.
    """
    run, release, quirks = TASKS[plan.plain]
    source = data_dir() / plan.plain.partition("/")[0] if plan.source is None else expand(plan.source)
    if not source.exists():
        raise UserError(
            f"{source}: there is no copy of {plan.plain}",
            hint=f"get it from {release} and give --source PATH",
        )
    model = load_any_model(plan.encoder, plan.device).eval()
    plan.output.mkdir(parents=True, exist_ok=True)
    rows = [row for row in run(plan, model, source) if row.protocol in plan.protocols]
    if not rows:
        raise UserError(f"{plan.name}: has no {' or '.join(plan.protocols)} protocol, only the sound one")
    facts = {"encoder": f"{plan.encoder} ({type(model).__name__}, {fingerprint(model)})", "release": release}
    shown = quirks if any(row.protocol == "paper" for row in rows) else {}
    return write_rows(plan.name, rows, shown, facts, plan.output)


def _variants(plan: TaskPlan, model: nn.Module, source: Path) -> list[TaskRow]:
    window = plan.window(WINDOW)
    variants = list(read_variant_effects(source, plan.task))
    features = variant_features(model, variants, expand(plan.genome), window, plan.output / "features")
    rows: list[TaskRow] = []
    if "paper" in plan.protocols:
        rows += variant_probe.paper_protocol(variants, features, range(1, plan.seeds + 1))
    if "sound" in plan.protocols:
        rows += variant_probe.sound_protocol(variants, features, window)
    return rows


def _omim(plan: TaskPlan, model: nn.Module, source: Path) -> list[TaskRow]:
    window = plan.window(zero_shot.OMIM_WINDOW)
    return zero_shot.zero_shot_rows(model, plan.task, source, expand(plan.genome), window, plan.output)


def _brca1(plan: TaskPlan, model: nn.Module, source: Path) -> list[TaskRow]:
    window = plan.window(zero_shot.BRCA1_WINDOW)
    return zero_shot.zero_shot_rows(model, plan.task, source, expand(plan.genome), window, plan.output)


def _cage(plan: TaskPlan, model: nn.Module, source: Path) -> list[TaskRow]:
    return cage_rows(model, source, expand(plan.genome), plan.window(0) or None, plan.output)


TASKS: dict[str, tuple[Run, str, dict[str, str]]] = {
    "long_range/causal_eqtl": (_variants, RELEASE, variant_probe.QUIRKS),
    "long_range/pathogenic_clinvar": (_variants, RELEASE, variant_probe.QUIRKS),
    "long_range/pathogenic_omim": (_omim, RELEASE, {}),
    "long_range/cage": (_cage, RELEASE, {}),
    "brca1/sge": (_brca1, "doi:10.1038/s41586-018-0461-z, supplementary table 1", zero_shot.QUIRKS),
}
"""``<family>/<task>`` -> what runs it, where its files are, quirks of the paper's protocol."""
