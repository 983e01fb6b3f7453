"""A program in ONNX's operators, run once by onnxruntime and compared with the model."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.inference.programs import Program, largest_difference

_INSTALL = "pip install 'seqmamba[onnx]'"
_TOLERANCE = 1e-3  # of the largest answer: float32 summed in another order stays far below


def write_onnx(program: Program, path: Path) -> float:
    """Write a program as ONNX, whole or not at all, after onnxruntime has run it.

    The inputs are called ``x`` and ``state_0``, ...; the outputs ``y`` and ``next_state_0``, ...

    Args:
        program: What to write, on the CPU.
        path: The file, usually ``.onnx``.

    Returns:
        The largest difference between what onnxruntime and the model answer, relative to the largest answer.

    Raises:
        UserError: If ONNX lacks an operator of the program, onnxruntime answers something else, or a package
            is missing.
    """
    translated = _translate(program)
    with atomic_path(path) as part:
        translated.save(part)
        answers = runner(part, program)()
        difference = max(
            largest_difference(torch.from_numpy(got), expected)
            for got, expected in zip(answers, program.answers, strict=True)
        )
        if not difference <= _TOLERANCE:
            raise UserError(
                f"{path}: expected onnxruntime to answer as the model, got a difference of {difference:.2g} "
                "of the largest answer"
            )
    return difference


def runner(path: Path, program: Program) -> Callable[[], list[np.ndarray]]:
    """Return a function that lets onnxruntime run a file on the inputs of its program, on the CPU.

    Args:
        path: The file.
        program: What it was made of.
    """
    with _packages():
        import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    feed = {name: x.numpy() for name, x in zip(names, program.inputs, strict=True)}
    return lambda: session.run(None, feed)


def _translate(program: Program) -> Any:
    states = range(len(program.answers) - 1)
    names = ["y", *(f"next_state_{i}" for i in states)]
    with _packages():
        import onnxscript  # noqa: F401  which torch.onnx needs
    try:
        return torch.onnx.export(program.exported, (), dynamo=True, verbose=False, output_names=names)
    except torch.onnx.OnnxExporterError as error:
        found = re.search(
            r"No ONNX function found for <OpOverload\(op='([^']+)'.*?Failure message: (.*)", str(error)
        )
        lacking = f"{found[1]} ({found[2].rstrip('.')})" if found else str(error).strip().splitlines()[-1]
        raise UserError(
            f"the model cannot be written as ONNX, which has no operator for {lacking}"
        ) from error


@contextmanager
def _packages() -> Iterator[None]:
    """Say what to install where a package is missing; keep its advice out of the output."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        yield
    except ImportError as error:
        raise UserError(f"ONNX needs the package {error.name}", hint=_INSTALL) from error
