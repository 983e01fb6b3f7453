"""``seqmamba audio fit FOLDER --task masked -o RUN``: a model for ``--init-from``, from unlabelled sound."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from audio.cli.fit_recipes import (
    DATA,
    LOADING,
    MODEL,
    SECONDS,
    TASK,
    begin_recipe,
    durations,
    print_summary,
    read_data,
    refuse_for_classifiers,
    settle_recipe,
    trains_on_gpu,
)

_RENAMED = {SECONDS: f"{LOADING}.crop_seconds"}
_KEPT = (
    "trainer.",
    "seed_everything",
    f"{MODEL}.backbone.",
    f"{TASK}.optimiser.",
    f"{LOADING}.",
    f"{DATA}.split.",
    f"{DATA}.files.",
)


def pretraining_recipe(
    args: argparse.Namespace, given: dict[str, Any], names: dict[str, str]
) -> dict[str, Any]:
    """Read recordings, choose what they decide, and put the user's settings on top.

    Args:
        args: The options of ``audio fit``.
        given: The settings among them, by recipe key.
        names: The option of each key.

    Raises:
        UserError: If a setting is for classifiers only.
    """
    from audio.defaults import BACKBONE, choose
    from audio.frame_targets import most_mels
    from seqmamba.training.choice import Choice

    refuse_for_classifiers(args, given, names, (*_KEPT, *_RENAMED), "masked")
    given = {_RENAMED.get(key, key): value for key, value in given.items()}
    defaults = {f"{BACKBONE}.direction": "bidirectional", f"{DATA}.task": "unlabelled"}
    recipe = begin_recipe(args, given, "audio.pretraining_task.MaskedPretrainingTask", defaults)
    module = read_data(args, recipe)
    chosen = choose(durations(module), module.rate, gpu=trains_on_gpu(args))
    choices = [replace(choice, key=_RENAMED.get(choice.key, choice.key)) for choice in chosen]
    mels = most_mels(module.rate)
    choices.append(Choice(f"{MODEL}.targets.mels", mels, f"filters of the targets at {module.rate:,} Hz"))
    print_summary(module, f"masked pretraining on {len(module.names):,} recordings; labels are not read")
    settle_recipe(args, recipe, given, choices)
    return recipe
