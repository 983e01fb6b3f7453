"""States in files, so that a stream can stop in one process and go on in another.

A file is one safetensors file. Its tensors are named by their paths in the state; its metadata hold the tree:
the names of the named tuples, their fields, dtypes and whole numbers. Nothing is unpickled, and no type is
looked up by a name in the file: the model says what types there are, and the file must fit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.inference.decoding import Generation
from seqmamba.inference.model import CausalModel
from seqmamba.nn.state import State

_FORMAT = "seqmamba state 1"
_HINT = "the file is damaged, or is of another model or another kind of state"


def save_state(path: str | Path, state: Any) -> None:
    """Write a state, whole or not at all.

    Args:
        path: The file; an older one is replaced.
        state: A model's state, or a `Generation`.
    """
    tensors: dict[str, Tensor] = {}
    tree = _describe(state, "", tensors)
    content = save(tensors, {"format": _FORMAT, "tree": json.dumps(tree)})
    with atomic_path(path) as part:
        part.write_bytes(content)


def load_state(path: str | Path, like: CausalModel | State) -> Any:
    """Read a state: bit for bit what was saved.

    Args:
        path: A file by `save_state`.
        like: The model whose state or `Generation` it is, or a state of the same form: the batch may be
            another, and an axis of size zero, as an empty cache has, stands for any size.

    Returns:
        A state of that type, on its device.

    Raises:
        UserError: If the file is damaged or does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: expected a state written by save_state, got {error}", hint=_HINT) from error
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{path}: expected {_FORMAT!r}, got {metadata.get('format')!r}", hint=_HINT)
    reader = _Reader(str(path), tensors)
    try:
        tree = json.loads(metadata["tree"])
        template = _template(like, tree) if isinstance(like, CausalModel) else like
        state = reader.rebuild(template, tree, "")
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: its description of the state is damaged: {error!r}", hint=_HINT) from error
    reader.check_rows()
    return state


def _template(model: CausalModel, tree: Any) -> Any:
    """Return the kind of state that the file holds, as it is before the first position."""
    state = model.init_state(1)
    if tree.get("type") != Generation.__name__:
        return state
    zero = torch.zeros(1, dtype=torch.int64, device=next(model.parameters()).device)
    return Generation(state, zero, zero, zero, zero > 0)


def _describe(state: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return the JSON tree of a state, and put its tensors, contiguous and apart, into ``tensors``."""
    if isinstance(state, Tensor):
        x = state.detach().resolve_conj().cpu()
        # NumPy and safetensors of all versions know pairs of real numbers
        tensors[path] = (torch.view_as_real(x) if x.is_complex() else x).clone(
            memory_format=torch.contiguous_format
        )
        return {"tensor": _name(state.dtype)}
    if isinstance(state, tuple):
        parts = {name: _describe(part, _join(path, name), tensors) for name, part in _parts(state).items()}
        return {"type": type(state).__name__, "parts": parts}
    if state is None or isinstance(state, int):
        return {"value": state}
    raise UserError(f"state: expected tensors, whole numbers and named tuples, got {type(state).__name__}")


class _Reader:
    """Rebuilds a state along a template, and refuses what differs from it."""

    def __init__(self, file: str, tensors: dict[str, Tensor]) -> None:
        self.file = file
        self.tensors = tensors
        self.rows: dict[str, int] = {}

    def rebuild(self, template: Any, tree: Any, path: str) -> Any:
        if isinstance(template, Tensor):
            return self._tensor(template, tree, path)
        if isinstance(template, tuple):
            names = list(_parts(template))
            self._require(tree.get("type"), type(template).__name__, path)
            self._require(list(tree["parts"]), names, path)
            parts = [
                self.rebuild(part, tree["parts"][name], _join(path, name))
                for name, part in _parts(template).items()
            ]
            return template._make(parts) if hasattr(template, "_make") else tuple(parts)
        value = tree.get("value", "a tensor or a tuple")
        self._require(type(value).__name__, type(template).__name__, path)
        return value

    def _tensor(self, template: Tensor, tree: Any, path: str) -> Tensor:
        self._require(tree.get("tensor"), _name(template.dtype), path)
        x = self.tensors[path]
        x = torch.view_as_complex(x) if template.is_complex() else x
        fits = x.ndim == template.ndim and all(
            got == size or size == 0 for got, size in zip(x.shape[1:], template.shape[1:], strict=True)
        )
        if not fits:
            self._refuse(path, ("any", *template.shape[1:]), tuple(x.shape))
        self.rows[path] = len(x)
        return x.to(
            template.device, copy=True
        )  # not the file's memory, and aligned as all memory of PyTorch is

    def check_rows(self) -> None:
        if len(set(self.rows.values())) > 1:
            self._refuse("", "one batch size", self.rows)

    def _require(self, got: Any, expected: Any, path: str) -> None:
        if got != expected:
            self._refuse(path, expected, got)

    def _refuse(self, path: str, expected: Any, got: Any) -> None:
        where = f"at {path} " if path else ""
        raise UserError(
            f"{self.file}: does not fit the model: {where}expected {expected}, got {got}", hint=_HINT
        )


def _parts(state: Any) -> dict[str, Any]:
    names = state._fields if hasattr(state, "_fields") else map(str, range(len(state)))
    return dict(zip(names, state, strict=True))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
