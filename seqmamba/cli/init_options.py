"""``--init-from`` and the options beside it, and ``--distil-from``, for the ``fit`` verb of a domain."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from seqmamba.cli.recipe_options import Option, assign
from seqmamba.errors import UserError

INIT = "model.init_args.init_from"
"""Recipe key of `seqmamba.training.finetuning.InitConfig`."""

INIT_OPTIONS: dict[str, Option] = {
    "--init-from": (
        f"{INIT}.folder",
        str,
        "run folder, model folder or repository to take the backbone from",
    ),
    "--lr-decay": (
        f"{INIT}.lr_decay",
        float,
        "with --init-from: factor of the learning rate from block to block",
    ),
    "--lora-rank": (
        f"{INIT}.lora_rank",
        int,
        "with --init-from: train updates of this rank and not the backbone",
    ),
}
"""Short names, as in the tables of the verbs: option -> recipe key, type, help."""

DISTIL_OPTIONS: dict[str, Option] = {
    "--distil-from": (
        "model.init_args.distil_from.folder",
        str,
        "run folder or model folder of a larger model, whose answers are learned too",
    ),
}
"""As `INIT_OPTIONS`, for `seqmamba.training.distillation.DistillationConfig`."""


def add_freeze(group: argparse._ArgumentGroup) -> None:
    """Add ``--freeze``, which takes no value."""
    group.add_argument(
        "--freeze", action="store_true", help="with --init-from: train the head and leave the rest as it is"
    )


def check_init(args: argparse.Namespace, options: Mapping[str, Option], decided: Sequence[str]) -> str | None:
    """Refuse options that need a pretrained model without one, and those that it decides with one.

    Args:
        args: Parsed options.
        options: The verb's table.
        decided: Options about what the pretrained model decides.

    Returns:
        What to begin with, or None.

    Raises:
        UserError: In either case.
    """
    given = [option for option, (key, _, _) in options.items() if getattr(args, key) is not None]
    folder: str | None = getattr(args, f"{INIT}.folder")
    if folder is not None:
        clash = next((option for option in given if option in decided), None)
        if clash is not None:
            raise UserError(f"{clash}: not used with --init-from, since the pretrained model decides it")
        return folder
    given += ["--freeze"] if args.freeze else []
    lonely = next((option for option in given if option in (*INIT_OPTIONS, "--freeze")), None)
    if lonely is not None:
        raise UserError(f"{lonely}: needs --init-from, the pretrained model that it is about")
    return None


def assign_freeze(recipe: dict[str, Any], args: argparse.Namespace) -> None:
    """Set what ``--freeze`` stands for."""
    if args.freeze:
        assign(recipe, f"{INIT}.freeze", True)
