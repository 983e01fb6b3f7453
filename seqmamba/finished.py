"""Finished files: which may be replaced, and what each was made from, so that `--resume` can compare.

The settings are in a small hidden file beside the finished one, since VCF, bigWig and tables have no common
place for them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

_HINT = "give the same as before, or start again with --overwrite"


def require_new(*outputs: Path | None, overwrite: bool) -> None:
    """Refuse to replace files that nobody allowed to be replaced.

    Args:
        *outputs: Files that are going to be written; None for what was not asked for.
        overwrite: Whether they may be there.

    Raises:
        UserError: If one is there, or is a folder.
    """
    for output in filter(None, outputs):
        if output.is_dir():
            raise UserError(f"{output}: is a folder, expected the file to write")
        if output.exists() and not overwrite:
            raise UserError(f"{output}: exists already", hint="--overwrite replaces it")


def require_new_folder(output: Path, files: Collection[str], *, overwrite: bool) -> None:
    """Refuse to replace a folder that nobody allowed to be replaced, or that holds something else.

    Args:
        output: The folder to write.
        files: Names of all files that such a folder may hold.
        overwrite: Whether one may be there.

    Raises:
        UserError: If something is in the way.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output}: is a file, expected the folder to write")
    if not overwrite:
        raise UserError(f"{output}: exists already", hint="--overwrite replaces it")
    other = next((path.name for path in sorted(output.iterdir()) if path.name not in files), None)
    if other is not None:
        raise UserError(
            f"{output}: holds {other}, so --overwrite may not replace it", hint="name another folder"
        )


def in_the_way(output: Path) -> UserError:
    """Return the refusal to start again where an interrupted run is that could go on."""
    return UserError(
        f"{output}: an interrupted run is there",
        hint="--resume goes on with it, --overwrite starts again",
    )


def settings_file(output: Path) -> Path:
    """Return where the settings of a finished file are."""
    return output.with_name(f".{output.name}.settings.json")


def note_settings(output: Path, settings: Mapping[str, Any], *, made: Path | None = None) -> None:
    """Remember what a finished file was made from.

    Args:
        output: The finished file.
        settings: Whatever decides its bytes, JSON.
        made: Where its bytes are now, if it has still to be moved there.
    """
    content = {"bytes": (made or output).stat().st_size, "settings": dict(settings)}
    with atomic_path(settings_file(output)) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_finished(output: Path, settings: Mapping[str, Any]) -> None:
    """Make sure that a finished file is what the same command would write again.

    Args:
        output: The finished file.
        settings: Whatever decides its bytes, JSON.

    Raises:
        UserError: If it was made from something else, was changed since, or nothing says what it was made
            from.
    """
    try:
        note = json.loads(settings_file(output).read_text("utf-8"))
        size, before = int(note["bytes"]), dict(note["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"--resume: {output} exists, and nothing says what it was made from",
            hint="--overwrite replaces it",
        ) from None
    if size != output.stat().st_size:
        raise UserError(f"--resume: {output} was changed since it was made", hint="--overwrite replaces it")
    compare_settings(before, settings)


def compare_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare the settings of earlier work with those of the same work now.

    Args:
        before: Read from JSON.
        now: What would become the same JSON.

    Raises:
        UserError: For the first that differs.
    """
    for key, new in json.loads(json.dumps(dict(now))).items():
        old = before.get(key)
        if old != new:
            raise UserError(f"--resume: {key} was {old}, now it is {new}", hint=_HINT)
