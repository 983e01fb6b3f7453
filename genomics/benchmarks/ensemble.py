"""A benchmark run whose model is an ensemble: trained member by member, resumable, saved as one model.

RUN/members/0, 1, ...    a run folder each
RUN/pretrained           all of them as one `EnsembleModel`
RUN/results.json, predictions.tsv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from genomics.benchmarks.trainers import Genome, Trainer, recipe_trainer
from genomics.ensembles import EnsembleModel
from genomics.inference import load_model
from genomics.protocols import DivisionConfig
from genomics.results import ModelSummary, Results
from seqmamba.atomic import atomic_folder
from seqmamba.metrics import evaluate
from seqmamba.predictions import Predictions
from seqmamba.training.callbacks import epoch_seed
from seqmamba.training.run_folder import RunFolder


def ensemble_trainer(configs: Sequence[str], overrides: Sequence[str], members: int) -> Trainer:
    """Return a trainer of several models of a recipe, alike but for their seeds.

    All see the division of the run's seed: the same training, validation and test parts.

    Args:
        configs: See `recipe_trainer`.
        overrides: See `recipe_trainer`.
        members: How many.
    """
    return partial(_train_members, tuple(configs), tuple(overrides), members)


def _train_members(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    count: int,
    benchmark: str,
    source: str | None,
    genome: Genome,
    division: DivisionConfig,
    folder: RunFolder,
    *,
    resume: bool,
) -> None:
    members = [RunFolder(folder.path / "members" / str(number)) for number in range(count)]
    for number, member in enumerate(members):
        print(f"  member {number + 1} of {count}", file=sys.stderr)
        if resume and member.results.is_file():
            continue
        words = (*overrides, "--seed_everything", str(epoch_seed(division.seed, number)))
        train = recipe_trainer(configs, words)
        train(benchmark, source, genome, division, member, resume=resume and member.path.is_dir())
    combine(members, folder, division.seed)


def combine(members: Sequence[RunFolder], folder: RunFolder, seed: int) -> None:
    """Write the ensemble of finished runs: model, predictions and results.

    Args:
        members: Run folders of models of one configuration, on the same data.
        folder: Where to write.
        seed: Seed of the whole, for the results.
    """
    model = EnsembleModel.of([load_model(member.path, "cpu") for member in members])
    results = [Results.load(member.results) for member in members]
    first = results[0]
    tables = [Predictions.load(member.predictions, first.task, first.classes) for member in members]
    mean = Predictions.mean(tables)
    test = mean.part("test")
    with atomic_folder(folder.pretrained) as part:
        model.save_pretrained(part)
    mean.save(folder.predictions)
    replace(
        first,
        title=f"{first.title}: mean of {len(members)}",
        seed=seed,
        seconds=sum(result.seconds for result in results),
        model=ModelSummary(sum(result.model.parameters for result in results), asdict(model.config)),
        metrics=evaluate(test.outputs, test.labels, test.task, test.classes),
    ).save(folder.results)
