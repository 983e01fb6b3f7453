"""What a smaller form of a model loses and saves: validation as in its run, size, time of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from seqmamba.backbones.quantised import int8_layers, stored_tensors
from seqmamba.errors import UserError
from seqmamba.training.hardware import describe_device, software_versions
from seqmamba.training.run_folder import RunFolder

_BATCH = 16
_DEFAULT_LENGTH = 1_024  # positions, where a model does not know its own
_REPEATS = 7


@dataclass(frozen=True)
class Side:
    """One of two models that are compared.

    Attributes:
        bytes: Of its weights.
        milliseconds: Of a forward pass over the batch; the median of several.
        metrics: Name to value, as a validation logs them; empty where nothing was measured.
    """

    bytes: int
    milliseconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A model and what was made of it.

    Attributes:
        part: Part of the data behind the metrics: ``validation``, ``test`` where a run keeps no validation
            part, or None where there is no run to say which data these are.
        batch: Shape of the batch that was timed.
        hardware: One line.
        versions: Package name to version.
        original: The model.
        smaller: What was made of it.
    """

    part: str | None
    batch: tuple[int, ...]
    hardware: str
    versions: Mapping[str, str]
    original: Side
    smaller: Side


def compare(run: RunFolder, models: tuple[Any, Any], device: torch.device) -> Comparison:
    """Measure two models on the validation part of the run that the first is of.

    Args:
        run: The run folder; without a recipe in it, only time and size are measured.
        models: The run's model and the other one.
        device: Where to compute.

    Raises:
        UserError: If the recipe of the run cannot be run again, for example because its data are gone.
    """
    part, metrics = _validate(run, models, device) if run.config.is_file() else (None, ({}, {}))
    original = models[0]
    length = getattr(original.config, "max_length", None) or _DEFAULT_LENGTH
    batch = original.example_input(_BATCH, length, torch.Generator().manual_seed(0)).to(device)
    sides = [
        Side(_bytes(model), milliseconds(partial(model.to(device).eval(), batch)), dict(found))
        for model, found in zip(models, metrics, strict=True)
    ]
    return Comparison(part, tuple(batch.shape), describe_device(device), software_versions(), *sides)


def _validate(
    run: RunFolder, models: tuple[Any, Any], device: torch.device
) -> tuple[str | None, tuple[dict[str, float], dict[str, float]]]:
    """Run the validation of a run's recipe with each model in turn, on the test part if it has no other."""
    from seqmamba.training.recipe import run_recipe

    words = ["validate", "--config", str(run.config), "--run", str(run.path), "--verbose", "false"]
    words += ["--trainer.accelerator", "cpu" if device.type == "cpu" else "gpu", "--trainer.devices", "1"]
    cli = run_recipe([*words, "--trainer.strategy", "auto", "--context_parallel", "1"])
    task, trainer, data = cli.model, cli.trainer, cli.datamodule
    names = [name for name, module in task.named_children() if type(module) is type(models[0])]
    if len(names) != 1:
        raise UserError(f"{run.path}: expected one model in a {type(task).__name__}, got {len(names)}")
    part = "validation" if trainer.callback_metrics else "test"
    found = []
    for model in models:
        setattr(task, names[0], model.to(device))
        given = {"datamodule": data} if part == "validation" else {"dataloaders": data.test_dataloader()}
        trainer.validate(task, verbose=False, **given)
        found.append({name.removeprefix("val/"): float(x) for name, x in trainer.callback_metrics.items()})
    return (part, (found[0], found[1])) if found[0] else (None, ({}, {}))


def _bytes(model: nn.Module) -> int:
    tensors = stored_tensors(model, int8_layers(model)).values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def milliseconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes, the median of several after a first that may compile.

    Args:
        call: What to do; on a GPU, all of its work is waited for.
    """

    def once() -> float:
        start = time.perf_counter()
        call()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return 1_000 * (time.perf_counter() - start)

    with torch.inference_mode():
        once()
        return median(once() for _ in range(_REPEATS))
