"""The model of a run as a program for other software: torch.export's or ONNX, and a description beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.finished import require_new
from seqmamba.inference.onnx_programs import runner, write_onnx
from seqmamba.inference.programs import Program, save_program, sequence_program, step_program
from seqmamba.plain_json import to_json
from seqmamba.training.comparison import milliseconds
from seqmamba.training.exported import load_any_model
from seqmamba.training.hardware import describe_device, software_versions


@dataclass(frozen=True)
class ProgramConfig:
    """What is exported.

    Args:
        format: ``torch``, for `torch.export.load`, or ``onnx``.
        length: Positions of whole sequences, or of a step.
        step: Whether to export a step of a causal model, with its state.
        batch: Sequences at once.
        device: Where the program is made, and runs; one in ONNX is made on the CPU.
    """

    format: Literal["torch", "onnx"]
    length: int
    step: bool = False
    batch: int = 1
    device: str = "cpu"


def export_program(
    source: str, output: Path, config: ProgramConfig, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a program, checked against its model, and what it takes and gives as ``OUTPUT.json``.

    Args:
        source: A run folder, a model folder, or ``owner/name`` on the hub.
        output: The file to write, usually ``.pt2`` or ``.onnx``.
        config: What is exported.
        overwrite: Replace files that are there.

    Returns:
        What the description says; see `_describe`.

    Raises:
        UserError: If a file is there, or the model cannot be exported this way.
    """
    description = output.with_name(f"{output.name}.json")
    require_new(output, description, overwrite=overwrite)
    onnx = config.format == "onnx"
    if onnx and config.device not in ("auto", "cpu"):
        raise UserError(
            f"--device: expected cpu for onnx, whose runtime chooses for itself, got {config.device}"
        )
    model: Any = load_any_model(source, "cpu" if onnx else config.device)
    if config.step:
        program = step_program(model, config.batch, config.length)
    else:
        program = sequence_program(model, config.length, config.batch)
    run: Callable[[], Any]
    if onnx:
        difference = write_onnx(program, output)
        run = runner(output, program)
    else:
        save_program(program, output)
        difference, run = program.difference, partial(program.exported.module(), *program.inputs)
    facts = {"format": config.format, "source": source, "model": type(model).__name__}
    facts |= _describe(program, difference, run) | {"config": asdict(model.config)}
    with atomic_path(description) as part:
        part.write_text(json.dumps(to_json(facts), indent=1) + "\n", encoding="utf-8")
    return facts


def _describe(program: Program, difference: float, run: Callable[[], Any]) -> dict[str, Any]:
    """Return names, shapes and dtypes, how far the answers are off, and how long both take."""
    states = range(len(program.inputs) - 1)
    names = (["x", *(f"state_{i}" for i in states)], ["y", *(f"next_state_{i}" for i in states)])
    sides = (program.inputs, program.answers)
    inputs, outputs = (
        {name: _form(tensor) for name, tensor in zip(side, tensors, strict=True)}
        for side, tensors in zip(names, sides, strict=True)
    )
    return {
        "inputs": inputs,
        "outputs": outputs,
        "difference": difference,
        "milliseconds": {
            "model": milliseconds(partial(program.module, *program.inputs)),
            "program": milliseconds(run),
        },
        "hardware": describe_device(program.inputs[0].device),
        "versions": software_versions(),
    }


def _form(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
