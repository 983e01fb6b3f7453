"""What a run ran on, for its JSON file."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from seqmamba.benchmarks.floors import Limits, nvidia_smi

PACKAGES = (
    "seqmamba",
    "torch",
    "triton",
    "numba",
    "cuda-bindings",
    "mamba-ssm",
    "causal-conv1d",
    "transformers",
    "mambapy",
)
"""Whose versions the file names."""


def describe_run(device: torch.device, limits: Limits) -> dict[str, Any]:
    """Date, versions and hardware as JSON values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "hardware": {**_hardware(device), **_measured(limits)},
    }


def load_average() -> float | None:
    """Processes that wanted to run in the last minute, where the system says."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _hardware(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {
            "device": "cpu",
            "name": _processor(),
            "threads": torch.get_num_threads(),
            "vectors": torch.backends.cpu.get_cpu_capability(),
            "system": f"{platform.system()} {platform.machine()}",
        }
    properties = torch.cuda.get_device_properties(device)
    index = device.index if device.index is not None else torch.cuda.current_device()
    return {
        "device": "cuda",
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "driver": nvidia_smi(index, "driver_version"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _measured(limits: Limits) -> dict[str, float | None]:
    return {"copy_bytes_per_second": limits.bandwidth, "exponentials_per_second": limits.exponentials}


def _processor(description: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = description.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
