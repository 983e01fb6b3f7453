"""Tensors from files into models: safetensors, whole or in shards, and PyTorch's files as tensors only."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seqmamba.backbones.config_file import read_config
from seqmamba.backbones.quantised import is_quantised
from seqmamba.backbones.repository import find, locate
from seqmamba.errors import UserError

_SHOWN = 3  # names in a message
_UNREADABLE = "a file that is damaged, incomplete or of another format"
_REPAIR = "copy the file again, or save the model again as safetensors"
_WEIGHT_FILES = (  # the first that exists is read
    constants.SAFETENSORS_SINGLE_FILE,
    constants.SAFETENSORS_INDEX_FILE,
    constants.PYTORCH_WEIGHTS_NAME,
    f"{constants.PYTORCH_WEIGHTS_NAME}.index.json",
)


def read_published_weights(where: str, download: dict[str, Any]) -> dict[str, Tensor]:
    """Read all tensors of a published checkpoint; PyTorch's files only where there are no safetensors.

    Args:
        where: A folder, or ``owner/name`` on the hub.
        download: Options of `huggingface_hub.hf_hub_download`.

    Returns:
        Tensors by name, on the CPU and mapped from the files where these allow it.

    Raises:
        UserError: If there are no weights, or a file is damaged or holds anything but tensors.
    """
    for name in _WEIGHT_FILES:
        path = find(where, name, download)
        if path is not None:
            return _read_shards(where, path, download) if path.suffix == ".json" else read_tensors(path)
    return read_tensors(locate(where, constants.SAFETENSORS_SINGLE_FILE, download))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one file of tensors: safetensors, or by its suffix a PyTorch file, from which no code is run.

    Args:
        path: The file.

    Raises:
        UserError: If it is damaged, of another format, or holds anything but tensors.
    """
    return _read_torch(path) if path.suffix == ".bin" else _read_safetensors(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: expected a safetensors file, got {error}", hint=_REPAIR) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        # Only files of the current format, which are archives, can be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged pickles raise nearly anything
        # PyTorch's text runs over many lines and advises to allow what the file asks for.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        got = f"a file that asks for {asked[1]}, which is refused" if asked else _UNREADABLE
        raise UserError(f"{path}: expected tensors that PyTorch saved, got {got}", hint=_REPAIR) from error
    tensors = isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )
    if not tensors:
        raise UserError(f"{path}: expected a dictionary of tensors by name, got {type(content).__name__}")
    return dict(content)


def _read_shards(where: str, index_path: Path, download: dict[str, Any]) -> dict[str, Tensor]:
    """Read the files that an index lists."""
    files = read_config(index_path).get("weight_map")
    if not (isinstance(files, dict) and all(map(_is_shard_name, files.values()))):
        raise UserError(f"{index_path}: expected weight_map with one file name a tensor")
    weights: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        path = locate(where, file, download)
        shard = read_tensors(path)
        absent = [key for key, its_file in files.items() if its_file == file and key not in shard]
        if absent:
            raise UserError(f"{path}: lacks {_some(absent)}, which {index_path.name} says is there")
        weights |= shard
    return weights


def _is_shard_name(name: Any) -> bool:
    """A name with a folder in it could lead anywhere on this machine."""
    return isinstance(name, str) and Path(name).name == name and Path(name).suffix in (".safetensors", ".bin")


@contextmanager
def writing_weights(path: Path, config_path: Path) -> Iterator[None]:
    """Report a failed write of a safetensors file in one sentence, and make the file as readable as another.

    Args:
        path: The file that the block writes.
        config_path: The file beside it.

    Raises:
        UserError: If the block fails in writing.
    """
    try:
        yield
    except SafetensorError as error:  # a full disk among others
        raise UserError(f"{path}: could not be written: {error}") from error
    # safetensors makes the file private to its owner; models are shared, so let the umask decide.
    path.chmod(config_path.stat().st_mode)


class WithoutInitialValues(TorchFunctionMode):
    """Lets models be built without drawing initial values, which takes longer than to read a checkpoint.

    Inside the block the functions of `torch.nn.init` do nothing. Only for a model whose every parameter is
    then loaded, which `load_weights` makes sure of.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is, or do what was asked."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_weights(model: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Copy tensors into a model; every name and shape must match, except that one name of a tied one will do.

    Args:
        model: Its parameters keep their dtype: bfloat16 weights become float32 ones.
        weights: Tensors by the model's own names.
        where: The file, for messages.

    Raises:
        UserError: If a tensor is missing, unknown, of another shape or not of floating point.
    """
    own = model.state_dict()
    groups: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), set()).add(name)
    tied = {name: group for group in groups.values() for name in group}
    missing = [name for name in own if not tied.get(name, {name}) & weights.keys()]
    for problem, names in (("lack", missing), ("have unknown", weights.keys() - own.keys())):
        if names:
            raise UserError(f"{where}: the weights {problem} {_some(names)}")
    for name, tensor in weights.items():
        expected = own[name]
        if tensor.shape != expected.shape:
            raise UserError(
                f"{where}: the weights do not fit config.json: size mismatch for {name}: "
                f"expected {tuple(expected.shape)}, got {tuple(tensor.shape)}"
            )
        if is_quantised(tensor) and not is_quantised(expected):
            raise UserError(f"{where}: {name}: expected ordinary weights, got int8 ones")
        if tensor.dtype != expected.dtype and not (
            tensor.is_floating_point() and expected.is_floating_point()
        ):
            raise UserError(f"{where}: {name}: expected {expected.dtype}, got {tensor.dtype}")
    model.load_state_dict(weights, strict=False)


def _some(names: Any) -> str:
    """The first few names and how many there are."""
    return f"{', '.join(sorted(names)[:_SHOWN])}{', ...' * (len(names) > _SHOWN)} ({len(names)} in all)"
