"""The settings of a run that readers ask for first; the complete recipe stands at the end of a page."""

from __future__ import annotations

from typing import Any

import yaml

from audio.manifest_tables import ColumnsConfig
from audio.manifests import Clip, SourceConfig, find_clips
from seqmamba.report.markup import Html, card, table

_MODEL = "model.init_args"
_BACKBONE = f"{_MODEL}.model.backbone"
_NETWORK = f"{_MODEL}.model.network"
_LOADING = "data.init_args.loading"
SETTINGS = {
    "Recordings": "data.init_args.source",
    "Sampling rate, Hz": f"{_LOADING}.rate",
    "Epochs": "trainer.max_epochs",
    "Passes over the data in an epoch": f"{_LOADING}.passes",
    "Batch size": f"{_LOADING}.batch_size",
    "Learning rate": f"{_MODEL}.optimiser.lr",
    "Weight decay": f"{_MODEL}.optimiser.weight_decay",
    "Precision": "trainer.precision",
    "Mixer": f"{_BACKBONE}.mixer",
    "Direction": f"{_BACKBONE}.direction",
    "Channels": f"{_BACKBONE}.d_model",
    "Blocks": f"{_BACKBONE}.n_layers",
    "Strides of the stem": f"{_MODEL}.model.stem.strides",
    "Pooling": f"{_MODEL}.model.pooling",
    "Mixer, outer stages": f"{_NETWORK}.outer.mixer",
    "Channels, outer stages": f"{_NETWORK}.outer.d_model",
    "Blocks, outer stages": f"{_NETWORK}.outer.n_layers",
    "Blocks, inner stages": f"{_NETWORK}.inner_layers",
    "Downsampling": f"{_NETWORK}.pool",
    "Codec": f"{_MODEL}.model.codec",
    "Bits of a code": f"{_MODEL}.model.bits",
    "Samples of a segment": f"{_MODEL}.segments.samples",
    "Learns the classes": f"{_MODEL}.class_conditional",
    "Seconds of a training stretch": f"{_MODEL}.augmentation.seconds",
    "Speed changed by up to": f"{_MODEL}.augmentation.speed",
    "Gain changed by up to, dB": f"{_MODEL}.augmentation.gain_db",
    "Mixing": f"{_MODEL}.mixing.kind",
    "Label smoothing": f"{_MODEL}.label_smoothing",
    "Stretches of a tested recording": f"{_MODEL}.crops",
}
"""What a table of settings calls a key of the recipe."""


def settings_card(config: str | None) -> Html | None:
    """Write the settings that a recipe gives; None without a recipe."""
    recipe = parse_recipe(config)
    found = {words: look_up(recipe, key) for words, key in SETTINGS.items()}
    rows = [[words, _written(value)] for words, value in found.items() if value is not None]
    if not rows:
        return None
    return card("Settings", table(["Setting", "Value"], rows, numeric_from=2, caption="Settings"))


def parse_recipe(config: str | None) -> dict[str, Any]:
    """Return a recipe; an empty one if there is none, or it was cut or damaged."""
    try:
        recipe = yaml.safe_load(config or "")
    except yaml.YAMLError:
        return {}
    return recipe if isinstance(recipe, dict) else {}


def find_recorded(config: str | None) -> list[Clip] | None:
    """Return the clips that a recipe trains on; None if it names none.

    Raises:
        UserError: If they are not there any more.
    """
    data = look_up(parse_recipe(config), "data.init_args") or {}
    if not isinstance(data, dict) or not isinstance(data.get("source"), str):
        return None
    files = data.get("files") or {}
    columns = ColumnsConfig(**(files.get("columns") or {}))
    return find_clips(data["source"], SourceConfig(**files | {"columns": columns}))


def look_up(recipe: Any, key: str) -> Any:
    """Return the value of a dotted key of a recipe; None where it has none."""
    for name in key.split("."):
        recipe = recipe.get(name) if isinstance(recipe, dict) else None
    return recipe


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
