"""Count k-mers instead: a logistic regression on the same windows to train, validate and test on.

python -m recipes.genomics.species_context.baseline --length 16384 -o RUN
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from genomics.baselines import Problem, kmer_baseline
from genomics.benchmarks import SpeciesDataModule
from genomics.benchmarks.species import SpeciesForm
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.results import DataSummary, Results
from seqmamba.errors import UserError
from seqmamba.training.run_folder import RunFolder

BASES = 1 << 25
"""Training bases, as many as an epoch of the recipe has."""


def add_training(data: SpeciesDataModule, bases: int) -> LabelledSequences:
    """Put training windows in front of the windows to evaluate on.

    Args:
        data: Set up.
        bases: Bases of all training windows.

    Returns:
        The records, of equally long windows, with their part in ``split``.
    """
    held = data.records.select(data.assignment != "train")
    assert held.split is not None
    windows = data.genomes.fixed_list(max(bases // data.length, len(data.classes)), data.length, data.seed)
    tokens = [data.genomes.fetch(window, data.length) for window in windows]
    return replace(
        held,
        names=[f"train_{i}" for i in range(len(windows))] + held.names,
        tokens=TokenStore.from_arrays([*tokens, *held.tokens]),
        labels=np.concatenate([[window.species for window in windows], held.labels]),
        split=np.concatenate([np.full(len(windows), "train", dtype="<U10"), held.split.astype("<U10")]),
    )


def evaluate_kmers(length: int, eval_windows: int, seed: int, bases: int) -> Results:
    """Fit and test the baseline on the recipe's data.

    Args:
        length: Bases of a window.
        eval_windows: Windows to validate on, and as many to test on.
        seed: Seed of the training windows.
        bases: Bases of all training windows.
    """
    recipe = yaml.safe_load(Path(__file__).with_name("mamba.yaml").read_text())["data"]["init_args"]
    data = SpeciesDataModule(
        recipe["folder"],
        SpeciesForm(**recipe["form"]),
        length=length,
        train_windows=1,
        eval_windows=eval_windows,
        batch_size=1,
        seed=seed,
    )
    data.setup()
    records = add_training(data, bases)
    assert records.split is not None
    found = kmer_baseline(Problem.build(records, records.split))
    return Results(
        title="k-mers",
        task=records.task,
        classes=records.classes,
        seed=seed,
        seconds=found.seconds,
        data=DataSummary(n=len(records), lengths={"min": length, "median": length, "max": length}),
        metrics=found.metrics,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Write ``results.json`` into a folder of its own; print the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, required=True, help="bases of a window")
    parser.add_argument("--eval-windows", type=int, default=400, help="windows to test on")
    parser.add_argument("--seed", type=int, default=1, help="seed of the training windows")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    args = parser.parse_args(words)
    try:
        results = evaluate_kmers(args.length, args.eval_windows, args.seed, BASES)
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None
    args.output.mkdir(parents=True, exist_ok=True)
    results.save(RunFolder(args.output).results)
    accuracy = results.metrics["accuracy"]
    print(f"{args.length:,} bases: {accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})")


if __name__ == "__main__":
    main()
