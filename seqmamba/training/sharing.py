"""Models out to and in from folders and Hugging Face repositories: tensors, JSON and a card, nothing else.

A folder appears whole or not at all; a repository gets everything in one commit. What is shared is a model
that every verb reads, its results, and README.md, the card.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open

from seqmamba.atomic import atomic_folder
from seqmamba.backbones.config_file import read_config
from seqmamba.backbones.repository import find, locate
from seqmamba.errors import UserError
from seqmamba.finished import require_new_folder
from seqmamba.report.card import model_card, without_folders
from seqmamba.training.card_facts import read_facts
from seqmamba.training.quantised_export import MODEL_FILES, REPORT
from seqmamba.training.run_folder import RunFolder, exported_model

HUB = "hf:"
"""What stands before ``owner/name`` where a repository of the hub is meant to be written."""
_CONFIG, _WEIGHTS, _CARD, _RESULTS, _ = MODEL_FILES
_NEEDED = (_CONFIG, _WEIGHTS)
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class PushConfig:
    """How a model is shared.

    Args:
        licence: Licence of the weights, as the hub spells it (``apache-2.0``); None: the card says that
            nobody stated one.
        public: Whether a repository that is made for it can be read by everybody.
        overwrite: Whether a model that is there may be replaced.
        data_licences: Licence of the data by the name of a recipe's data set.
    """

    licence: str | None = None
    public: bool = False
    overwrite: bool = False
    data_licences: Mapping[str, str] | None = None


def push(source: str | Path, target: str, config: PushConfig) -> str:
    """Share the model of a run.

    Args:
        source: A run folder, tested or not, or a folder with a model.
        target: A folder, or ``hf:owner/name``.
        config: How.

    Returns:
        Where it is: the folder, or the address of the commit.

    Raises:
        UserError: If there is no model, one is there already, or the hub refuses.
    """
    run = RunFolder(Path(source).expanduser())
    model = exported_model(run.path)
    for name in _NEEDED:
        locate(str(model), name, {})
    repository = _repository(target) if target.startswith(HUB) else None
    if repository is None:
        folder = Path(target).expanduser()
        require_new_folder(folder, MODEL_FILES, overwrite=config.overwrite)
        with atomic_folder(folder) as part:
            _fill(part, run, model, config, None)
        return str(folder)
    with TemporaryDirectory(prefix="seqmamba-") as scratch:
        _fill(Path(scratch), run, model, config, target)
        return _upload(Path(scratch), repository, config)


def pull(source: str, folder: Path, *, revision: str | None = None, overwrite: bool = False) -> list[str]:
    """Fetch a model that was shared.

    Args:
        source: A folder, ``owner/name`` or ``hf:owner/name``.
        folder: The folder to write.
        revision: Branch, tag or commit of a repository.
        overwrite: Whether a model that is there may be replaced.

    Returns:
        The names of the files.

    Raises:
        UserError: If there is no model in safetensors, one is there already, or the hub cannot be reached.
    """
    require_new_folder(folder, MODEL_FILES, overwrite=overwrite)
    where = _repository(source) if source.startswith(HUB) else source
    download = {} if revision is None else {"revision": revision}
    with atomic_folder(folder) as part:
        for name in _NEEDED:
            shutil.copyfile(locate(where, name, download), part / name)
        for name in (_CARD, _RESULTS, REPORT):
            found = find(where, name, download)
            if found is not None:
                shutil.copyfile(found, part / name)
        _check(part)
        return sorted(path.name for path in part.iterdir())


def _repository(target: str) -> str:
    name = target.removeprefix(HUB)
    if not _REPOSITORY.fullmatch(name):
        raise UserError(f"{target}: expected {HUB}owner/name")
    return name


def _fill(part: Path, run: RunFolder, model: Path, config: PushConfig, where: str | None) -> None:
    """Write what is shared of a run."""
    for name in _NEEDED:
        shutil.copyfile(model / name, part / name)
    if (model / REPORT).is_file():
        _copy_json(model / REPORT, part / REPORT, "source")
    if run.results.is_file():
        _copy_json(run.results, part / _RESULTS, "command")
    _check(part)
    facts, domain = read_facts(run, part, config.licence, where, config.data_licences or {})
    (part / _CARD).write_text(model_card(facts, domain), encoding="utf-8")


def _copy_json(source: Path, target: Path, line: str) -> None:
    """Copy a JSON file; of one line in it, a command or a path, only what tells nothing of this machine."""
    content = read_config(source)
    if isinstance(content.get(line), str):
        content[line] = without_folders(content[line])
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _check(part: Path) -> None:
    """Refuse a config.json that is none, and weights that cannot be read."""
    read_config(part / _CONFIG)
    weights = part / _WEIGHTS
    try:
        with safe_open(weights, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights.name}: expected a safetensors file, got {error}") from error


def _upload(folder: Path, repository: str, config: PushConfig) -> str:
    """Upload a folder as one commit on top of what was looked at."""
    api = HfApi()
    with _hub(repository):
        api.create_repo(repository, private=not config.public, exist_ok=True)
        if not config.overwrite and api.file_exists(repository, _WEIGHTS):
            raise UserError(f"{HUB}{repository}: holds a model already", hint="--overwrite replaces it")
        parent = api.model_info(repository).sha
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Share a model with seqmamba",
            parent_commit=parent,
            delete_patterns=list(MODEL_FILES),
        )
    return str(commit.commit_url)


@contextmanager
def _hub(repository: str) -> Iterator[None]:
    """Say in one sentence what the hub has against it."""
    try:
        yield
    except (OSError, ValueError) as error:  # every error of the hub and of the connection is one of these
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "`hf auth login` stores a token that may write"
        raise UserError(f"{HUB}{repository}: the hub did not take the model: {reason}", hint=hint) from error
