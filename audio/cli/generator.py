"""``seqmamba audio fit FOLDER --task generation -o RUN``: a generative model, and samples to listen to."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from seqmamba.cli.recipe_options import assign, print_settings
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from audio.datasets import WaveformDataModule
    from seqmamba.training.run_folder import RunFolder

TASK_CLASS = "audio.waveform_task.AutoregressiveTask"
SAMPLES = "samples"
"""Folder in the run for what the model makes after training."""

_TASK = "model.init_args"
_MODEL = f"{_TASK}.model"
_DATA = "data.init_args"
_LOADING = f"{_DATA}.loading"
_NETWORK = f"{_MODEL}.network"
_RENAMED = {
    f"{_MODEL}.backbone.d_model": f"{_NETWORK}.outer.d_model",
    f"{_MODEL}.backbone.n_layers": f"{_NETWORK}.outer.n_layers",
    f"{_MODEL}.backbone.d_state": f"{_NETWORK}.outer.d_state",
}
_SECONDS = f"{_TASK}.augmentation.seconds"
_KEPT = (
    "trainer.",
    "seed_everything",
    f"{_TASK}.optimiser.",
    f"{_LOADING}.rate",
    f"{_LOADING}.batch_size",
    f"{_DATA}.split.",
    f"{_DATA}.files.",
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
    import torch

    from audio.generator_defaults import POOL, choose_generator

    given = {key: value for key, value in given.items() if key != f"{_DATA}.task"}
    seconds = given.pop(_SECONDS, None)
    for key in given:
        if key not in _RENAMED and not key.startswith(_KEPT):
            raise UserError(f"{names[key]}: is for classifiers, and --task generation has no use for it")
    if args.rates or args.no_baselines:
        raise UserError("--rates, --no-baselines: are for classifiers, not for --task generation")
    given = {_RENAMED.get(key, key): value for key, value in given.items()}
    module = _read(args, given)
    gpu = torch.cuda.is_available() and getattr(args, "trainer.accelerator") != "cpu"
    durations = module.seconds[module.assignment == "train"]
    classes = len(module.classes) if module.task == "classification" else 0
    choices = choose_generator(durations, module.rate, gpu=gpu, classes=classes)
    if seconds is not None:
        given[f"{_TASK}.segments.samples"] = max(2, round(seconds * module.rate))
    recipe: dict[str, Any] = {
        "seed_everything": 1,
        "run": str(args.run),
        "model": {"class_path": TASK_CLASS, "init_args": {}},
        "data": {"class_path": "audio.datasets.WaveformDataModule", "init_args": {"source": args.source}},
        "trainer": {"accelerator": "auto", "devices": 1},
    }
    # Linear near the waveform, selective inside (Gu & Dao 2023, arXiv:2312.00752, appendix E.4.1).
    network = {"pool": list(POOL), "inner_mixers": ["s4+mlp", "mamba"]}
    assign(recipe, _NETWORK, {"outer": {"mixer": "s4+mlp", "norm": "layer"}, **network})
    assign(recipe, f"{_TASK}.optimiser", {"betas": [0.9, 0.95], "weight_decay": 0.05, "warmup_fraction": 0.1})
    assign(recipe, f"{_DATA}.task", module.task)
    assign(recipe, _LOADING, {"rate": module.rate, "cut_seconds": module.loading.cut_seconds})
    assign(recipe, f"{_LOADING}.damaged", "leave_out")
    assign(recipe, f"{_DATA}.split", _split(args, given))
    for choice in choices:
        assign(recipe, choice.key, choice.value)
    for key, value in given.items():
        assign(recipe, key, value)
    _print_summary(module)
    print_settings(choices, given)
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
    report = run_generation(
        model, GenerationJob(GenerationConfig(seconds), labels=labels, count=count), output
    )
    print(f"samples:      {output} ({len(report.samples)} of {seconds:.3g} s)")
    print(f"more:         seqmamba audio generate {folder.path} --seconds {seconds:.3g} -o sound.wav")


def generates(folder: RunFolder) -> bool:
    """Return whether a run is one of a generative model."""
    import yaml

    recipe = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    return bool(recipe["model"]["class_path"] == TASK_CLASS)


def _read(args: argparse.Namespace, given: dict[str, Any]) -> WaveformDataModule:
    """Find and divide the recordings; long ones are cut first."""
    from audio.datasets import LoadingConfig, WaveformDataModule
    from audio.generator_defaults import LONGEST_STRETCH
    from audio.manifests import SourceConfig
    from audio.splits import SplitConfig

    pattern = given.get(f"{_DATA}.files.pattern")

    def module(cut_seconds: float | None) -> WaveformDataModule:
        loading = LoadingConfig(
            rate=given.get(f"{_LOADING}.rate"), damaged="leave_out", cut_seconds=cut_seconds, storage="disk"
        )
        found = WaveformDataModule(
            args.source,
            SourceConfig(pattern=pattern),
            loading=loading,
            split=SplitConfig(**_split(args, given)),
        )
        found.setup()
        return found

    found = module(None)
    if found.task not in ("classification", "unlabelled"):
        raise UserError(
            f"--task generation: expected recordings of one class each or of none, got {found.task}"
        )
    return module(LONGEST_STRETCH) if found.seconds.max() > LONGEST_STRETCH else found


def _split(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    by = given.get(f"{_DATA}.split.by", "auto")
    return {"by": by, "test": args.test or [], "validation": args.validation}


def _print_summary(module: WaveformDataModule) -> None:
    """Print the data and the split."""
    seconds, minutes = module.seconds, module.seconds.sum() / 60
    classes = f" of {len(module.classes)} classes" if module.task == "classification" else ""
    print(f"task:   generation from {len(seconds):,} recordings{classes}")
    print(f"sound:  {seconds.min():.3g} to {seconds.max():.3g} s, {minutes:,.1f} min; {module.rate:,} Hz")
    print(f"split:  {module.explanation}")
    for note in module.notes:
        print(f"note:   {note}")
    sys.stdout.flush()
