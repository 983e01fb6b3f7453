"""Running a numba kernel on PyTorch's number of threads.

Not numba's own parallel loops: its thread layers abort a process that forks or calls from two threads, and
their compilation takes several times longer. The kernels release the GIL, so plain threads do.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def float32(x: Tensor) -> Tensor:
    """What a kernel can read: detached, float32, contiguous; a copy only where it must be."""
    return x.detach().to(torch.float32).contiguous()


def channels(x: Tensor | None, dim: int) -> Tensor:
    """One value a channel, zeros for None, in memory of its own.

    `numpy()` fixes the size of the storage that it views, and sharded data parallelism (FSDP2) frees the
    storage of parameters by resizing it.
    """
    return torch.zeros(dim) if x is None else float32(x).clone()


def sequence_starts(batch: int, length: int, reset: Tensor | None, reverse: bool) -> Tensor:
    """Where a packed sequence starts in processing order: from right to left, one step after `reset`."""
    if reset is None:
        return torch.zeros(batch, length, dtype=torch.bool)
    return F.pad(reset[:, 1:].flip(1), (1, 0)) if reverse else reset.contiguous()


def run_tasks(kernel: Callable[..., Any], tasks: int, *arguments: Any) -> None:
    """Call `kernel(first, last, *arguments)` over [0, tasks) in one contiguous part a thread.

    The tasks must be independent, so that the result does not depend on the number of threads.
    """
    threads = min(torch.get_num_threads(), tasks)
    bounds = [tasks * i // threads for i in range(threads + 1)]
    if threads == 1:
        kernel(0, tasks, *arguments)
        return
    pool = _pool(os.getpid(), threads - 1)
    parts = [pool.submit(kernel, bounds[i], bounds[i + 1], *arguments) for i in range(1, threads)]
    try:
        kernel(bounds[0], bounds[1], *arguments)
    finally:
        for part in parts:
            part.result()


@functools.cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """The threads of one process; a forked child would inherit the object without its threads."""
    return ThreadPoolExecutor(workers, thread_name_prefix="seqmamba-ops")
