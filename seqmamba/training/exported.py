"""The model that a run exported, as verbs load it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from seqmamba.backbones.hub import from_pretrained
from seqmamba.training.hardware import find_device
from seqmamba.training.run_folder import exported_model


def load_any_model(folder: str | Path, device: str = "auto") -> nn.Module:
    """Load a model of any kind, published checkpoints included; see `seqmamba.from_pretrained`.

    Args:
        folder: A run folder, the folder of a model, or ``owner/name`` on the hub.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: The folder holds no model, or the device is not there.
    """
    return from_pretrained(exported_model(folder), map_location=str(find_device(device)))
