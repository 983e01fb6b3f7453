"""Many runs on one benchmark: seeds, folds and protocols, each in a folder of its own, resumable, summed up.

    OUT/runs/<model>/<protocol>[_validation][_folds5]_seed1[_fold0]/   a run folder: results.json, ...
    OUT/table.md, OUT/table.json                           everything that OUT/runs holds

A finished run is never trained again, an unfinished one goes on from its last epoch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from genomics.benchmarks.benchmark import Benchmark
from genomics.benchmarks.catalogue import find_benchmark
from genomics.benchmarks.frozen import FrozenEncoder
from genomics.benchmarks.summary import RunResult, summarise, table_as_dict, table_as_markdown
from genomics.benchmarks.trainers import TRAINERS, Trainer, check_overrides, probe_trainer, recipe_trainer
from genomics.protocols import DivisionConfig, ProtocolName
from genomics.results import Results
from seqmamba.atomic import atomic_path
from seqmamba.cli.recipes import find_config
from seqmamba.errors import UserError
from seqmamba.plain_json import to_json
from seqmamba.predictions import Predictions
from seqmamba.training.run_folder import RunFolder

RECORD = "bench.json"
"""What a run was, beside its results; written before it starts."""


@dataclass(frozen=True)
class BenchPlan:
    """What to run.

    Args:
        benchmark: ``<family>/<task>``.
        output: Folder of the runs and the table.
        source: A copy of the release; None takes the one in the data folder.
        genome: FASTA file of the genome, or class name to FASTA file, for releases that are intervals.
        model: ``mamba``, ``probe``, or one of the simple models ``kmer``, ``cnn`` and ``length_gc``.
        label: Name of the model in the table; the model's if empty.
        protocols: Which of ``paper`` and ``sound``.
        seeds: The seeds of each.
        ensemble: Models of a run, whose mean answers; 1 for a single one.
        folds: Number of folds, each with every seed; 0 tests on the official test part.
        clean: See `DivisionConfig`.
        tested: See `DivisionConfig`.
        configs: Recipes whose settings replace the defaults of ``mamba``, the last one winning.
        overrides: ``--key value`` words for all of them.
        encoder: The frozen model of ``probe``.
        device: Where that one runs.

    Raises:
        UserError: If a value is out of range.
    """

    benchmark: str
    output: Path
    source: str | None = None
    genome: dict[str, str] | str | None = None
    model: str = "mamba"
    label: str = ""
    protocols: tuple[ProtocolName, ...] = ("sound",)
    seeds: tuple[int, ...] = (1,)
    ensemble: int = 1
    folds: int = 0
    clean: str = "copies"
    tested: str = "test"
    configs: tuple[str, ...] = ()
    overrides: tuple[str, ...] = field(default=())
    encoder: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        find_benchmark(self.benchmark)
        if self.model not in ("mamba", "probe") and self.model not in TRAINERS:
            raise UserError(f"model: expected mamba, probe, {', '.join(TRAINERS)}, got {self.model!r}")
        if (self.model == "probe") != (self.encoder is not None):
            raise UserError("--model probe and --encoder, the frozen model, go together")
        if (self.configs or self.overrides) and self.model != "mamba":
            raise UserError(f"recipes and their settings are for mamba, not for {self.model}")
        if self.ensemble < 1 or (self.ensemble > 1 and self.model != "mamba"):
            raise UserError(
                f"ensemble: expected at least 1 model of mamba, got {self.ensemble} of {self.model}"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds: expected at least one, each once, got {list(self.seeds)}")
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise UserError(f"label: expected a name for a folder, got {self.name!r}")
        check_overrides(self.overrides, self.protocols)
        for protocol in self.protocols:
            self._division(protocol, self.seeds[0], 0)

    @property
    def name(self) -> str:
        """Name of the model in the table and of its folder."""
        return self.label or self.model

    def runs(self) -> Iterator[tuple[str, DivisionConfig]]:
        """Yield the name and the division of every run, all folds of a seed before the next seed."""
        for protocol in self.protocols:
            for seed in self.seeds:
                for fold in range(max(self.folds, 1)):
                    name = f"{protocol}_validation_seed{seed}"
                    if self.tested == "test":
                        name = f"{protocol}_seed{seed}"
                    if self.folds:
                        name = f"{protocol}_folds{self.folds}_seed{seed}_fold{fold}"
                    yield name, self._division(protocol, seed, fold)

    def _division(self, protocol: ProtocolName, seed: int, fold: int) -> DivisionConfig:
        return DivisionConfig(protocol, seed, self.folds, fold, self.clean, self.tested)  # type: ignore[arg-type]


def run_plan(plan: BenchPlan, *, overwrite: bool = False) -> str:
    """Train and test every unfinished run of a plan, then write the table of all runs in its folder.

    Args:
        plan: What to run.
        overwrite: Train runs again that were made with other settings, instead of refusing.

    Returns:
        The table as Markdown.

    Raises:
        UserError: If the folder holds a run of this name with other settings, or another benchmark.
    """
    benchmark = find_benchmark(plan.benchmark)
    encoder = None if plan.encoder is None else FrozenEncoder(plan.encoder, plan.device)
    trainer = _trainer(plan, encoder)
    runs = list(plan.runs())
    for number, (name, division) in enumerate(runs, start=1):
        folder = RunFolder(plan.output / "runs" / plan.name / name)
        print(f"[{number}/{len(runs)}] {plan.name}, {name}", file=sys.stderr)
        try:
            _run_one(plan, trainer, folder, _record(plan, division, encoder), division, overwrite)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on where this one stopped") from None
        write_table(benchmark, plan.output)
    return (plan.output / "table.md").read_text(encoding="utf-8")


def _trainer(plan: BenchPlan, encoder: FrozenEncoder | None) -> Trainer:
    if encoder is not None:
        return probe_trainer(encoder)
    if plan.ensemble > 1:
        from genomics.benchmarks.ensemble import ensemble_trainer

        return ensemble_trainer(plan.configs, plan.overrides, plan.ensemble)
    return TRAINERS.get(plan.model) or recipe_trainer(plan.configs, plan.overrides)


def _run_one(
    plan: BenchPlan,
    trainer: Trainer,
    folder: RunFolder,
    record: dict[str, Any],
    division: DivisionConfig,
    overwrite: bool,
) -> None:
    path = folder.path / RECORD
    before = _read_json(path)
    if before is not None and before != record and not overwrite:
        changed = sorted(key for key in record.keys() | before.keys() if record.get(key) != before.get(key))
        raise UserError(
            f"{folder.path}: holds a run with another {', '.join(changed)}",
            hint="name another folder or --label, or --overwrite it",
        )
    if before == record and folder.results.is_file():
        print("  finished before", file=sys.stderr)
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.results.unlink(missing_ok=True)  # of other settings: not to be taken for those of these
    with atomic_path(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    trainer(plan.benchmark, plan.source, plan.genome, division, folder, resume=before == record)


def _record(plan: BenchPlan, division: DivisionConfig, encoder: FrozenEncoder | None) -> dict[str, Any]:
    """Return all that decides the result of a run; a copy of the data may lie elsewhere the next time."""
    return {
        "benchmark": plan.benchmark,
        "model": plan.model,
        "division": asdict(division),
        "configs": [_content(config) for config in plan.configs],
        "overrides": list(plan.overrides),
        **({"encoder": encoder.identity} if encoder is not None else {}),
        **({"ensemble": plan.ensemble} if plan.ensemble > 1 else {}),
    }


def _content(config: str) -> str:
    """Return the text of a recipe, given as a file or by its name."""
    path = Path(config).expanduser()
    found = path if path.is_file() else find_config(config)
    if found is None:
        raise UserError(f"--config {config}: there is no such file or recipe", hint="`seqmamba recipes ls`")
    return found.read_text("utf-8")


def write_table(benchmark: Benchmark, output: Path) -> None:
    """Write ``table.md`` and ``table.json`` of all finished runs of a folder.

    Raises:
        UserError: If a run is of another benchmark.
    """
    rows = summarise(benchmark, list(finished_runs(benchmark, output)))
    with atomic_path(output / "table.json") as part:
        text = json.dumps(to_json(table_as_dict(benchmark, rows)), indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")
    with atomic_path(output / "table.md") as part:
        part.write_text(table_as_markdown(benchmark, rows), encoding="utf-8")


def finished_runs(benchmark: Benchmark, output: Path) -> Iterator[RunResult]:
    """Read the finished runs of a folder, in the order of their names.

    Raises:
        UserError: If one is of another benchmark.
    """
    for path in sorted(output.glob(f"runs/*/*/{RECORD}")):
        folder = RunFolder(path.parent)
        record = _read_json(path)
        if record is None or not folder.results.is_file():
            continue
        if record["benchmark"] != benchmark.name:
            raise UserError(f"{folder.path}: is a run on {record['benchmark']}", hint="name another folder")
        results = Results.load(folder.results)
        division = DivisionConfig(**record["division"])
        predictions = Predictions.load(folder.predictions, results.task, results.classes).part("test")
        yield RunResult(
            name=path.parent.name,
            model=path.parent.parent.name,
            protocol=division.protocol,
            seed=division.seed,
            folds=division.folds,
            fold=division.fold,
            tested_on=division.tested,
            parameters=results.model.parameters,
            predictions=predictions,
            quirks=_quirks(results, division),
            explanation=results.split.explanation,
        )


def _quirks(results: Results, division: DivisionConfig) -> tuple[str, ...]:
    prefix = f"protocol {division.protocol}, "
    notes = [note.removeprefix(prefix) for note in results.notes if note.startswith(prefix)]
    return tuple(note.partition(":")[0] for note in notes)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})", hint="--overwrite the run") from None
    return content if isinstance(content, dict) else None


def with_seeds(plan: BenchPlan, count: int) -> BenchPlan:
    """Return a plan with the first seeds of the benchmark's paper, and further ones if it has fewer."""
    own = find_benchmark(plan.benchmark).paper.seeds
    more = [seed for seed in range(1, count + len(own) + 1) if seed not in own]
    return replace(plan, seeds=tuple([*own, *more][:count]))


def parse_genome(words: Sequence[str]) -> dict[str, str] | str | None:
    """Read ``FASTA`` or several ``CLASS=FASTA``.

    Raises:
        UserError: If they are mixed, or a class comes twice.
    """
    if not words:
        return None
    pairs = [word.partition("=") for word in words]
    if len(words) == 1 and not pairs[0][1]:
        return words[0]
    if not all(name and equals and path for name, equals, path in pairs):
        raise UserError(f"--genome: expected one FASTA file or CLASS=FASTA, got {' '.join(words)}")
    if len({name for name, _, _ in pairs}) != len(pairs):
        raise UserError("--genome: a class comes twice")
    return {name: path for name, _, path in pairs}
