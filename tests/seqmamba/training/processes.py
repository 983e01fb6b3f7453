"""`seqmamba` in processes of its own; a fork server that has imported torch starts them in a moment."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import torch

from seqmamba.cli.main import main

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["seqmamba.training.recipe", "tiny_recipe"])


def run(
    *commands: Sequence[str], log: Path, kill_after: float | None = None, largest_file: int | None = None
) -> int:
    """Run command lines one after the other in one process.

    Args:
        *commands: Words after ``seqmamba``.
        log: File that both outputs are added to.
        kill_after: Seconds until SIGKILL.
        largest_file: Bytes after which a write fails, as on a full disk.

    Returns:
        Exit status of the last command; negative: the signal that ended the process.
    """
    child = FORKS.Process(target=_run, args=(commands, log, largest_file))
    child.start()
    child.join(kill_after)
    if child.is_alive():
        child.kill()
        child.join()
    return child.exitcode


def fit(recipe: Path, *options: str, kill_after: float | None = None, largest_file: int | None = None) -> int:
    """Run `seqmamba fit` on a recipe; the output goes to log.txt beside it."""
    command = ["fit", "--config", str(recipe), *options]
    return run(command, log=recipe.parent / "log.txt", kill_after=kill_after, largest_file=largest_file)


def _run(commands: Sequence[Sequence[str]], log: Path, largest_file: int | None) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    status = 0
    for command in commands:
        status = main(command)
    os._exit(status)
