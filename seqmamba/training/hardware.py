"""How many threads to use, and what a run ran on."""

from __future__ import annotations

import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from seqmamba.errors import UserError


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of CPU cores this process may use.

    PyTorch counts the machine's cores. In a container that may use two of 64 it would start 64 threads and
    run many times slower, so affinity and the control group's quota are honoured.

    Args:
        quota_file: cgroup v2's ``cpu.max`` ("quota period" or "max period", microseconds).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def limit_threads() -> int:
    """Give PyTorch, and so the operators, no more threads than usable cores; OMP_NUM_THREADS wins.

    Returns:
        The number of threads that PyTorch uses.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(available_cores(), torch.get_num_threads()))
    return torch.get_num_threads()


def find_device(name: str | None = None) -> torch.device:
    """Return the device that ``--device`` names, or a GPU if there is one.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` or None leaves the choice to this function.

    Raises:
        UserError: If it is no such device, or there is none.
    """
    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"--device {name}: PyTorch finds {found} GPUs here", hint="seqmamba doctor says more")
    return device


def describe_device(device: torch.device) -> str:
    """Name a device and what stands behind it, for logs and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    return device.type


def device_kind(device: torch.device) -> str:
    """Name what decides the rounding of results: the kind of a device, without its number of threads."""
    return describe_device(device).partition(" (")[0]


def software_versions() -> dict[str, str]:
    """Return the versions of what a run's numbers depend on, for its results."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("seqmamba", "torch", "lightning", "numpy")},
    }
