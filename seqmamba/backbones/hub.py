"""Models in and out of folders and Hugging Face repositories: config.json and safetensors."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from huggingface_hub import PyTorchModelHubMixin, constants
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from seqmamba.backbones.config_file import (
    ARCHITECTURE,
    INT8_LAYERS,
    build_config,
    read_config,
    write_config,
)
from seqmamba.backbones.quantised import int8_layers, stored_tensors, take_int8
from seqmamba.backbones.repository import locate
from seqmamba.backbones.weights import (
    WithoutInitialValues,
    load_weights,
    read_published_weights,
    read_tensors,
    writing_weights,
)
from seqmamba.errors import UserError

MODEL_GROUP = "seqmamba.models"
LAYOUT_GROUP = "seqmamba.layouts"
Model = TypeVar("Model", bound="HubModel")
_MODEL_TYPE = "model_type"
_STATE_SPACES = "state_spaces"
_STATE_SPACES_KEYS = {"d_model", "n_layer", "ssm_cfg"}
_CARD = """---
{{ card_data }}
---

A sequence model saved by seqmamba. Load it with

    import seqmamba
    model = seqmamba.from_pretrained("path/of/this/folder")
"""


class HubModel(
    PyTorchModelHubMixin,
    library_name="seqmamba",
    tags=["mamba", "state-space-model"],
    model_card_template=_CARD,
):
    """Adds ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` to an ``nn.Module``.

    A subclass sets ``config_class``, takes one such config as its only argument and keeps it as
    ``self.config``. Its class name is its name in the entry-point group ``seqmamba.models``.
    """

    config_class: ClassVar[type]
    config: Any

    def example_input(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw an input that the model takes, for checks and benchmarks: here features of unit variance.

        Args:
            batch: Sequences.
            length: Positions.
            generator: Where the numbers come from, on the CPU.
        """
        return torch.randn(batch, length, self.config.d_model, generator=generator)

    def _save_pretrained(self, save_directory: Path) -> None:
        config_path = save_directory / constants.CONFIG_NAME
        weights_path = save_directory / constants.SAFETENSORS_SINGLE_FILE
        module = cast(nn.Module, self)
        layers = int8_layers(module)
        write_config(config_path, type(self).__name__, self.config, layers)
        with writing_weights(weights_path, config_path):
            if layers:
                save_file(stored_tensors(module, layers), str(weights_path))
            else:
                save_model(module, str(weights_path))

    @classmethod
    def from_pretrained(
        cls: type[Model],
        pretrained_model_name_or_path: str | Path,
        *,
        map_location: str = "cpu",
        **download: Any,
    ) -> Model:
        """Build the model that a folder or repository describes, with its weights, in evaluation mode.

        Args:
            pretrained_model_name_or_path: A folder with config.json and model.safetensors, or ``owner/name``.
            map_location: Device of the parameters.
            **download: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``.

        Raises:
            UserError: If a file is absent, damaged, not safetensors, or does not fit the model.
        """
        where = str(pretrained_model_name_or_path)
        config_path = locate(where, constants.CONFIG_NAME, download)
        content = read_config(config_path)
        architecture = content.get(ARCHITECTURE)
        if architecture != cls.__name__:
            raise UserError(
                f"{config_path}: expected architecture {cls.__name__!r}, got {architecture!r}",
                hint="seqmamba.from_pretrained picks the class by itself",
            )
        weights = locate(where, constants.SAFETENSORS_SINGLE_FILE, download)
        config: Any = build_config(cls.config_class, content, str(config_path))
        try:
            with WithoutInitialValues():
                module = cast(nn.Module, cls(config))
        except (RuntimeError, MemoryError) as error:  # sizes beyond any memory
            raise _cannot_be_built(config_path, error) from error
        tensors = read_tensors(weights)
        if INT8_LAYERS in content:
            tensors = take_int8(module, content[INT8_LAYERS], tensors, str(weights))
        load_weights(module, tensors, str(weights))
        return cast(Model, module.to(map_location).eval())


def from_pretrained(folder_or_repo: str | Path, *, map_location: str = "cpu", **download: Any) -> nn.Module:
    """Return the model that the files describe, whatever its class, in evaluation mode.

    Files that ``save_pretrained`` wrote name their class as config.json's ``architecture``, which the
    entry-point group ``seqmamba.models`` resolves. Published checkpoints name their layout as ``model_type``,
    which the group ``seqmamba.layouts`` resolves; state-spaces' original files are known by their keys.
    Nothing but tensors is unpickled and no code of the folder runs.

    Args:
        folder_or_repo: A folder with config.json and weights, or ``owner/name`` on the hub.
        map_location: Device of the parameters.
        **download: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``.

    Raises:
        UserError: If a file is absent, damaged, holds more than tensors, or describes no known model.
    """
    where = str(folder_or_repo)
    config_path = locate(where, constants.CONFIG_NAME, download)
    content = read_config(config_path)
    if ARCHITECTURE not in content and (_MODEL_TYPE in content or content.keys() >= _STATE_SPACES_KEYS):
        return _import_published(where, content, config_path, download).to(map_location).eval()
    architecture = content.get(ARCHITECTURE)
    models = {point.name: point for point in entry_points(group=MODEL_GROUP)}
    if not isinstance(architecture, str) or architecture not in models:
        raise UserError(
            f"{config_path}: expected architecture out of {', '.join(sorted(models))}, got {architecture!r}",
            hint="the file must be one that save_pretrained wrote",
        )
    return models[architecture].load().from_pretrained(where, map_location=map_location, **download)


def _import_published(
    where: str, content: dict[str, Any], config_path: Path, download: dict[str, Any]
) -> nn.Module:
    """Build the model of a published checkpoint; see `seqmamba.backbones.layouts`."""
    layouts = {point.name: point for point in entry_points(group=LAYOUT_GROUP)}
    name = content.get(_MODEL_TYPE, _STATE_SPACES)
    if not isinstance(name, str) or name not in layouts:
        raise UserError(
            f"{config_path}: expected model_type out of {', '.join(sorted(layouts))}, got {name!r}"
        )
    weights = read_published_weights(where, download)
    import_model = layouts[name].load()
    try:
        with WithoutInitialValues():
            return cast(nn.Module, import_model(content, weights, str(config_path)))
    except UserError as error:
        if error.message.startswith(str(config_path)):
            raise
        raise UserError(f"{config_path}: {error.message}", hint=error.hint) from error
    except (RuntimeError, MemoryError) as error:  # sizes beyond any memory
        raise _cannot_be_built(config_path, error) from error


def _cannot_be_built(config_path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{config_path}: describes a model that cannot be built: {reason}")
