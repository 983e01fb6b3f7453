"""Functions run by several processes that know each other, over gloo on the CPU."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from seqmamba.distributed import ContextGroup

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
    forks = torch.multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["seqmamba.nn", "seqmamba.backbones", "ranks"])
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            forks.Process(target=_run, args=(rank, size, folder, function, arguments)) for rank in range(size)
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
