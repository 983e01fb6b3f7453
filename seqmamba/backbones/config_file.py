"""Frozen config dataclasses to and from config.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from seqmamba.errors import UserError

ARCHITECTURE = "architecture"
VERSION = "seqmamba_version"
INT8_LAYERS = "int8_layers"
_ABOUT_THE_FILE = (ARCHITECTURE, VERSION, INT8_LAYERS)
Config = TypeVar("Config")


def write_config(path: Path, architecture: str, config: Any, int8_layers: Sequence[str] = ()) -> None:
    """Write a model's config.json.

    Args:
        path: The file.
        architecture: The model's name in the entry-point group ``seqmamba.models``.
        config: A dataclass of JSON-able values; dataclasses may nest.
        int8_layers: Names of the layers whose weights are stored as int8.
    """
    content = {ARCHITECTURE: architecture, VERSION: version("seqmamba"), **asdict(config)}
    if int8_layers:
        content[INT8_LAYERS] = list(int8_layers)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        UserError: If it cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a JSON file that describes a model, got {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def build_config(config_class: type[Config], content: dict[str, Any], where: str) -> Config:
    """Build a config dataclass from what `read_config` returned.

    Args:
        config_class: A dataclass; fields whose type is a dataclass are built likewise, and of a union of
            dataclasses the first that has all the keys.
        content: Field values; a list becomes a tuple, since JSON has no tuples.
        where: The file and key, for messages.

    Returns:
        The config.

    Raises:
        UserError: If a key is unknown or missing, or a value is refused.
    """
    writer = content.get(VERSION)
    values = {key: value for key, value in content.items() if key not in _ABOUT_THE_FILE}
    known = {field.name: field for field in fields(config_class)}  # type: ignore[arg-type]
    required = {
        name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING and f.init
    }
    for problem, names in (("unknown", values.keys() - known.keys()), ("missing", required - values.keys())):
        if names:
            raise UserError(
                f"{where}: {problem} key {', '.join(sorted(names))} for {config_class.__name__}",
                hint=writer and f"written by seqmamba {writer}, read by {version('seqmamba')}",
            )
    types = get_type_hints(config_class)
    try:
        return config_class(
            **{name: _decode(types[name], value, f"{where}: {name}") for name, value in values.items()}
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error
    except UserError as error:
        if error.message.startswith(where):
            raise
        raise UserError(f"{where}: {error.message}", hint=error.hint) from error


def _decode(expected: Any, value: Any, where: str) -> Any:
    if isinstance(value, dict) and (choices := [t for t in get_args(expected) if is_dataclass(t)]):
        expected = next((t for t in choices if value.keys() <= {f.name for f in fields(t)}), choices[0])
    if is_dataclass(expected) and isinstance(expected, type):
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected an object, got {value!r}")
        return build_config(expected, value, where)
    return tuple(value) if isinstance(value, list) else value
