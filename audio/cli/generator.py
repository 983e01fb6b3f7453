"""``seqmamba audio fit FOLDER --task generation -o RUN``: a generative model, and samples to listen to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

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
from seqmamba.cli.recipe_options import assign
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from seqmamba.training.run_folder import RunFolder

TASK_CLASS = "audio.waveform_task.AutoregressiveTask"
SAMPLES = "samples"
"""Folder in the run for what the model makes after training."""

_NETWORK = f"{MODEL}.network"
_RENAMED = {
    f"{MODEL}.backbone.d_model": f"{_NETWORK}.outer.d_model",
    f"{MODEL}.backbone.n_layers": f"{_NETWORK}.outer.n_layers",
    f"{MODEL}.backbone.d_state": f"{_NETWORK}.outer.d_state",
}
_KEPT = (
    "trainer.",
    "seed_everything",
    f"{TASK}.optimiser.",
    f"{LOADING}.rate",
    f"{LOADING}.batch_size",
    f"{DATA}.split.",
    f"{DATA}.files.",
)


def generator_recipe(
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
    from audio.generator_defaults import LONGEST_STRETCH, POOL, choose_generator

    refuse_for_classifiers(args, given, names, (*_KEPT, *_RENAMED, SECONDS), "generation")
    given = {_RENAMED.get(key, key): value for key, value in given.items()}
    seconds = given.pop(SECONDS, None)
    defaults: dict[str, Any] = {
        # Linear near the waveform, selective inside (Gu & Dao 2023, arXiv:2312.00752, appendix E.4.1).
        f"{_NETWORK}.outer": {"mixer": "s4+mlp", "norm": "layer"},
        f"{_NETWORK}.pool": list(POOL),
        f"{_NETWORK}.inner_mixers": ["s4+mlp", "mamba"],
        f"{TASK}.optimiser": {"betas": [0.9, 0.95], "weight_decay": 0.05, "warmup_fraction": 0.1},
        f"{LOADING}.cut_seconds": LONGEST_STRETCH,
    }
    recipe = begin_recipe(args, given, TASK_CLASS, defaults)
    module = read_data(args, recipe)
    if module.task not in ("classification", "unlabelled"):
        raise UserError(
            f"--task generation: expected recordings of one class each or of none, got {module.task}"
        )
    assign(recipe, f"{DATA}.task", module.task)
    if seconds is not None:
        given[f"{TASK}.segments.samples"] = max(2, round(seconds * module.rate))
        assign(recipe, f"{TASK}.segments.samples", given[f"{TASK}.segments.samples"])
    classes = len(module.classes)
    choices = choose_generator(durations(module), module.rate, gpu=trains_on_gpu(args), classes=classes)
    of = f" of {classes} classes" if classes else ""
    print_summary(module, f"generation from {len(module.names):,} recordings{of}")
    settle_recipe(args, recipe, given, choices)
    return recipe


def write_samples(folder: RunFolder) -> None:
    """Let the trained model of a run make recordings: four, or one of each class.

    Args:
        folder: The run.
    """
    import seqmamba
    from audio.generation import GenerationConfig
    from audio.generation_run import GenerationJob, check_output, run_generation
    from audio.generator_defaults import SAMPLE_SECONDS_CPU, SAMPLE_SECONDS_GPU
    from audio.waveform_model import require_waveform_model
    from seqmamba.training.hardware import find_device

    device = find_device("auto")
    model = require_waveform_model(seqmamba.from_pretrained(folder.pretrained, map_location=str(device)))
    most = SAMPLE_SECONDS_CPU if device.type == "cpu" else SAMPLE_SECONDS_GPU
    length = model.config.max_length or model.config.rate
    seconds = min(most, max(0.1, length / model.config.rate))
    output = folder.path / SAMPLES
    check_output(output, single=False, overwrite=True)
    labels = model.config.classes or (None,)
    count = 1 if model.config.classes else 4
    generation = GenerationConfig(seconds, guard=None)  # as it is: noise says how far the training came
    report = run_generation(model, GenerationJob(generation, labels=labels, count=count), output)
    print(f"samples:      {output} ({len(report.samples)} of {seconds:.3g} s)")
    print(f"more:         seqmamba audio generate {folder.path} --seconds {seconds:.3g} -o sound.wav")


def generates(folder: RunFolder) -> bool:
    """Return whether a run is one of a generative model."""
    import yaml

    recipe = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    return bool(recipe["model"]["class_path"] == TASK_CLASS)
