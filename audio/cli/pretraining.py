"""``seqmamba audio fit FOLDER --task masked -o RUN``: a model for ``--init-from``, from unlabelled sound."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seqmamba.cli.recipe_options import assign, print_settings
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from audio.datasets import WaveformDataModule

_TASK = "model.init_args"
_MODEL = f"{_TASK}.model"
_DATA = "data.init_args"
_LOADING = f"{_DATA}.loading"
_RENAMED = {f"{_TASK}.augmentation.seconds": f"{_LOADING}.crop_seconds"}
_KEPT = (
    "trainer.",
    "seed_everything",
    f"{_MODEL}.backbone.",
    f"{_TASK}.optimiser.",
    f"{_LOADING}.",
    f"{_DATA}.split.",
    f"{_DATA}.files.",
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
    import torch

    from audio.defaults import BACKBONE, choose
    from audio.frame_targets import most_mels
    from seqmamba.training.choice import Choice

    given = {_RENAMED.get(key, key): value for key, value in given.items() if key != f"{_DATA}.task"}
    for key in given:
        if not key.startswith(_KEPT):
            raise UserError(f"{names[key]}: is for classifiers, and --task masked has no use for it")
    if args.rates or args.no_baselines:
        raise UserError("--rates, --no-baselines: are for classifiers, not for --task masked")
    module = _read(args, given)
    gpu = torch.cuda.is_available() and getattr(args, "trainer.accelerator") != "cpu"
    chosen = choose(module.seconds[module.assignment == "train"], module.rate, gpu=gpu)
    choices = [replace(choice, key=_RENAMED.get(choice.key, choice.key)) for choice in chosen]
    mels = most_mels(module.rate)
    choices.append(Choice(f"{_MODEL}.targets.mels", mels, f"filters of the targets at {module.rate:,} Hz"))
    recipe: dict[str, Any] = {
        "seed_everything": 1,
        "run": str(args.run),
        "model": {"class_path": "audio.pretraining_task.MaskedPretrainingTask", "init_args": {}},
        "data": {"class_path": "audio.datasets.WaveformDataModule", "init_args": {"source": args.source}},
        "trainer": {"accelerator": "auto", "devices": 1},
    }
    assign(recipe, f"{BACKBONE}.direction", "bidirectional")
    assign(recipe, f"{_DATA}.task", "unlabelled")
    assign(recipe, _LOADING, {"rate": module.rate, "damaged": "leave_out"})
    assign(recipe, f"{_DATA}.split", _split(args, given))
    for choice in choices:
        assign(recipe, choice.key, choice.value)
    for key, value in given.items():
        assign(recipe, key, value)
    _print_summary(module)
    print_settings(choices, given)
    return recipe


def _read(args: argparse.Namespace, given: dict[str, Any]) -> WaveformDataModule:
    """Find and divide the recordings, whatever their labels."""
    from audio.datasets import LoadingConfig, WaveformDataModule
    from audio.manifests import SourceConfig
    from audio.splits import SplitConfig

    loading = LoadingConfig(rate=given.get(f"{_LOADING}.rate"), damaged="leave_out", storage="disk")
    module = WaveformDataModule(
        args.source,
        SourceConfig(pattern=given.get(f"{_DATA}.files.pattern")),
        "unlabelled",
        loading=loading,
        split=SplitConfig(**_split(args, given)),
    )
    module.setup()
    return module


def _split(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    by = given.get(f"{_DATA}.split.by", "auto")
    return {"by": by, "test": args.test or [], "validation": args.validation}


def _print_summary(module: WaveformDataModule) -> None:
    """Print the data and the split."""
    seconds, minutes = module.seconds, module.seconds.sum() / 60
    print(f"task:   masked pretraining on {len(seconds):,} recordings; labels are not read")
    print(f"sound:  {seconds.min():.3g} to {seconds.max():.3g} s, {minutes:,.1f} min; {module.rate:,} Hz")
    print(f"split:  {module.explanation}")
    for note in module.notes:
        print(f"note:   {note}")
    sys.stdout.flush()
