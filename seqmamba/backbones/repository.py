"""A model's files by name, in a folder or in a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from seqmamba.errors import UserError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def locate(where: str, name: str, download: dict[str, Any]) -> Path:
    """Return the path of one of the model's files, downloading it if ``where`` is a repository.

    Args:
        where: A folder, or ``owner/name`` on the hub.
        name: The file.
        download: Options of `huggingface_hub.hf_hub_download`.

    Raises:
        UserError: If there is no such folder, file or repository, or the hub cannot be reached.
    """
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


def find(where: str, name: str, download: dict[str, Any]) -> Path | None:
    """Return the path of a file that the model may lack, or ``None``; see `locate`."""
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        return locate(where, name, download)
    except UserError as error:
        # Not in the repository or, without a connection, not in the cache.
        if isinstance(error.__cause__, EntryNotFoundError):
            return None
        raise
