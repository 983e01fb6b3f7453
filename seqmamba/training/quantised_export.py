"""The model of a run with int8 weights, in a folder of its own beside what it loses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants

from seqmamba.atomic import atomic_folder
from seqmamba.backbones.quantisation import quantise
from seqmamba.finished import require_new_folder
from seqmamba.plain_json import to_json
from seqmamba.training.comparison import Comparison, compare
from seqmamba.training.exported import load_any_model
from seqmamba.training.run_folder import RunFolder

REPORT = "export.json"
MODEL_FILES = (
    constants.CONFIG_NAME,
    constants.SAFETENSORS_SINGLE_FILE,
    constants.REPOCARD_NAME,
    "results.json",
    REPORT,
)
"""All that the folder of a model may hold, as far as this package writes it."""


def export_int8(source: str, output: Path, device: torch.device, *, overwrite: bool = False) -> Comparison:
    """Write a model folder with int8 weights, and how it compares with the original as ``export.json``.

    Args:
        source: A run folder, a model folder, or ``owner/name`` on the hub. A run folder with its recipe tells
            which data the loss is measured on.
        output: The folder to write.
        device: Where to measure.
        overwrite: Replace a folder that this function wrote.

    Raises:
        UserError: If the output is there, the model has nothing to quantise, or the run's data are gone.
    """
    require_new_folder(output, MODEL_FILES, overwrite=overwrite)
    model: Any = load_any_model(source, "cpu")
    smaller: Any = quantise(model)
    with atomic_folder(output) as part:
        smaller.save_pretrained(part)
        comparison = compare(RunFolder(Path(source).expanduser()), (model, smaller), device)
        content = {"format": "int8", "source": source, **to_json(asdict(comparison))}
        (part / REPORT).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return comparison
