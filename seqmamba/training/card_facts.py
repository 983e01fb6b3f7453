"""What a run folder tells about itself, for its model card."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants
from safetensors import safe_open

from seqmamba.backbones.config_file import ARCHITECTURE, VERSION, read_config
from seqmamba.backbones.hub import MODEL_GROUP
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.paths import expand
from seqmamba.report.card import CardFacts, DomainCard, Source
from seqmamba.report.words import Wording
from seqmamba.results import stored_estimates
from seqmamba.training.quantised_export import REPORT
from seqmamba.training.run_folder import RunFolder

CARD_GROUP = "seqmamba.cards"
_MANIFEST = "manifest.json"
_DATA_KEYS = ("fasta", "bed", "genome", "genomes", "unseen", "source", "tracks", "variants", "labels")
"""Arguments of the data modules that name files or folders."""
_PLAIN = Wording("seqmamba", "sequence", {})
_SCALE = "weight_scale"


def read_facts(
    run: RunFolder, model: Path, licence: str | None, where: str | None, data_licences: Mapping[str, str]
) -> tuple[CardFacts, DomainCard]:
    """Read what the card of a run says.

    Args:
        run: The run folder, tested or not, or a folder with a model.
        model: Folder with config.json and model.safetensors.
        licence: Of the weights.
        where: What `seqmamba pull` takes; None for a folder.
        data_licences: Licence of the data by the name of a recipe's data set.

    Raises:
        UserError: If a file is damaged.
    """
    content = read_config(model / constants.CONFIG_NAME)
    architecture = str(content.get(ARCHITECTURE, "model"))
    domain = _domain(run, architecture)
    exported = read_config(model / REPORT) if (model / REPORT).is_file() else None
    return CardFacts(
        name=where.partition("/")[2] if where else run.path.resolve().name,
        architecture=architecture,
        stored=_count_numbers(model / constants.SAFETENSORS_SINGLE_FILE),
        version=str(content.get(VERSION, "unknown")),
        licence=licence,
        where=where,
        sources=list(_sources(run.config, data_licences)),
        metrics=_metrics(run) if domain.results is None else {},
        exported=exported,
    ), domain


def _domain(run: RunFolder, architecture: str) -> DomainCard:
    """Ask the domain that the model is of, by the package of its class."""
    models = {point.name: point.value.partition(".")[0] for point in entry_points(group=MODEL_GROUP)}
    cards = {point.name: point for point in entry_points(group=CARD_GROUP)}
    point = cards.get(models.get(architecture, ""))
    if point is None:
        return DomainCard(_PLAIN, ("seqmamba check MODEL",))
    card: DomainCard = point.load()(run, architecture)
    return card


def _metrics(run: RunFolder) -> dict[str, Estimate]:
    """Read the numbers of results that no domain reads, with their intervals where they have some."""
    if not run.results.is_file():
        return {}
    stored = read_config(run.results)
    found = stored.get("metrics") or stored.get("test") or {}
    if not isinstance(found, dict):
        raise UserError(f"{run.results}: expected metrics by name, got {type(found).__name__}")
    bounds = found.get("interval_95")  # of the first
    metrics: dict[str, Estimate] = {}
    for name, value in found.items():
        if isinstance(value, dict) and "value" in value:
            metrics |= stored_estimates({name: value})
        elif isinstance(value, float):  # a whole number counts something
            low, high = bounds if bounds and not metrics else (math.nan, math.nan)
            metrics[name] = Estimate(float(value), float(low), float(high))
    return metrics


def _count_numbers(weights: Path) -> int:
    """Count the numbers in a file of weights; the scales of int8 ones do not count."""
    with safe_open(weights, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_SCALE))


def _sources(config: Path, licences: Mapping[str, str]) -> Iterator[Source]:
    """Yield the files and folders that a recipe names, and what they were made from where that is known."""
    if not config.is_file():
        return
    try:
        recipe = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: expected YAML, got {str(error).splitlines()[0]}") from error
    data = recipe.get("data") if isinstance(recipe, dict) else None
    given = data.get("init_args") if isinstance(data, dict) else None
    given = given if isinstance(given, dict) else {}
    for text in dict.fromkeys(text for key in _DATA_KEYS for text in _paths(given.get(key))):
        path = expand(text)
        manifest = _manifest(path)
        origin = manifest.get("source")
        made_from = (
            f"{origin.get('origin')} (sha256 {origin.get('sha256')})" if isinstance(origin, dict) else ""
        )
        name = "/".join(part for part in path.parts[-2:] if part != path.anchor)
        yield Source(name, _size(path), made_from, licences.get(str(manifest.get("name")), ""))


def _paths(value: Any, *, inside: bool = False) -> Iterator[str]:
    """Yield the paths in an argument: the text that it is, and inside of lists and sections what looks so."""
    if isinstance(value, str) and (not inside or "/" in value or Path(value).suffix):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _paths(item, inside=True)


def _size(path: Path) -> int | None:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else None


def _manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of the prepared set that a path is of, or is in."""
    for folder in (path, *list(path.parents)[:2]):
        try:
            content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return content if isinstance(content, dict) else {}
    return {}
