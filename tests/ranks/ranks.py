"""Functions run by several processes that know each other, over gloo on the CPU."""

from __future__ import annotations

import faulthandler
import os
import shutil
import socket
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

from seqmamba.distributed import ContextGroup
from seqmamba.training.checkpoints import read_checkpoint
from seqmamba.training.run_folder import RunFolder

FORKS = torch.multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["seqmamba.training.recipe", "genomics.pretraining_task"])
_SECONDS = 100


def run_on_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(context, *arguments)`` on every rank of a new group.

    Args:
        size: Number of processes.
        function: At the top of a module, as other processes import it.
        *arguments: What can be pickled.

    Returns:
        What each rank returned, tensors and plain data.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            FORKS.Process(target=_run, args=(rank, size, folder, function, arguments)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(_SECONDS)
            if process.is_alive():
                process.kill()
        failures = sorted(Path(folder).glob("failure*"))
        assert not failures, failures[0].read_text()
        assert [process.exitcode for process in processes] == [0] * size
        return [torch.load(Path(folder) / f"result{rank}") for rank in range(size)]


def seqmamba_on_ranks(size: int, words: Sequence[str], log: Path) -> list[int | None]:
    """Run a command line in processes that are set up as torchrun does it.

    Args:
        size: Number of processes.
        words: After ``seqmamba``.
        log: File that the outputs are added to.

    Returns:
        Their exit statuses.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        FORKS.Process(target=_command, args=(rank, size, port, list(words), log)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _command(rank: int, size: int, port: int, words: list[str], log: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.dump_traceback_later(_SECONDS - 20)  # what does not end says where it waits
    from seqmamba.cli.main import main

    os._exit(main(words))


class KeepFirstEpoch(L.Callback):
    """Keeps the checkpoint of the first epoch as ``first.ckpt`` in the run folder."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Copy it when the second epoch begins."""
        folder = RunFolder.of(trainer)
        if trainer.current_epoch == 1 and trainer.is_global_zero and folder.last.exists():
            shutil.copy(folder.last, folder.path / "first.ckpt")


class KeepSteps(L.Callback):
    """Keeps every checkpoint of the middle of an epoch, and writes down what each device saw."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Add the samples of a batch to ``samples.txt``, after the number of the step."""
        names = batch["keys"] if isinstance(batch, dict) else batch.index
        with (RunFolder.of(trainer).path / "samples.txt").open("a") as file:
            file.write(" ".join(map(str, [trainer.global_step, *names.tolist()])) + "\n")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Copy ``last.ckpt`` to ``stepN.ckpt``."""
        folder = RunFolder.of(trainer)
        if trainer.is_global_zero and folder.last.exists():
            copy = folder.path / f"step{read_checkpoint(folder.last)['global_step']}.ckpt"
            if not copy.exists():
                shutil.copy(folder.last, copy)


def _run(rank: int, size: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=_SECONDS),
        )
        torch.save(function(ContextGroup.of(), *arguments), f"{folder}/result{rank}")
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        Path(folder, f"failure{rank}").write_text(traceback.format_exc())
        raise
