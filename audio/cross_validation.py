"""A recipe over all folds or speakers and several seeds: a run for each, and one table of them all.

    OUT/runs/<held out>_seed<seed>/     a run folder
    OUT/table.md, OUT/table.json        everything that OUT/runs holds

A finished run is never trained again, an unfinished one goes on from its last epoch. Several processes may
share a folder, each with runs of its own; whoever finishes a run writes the table anew.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from audio.manifests import SourceConfig, find_clips
from audio.results import Results
from seqmamba.atomic import atomic_path
from seqmamba.cli.recipes import find_config
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, evaluate
from seqmamba.nn.options import require_choice
from seqmamba.paths import data_dir
from seqmamba.plain_json import to_json
from seqmamba.predictions import Predictions
from seqmamba.training.run_folder import RunFolder

_SPLIT = "data.init_args.split"
RECORD = "held_out.json"
TABLE = "table.json"


@dataclass(frozen=True)
class CrossValidationPlan:
    """What to run.

    Args:
        configs: Recipes, files or names, the last one winning; the first says which data.
        output: Folder of the runs and the table.
        by: What is held out: each ``fold`` or each ``group`` of the data in turn.
        only: The folds or groups to run here; all if empty.
        seeds: Seeds of each.
        validate: Whether the fold or group behind the held-out one chooses the epoch; without it all others
            train, and the last epoch is the one that is tested.
        overrides: ``--key value`` words for all runs.

    Raises:
        UserError: If a value is out of range.
    """

    configs: tuple[str, ...]
    output: Path
    by: str = "fold"
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    validate: bool = False
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice("by", self.by, ("fold", "group"))
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds: expected at least one, each once, got {list(self.seeds)}")

    def runs(self, values: Sequence[str]) -> Iterator[tuple[str, int, str | None]]:
        """Yield what is held out, the seed and what validates, all of a seed before the next seed.

        Args:
            values: All folds or groups of the data, in order.

        Raises:
            UserError: If one of `only` is not among them, or there are too few.
        """
        unknown = [name for name in self.only if name not in values]
        if unknown:
            raise UserError(f"only: the data have no {self.by} {unknown[0]}; there are {', '.join(values)}")
        least = 3 if self.validate else 2
        if len(values) < least:
            raise UserError(f"by: expected {least} {self.by}s or more, the data have {len(values)}")
        for seed in self.seeds:
            for place, value in enumerate(values):
                if not self.only or value in self.only:
                    yield value, seed, values[(place + 1) % len(values)] if self.validate else None


@dataclass(frozen=True)
class FinishedRun:
    """A run and what it found.

    Attributes:
        by: ``fold`` or ``group``.
        held_out: Which of them was held out.
        seed: Its seed.
        folder: Its folder.
        results: Of its test.
        predictions: Of its test part.
    """

    by: str
    held_out: str
    seed: int
    folder: RunFolder
    results: Results
    predictions: Predictions


def run_plan(plan: CrossValidationPlan) -> str:
    """Train and test every unfinished run of a plan, and write the table of all runs in its folder.

    Args:
        plan: What to run.

    Returns:
        The table as Markdown.

    Raises:
        UserError: If the data have no such folds or groups.
    """
    paths = [find_config(name) or Path(name).expanduser() for name in plan.configs]
    runs = list(plan.runs(held_out_values(paths[0], plan.by)))
    for number, (value, seed, validator) in enumerate(runs, start=1):
        folder = RunFolder(plan.output / "runs" / f"{value}_seed{seed}")
        print(f"[{number}/{len(runs)}] {plan.by} {value}, seed {seed}", file=sys.stderr)
        if folder.results.is_file():
            print("  finished before", file=sys.stderr)
        else:
            _run_one(plan, paths, folder, value, seed, validator)
        write_table(plan.output)
    return write_table(plan.output)


def held_out_values(config: Path, by: str) -> list[str]:
    """Return the folds or groups of a recipe's data, in order.

    Args:
        config: The recipe's file.
        by: ``fold`` or ``group``.

    Raises:
        UserError: If it is no recipe of recordings, or they have none.
    """
    try:
        options: dict[str, Any] = yaml.safe_load(config.read_text("utf-8"))["data"]["init_args"]
        source = str(options["source"]).replace("${SEQMAMBA_DATA}", str(data_dir()))
    except FileNotFoundError:
        raise UserError(f"--config {config}: no such file or recipe", hint="`seqmamba recipes ls`") from None
    except (KeyError, TypeError, yaml.YAMLError):
        raise UserError(f"{config}: is no recipe with data.init_args.source") from None
    pattern = (options.get("files") or {}).get("pattern")
    clips = find_clips(source, SourceConfig(pattern=pattern))
    values = {getattr(clip, by) for clip in clips} - {None}
    if not values:
        raise UserError(f"{source}: its recordings have no {by}")
    return sorted(values)


def _run_one(
    plan: CrossValidationPlan,
    configs: Sequence[Path],
    folder: RunFolder,
    value: str,
    seed: int,
    validator: str | None,
) -> None:
    from seqmamba.cli.lightning import run_lightning

    run = ["--run", str(folder.path)]
    try:
        if folder.last.is_file():
            run_lightning(["fit", "--config", str(folder.config), *run, "--ckpt_path", "last"])
        else:
            words = [word for config in configs for word in ("--config", str(config))]
            words += ["--seed_everything", str(seed), *plan.overrides]
            for key, names in (("test", [value]), ("validation", [validator] if validator else [])):
                words += [f"--{_SPLIT}.{key}", json.dumps(names)]
            words += [f"--{_SPLIT}.by", plan.by]
            run_lightning(["fit", *words, *run, "--overwrite", "true"])
        with atomic_path(folder.path / RECORD) as part:
            record = {"by": plan.by, "held_out": value, "seed": seed}
            part.write_text(json.dumps(record) + "\n", encoding="utf-8")
        run_lightning(["test", "--config", str(folder.config), *run, "--ckpt_path", "best"])
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where this one stopped") from None


def write_table(output: Path) -> str:
    """Write ``table.md`` and ``table.json`` of all finished runs of a folder.

    The row of a seed is of all its test recordings together, each predicted by the run that did not see it;
    the last row is the mean over seeds of the metrics, with the standard deviation.

    Args:
        output: The folder.

    Returns:
        The table as Markdown.
    """
    runs = read_runs(output)
    rows: list[dict[str, Any]] = [
        {"held out": run.held_out, "seed": run.seed, "metrics": run.results.metrics} for run in runs
    ]
    pooled = []
    for seed in sorted({run.seed for run in runs}):
        of_seed = [run for run in runs if run.seed == seed]
        metrics = evaluate_pooled(pool(of_seed), seed)
        pooled.append({"held out": f"all {len(of_seed)}", "seed": seed, "metrics": metrics})
    text = _markdown(rows, pooled)
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / TABLE) as part:
        part.write_text(json.dumps(to_json([*rows, *pooled]), indent=1, allow_nan=False) + "\n", "utf-8")
    with atomic_path(output / "table.md") as part:
        part.write_text(text, encoding="utf-8")
    return text


def read_runs(output: Path) -> list[FinishedRun]:
    """Read the finished runs of a folder, in the order of their names.

    Raises:
        UserError: If a file of a run is damaged.
    """
    found = (_read(path.parent) for path in sorted(output.glob(f"runs/*/{RECORD}")))
    return [run for run in found if run is not None]


def pool(runs: Sequence[FinishedRun]) -> Predictions:
    """Return the test predictions of several runs as one table."""
    tables = [run.predictions for run in runs]
    return replace(
        tables[0],
        names=[name for table in tables for name in table.names],
        splits=[split for table in tables for split in table.splits],
        labels=np.concatenate([table.labels for table in tables]),
        outputs=np.concatenate([table.outputs for table in tables]),
    )


def evaluate_pooled(table: Predictions, seed: int) -> dict[str, Estimate]:
    """Return the metrics of the predictions of several runs; the seed is that of the resampling."""
    return evaluate(table.outputs, table.labels, table.task, table.classes, seed=seed)


def _read(path: Path) -> FinishedRun | None:
    """Return a run; None while it is not finished."""
    folder = RunFolder(path)
    if not folder.results.is_file():
        return None
    results = Results.load(folder.results)
    table = Predictions.load(folder.predictions, results.task, results.classes).part("test")
    record = json.loads((path / RECORD).read_text("utf-8"))
    return FinishedRun(record["by"], record["held_out"], record["seed"], folder, results, table)


def _markdown(rows: Sequence[dict[str, Any]], pooled: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "no run is finished\n"
    names = list(rows[0]["metrics"])[:4]
    lines = [f"| held out | seed | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for row in [*rows, *pooled]:
        cells = [_cell(row["metrics"][name]) for name in names]
        lines.append(f"| {row['held out']} | {row['seed']} | {' | '.join(cells)} |")
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row["metrics"][names[0]].value)
    means = [float(np.mean(values)) for values in by_seed.values()]
    spread = f" (sd {np.std(means, ddof=1):.4f} over {len(means)} seeds)" if len(means) > 1 else ""
    lines += ["", f"mean {names[0]} of what is held out: {np.mean(means):.4f}{spread}", ""]
    return "\n".join(lines)


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"
