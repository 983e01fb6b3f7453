"""Models in and out of folders and Hugging Face repositories: safetensors and config.json, never pickles."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from seqmamba.backbones.config_file import ARCHITECTURE, build_config, read_config, write_config
from seqmamba.errors import UserError

MODEL_GROUP = "seqmamba.models"
Model = TypeVar("Model", bound="HubModel")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
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

    def _save_pretrained(self, save_directory: Path) -> None:
        config_path = save_directory / constants.CONFIG_NAME
        weights_path = save_directory / constants.SAFETENSORS_SINGLE_FILE
        write_config(config_path, type(self).__name__, self.config)
        try:
            save_model(cast(nn.Module, self), str(weights_path))
        except SafetensorError as error:  # a full disk among others
            raise UserError(f"{weights_path}: could not be written: {error}") from error
        # safetensors makes the file private to its owner; models are shared, so let the umask decide.
        weights_path.chmod(config_path.stat().st_mode)

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
        config_path = _locate(where, constants.CONFIG_NAME, download)
        content = read_config(config_path)
        architecture = content.get(ARCHITECTURE)
        if architecture != cls.__name__:
            raise UserError(
                f"{config_path}: expected architecture {cls.__name__!r}, got {architecture!r}",
                hint="seqmamba.from_pretrained picks the class by itself",
            )
        weights = _locate(where, constants.SAFETENSORS_SINGLE_FILE, download)
        config: Any = build_config(cls.config_class, content, str(config_path))
        try:
            module = cast(nn.Module, cls(config))
        except (RuntimeError, MemoryError) as error:  # sizes beyond any memory
            reason = str(error).splitlines()[0]
            raise UserError(f"{config_path}: describes a model that cannot be built: {reason}") from error
        _load_weights(module, weights)
        return cast(Model, module.to(map_location).eval())


def from_pretrained(folder_or_repo: str | Path, *, map_location: str = "cpu", **download: Any) -> nn.Module:
    """Return the model that the files describe, whatever its class, in evaluation mode.

    The class is the one registered as config.json's ``architecture`` in the entry-point group
    ``seqmamba.models``; nothing is unpickled and no code of the folder runs.

    Args:
        folder_or_repo: A folder with config.json and model.safetensors, or ``owner/name`` on the hub.
        map_location: Device of the parameters.
        **download: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``.

    Raises:
        UserError: If a file is absent, damaged, not safetensors, or describes no known model.
    """
    where = str(folder_or_repo)
    config_path = _locate(where, constants.CONFIG_NAME, download)
    architecture = read_config(config_path).get(ARCHITECTURE)
    models = {point.name: point for point in entry_points(group=MODEL_GROUP)}
    if not isinstance(architecture, str) or architecture not in models:
        raise UserError(
            f"{config_path}: expected architecture out of {', '.join(sorted(models))}, got {architecture!r}",
            hint="the file must be one that save_pretrained wrote",
        )
    return models[architecture].load().from_pretrained(where, map_location=map_location, **download)


def _locate(where: str, name: str, download: dict[str, Any]) -> Path:
    """Return the path of one of the model's files, downloading it if ``where`` is a repository."""
    folder = Path(where).expanduser()
    if folder.is_dir():
        if (folder / name).is_file():
            return folder / name
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles and name == constants.SAFETENSORS_SINGLE_FILE:
            raise UserError(
                f"{folder}: expected {name}, got {', '.join(pickles)}, which is refused: "
                "unpickling a file runs whatever code it holds",
                hint="save the model again with save_pretrained",
            )
        raise UserError(f"{folder}: expected a model folder, but it has no {name}")
    if folder.exists() or not _REPOSITORY.fullmatch(where):
        raise UserError(f"{where}: expected a model folder or owner/name on the hub; there is no such folder")
    try:
        return Path(hf_hub_download(repo_id=where, filename=name, **download))
    except (OSError, ValueError) as error:  # every hub, connection and cache error is one of these
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{where}: no such folder, and {name} did not come from the hub: {reason}") from error


def _load_weights(model: nn.Module, path: Path) -> None:
    """Copy a safetensors file into a model; every key must match."""
    try:
        missing, unexpected = load_model(model, path, strict=False)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: expected a safetensors file, got {error}",
            hint="the file is damaged, incomplete or of another format; copy or save it again",
        ) from error
    except RuntimeError as error:  # load_state_dict lists the shapes that differ, one a line
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"{path}: the weights do not fit config.json: {detail}") from error
    for problem, names in (("lack", missing), ("have unknown", unexpected)):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(f"{path}: the weights {problem} {shown} ({len(names)} in all)")
