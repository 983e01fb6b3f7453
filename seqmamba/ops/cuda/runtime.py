"""Launching the kernels of .cu files: compiled by NVRTC at first use, then from memory."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.cuda.cache import compiled
from seqmamba.ops.cuda.compiler import (
    Compiled,
    Resources,
    architecture_of,
    compile_source,
    runtime_obstacle,
)
from seqmamba.ops.cuda.driver import Argument, Launcher, Module

__all__ = [
    "Compiled",
    "DeviceProperties",
    "Resources",
    "compile_source",
    "device_properties",
    "launch",
    "runtime_obstacle",
]

_Constants = tuple[tuple[str, int | str], ...]
_launchers: dict[tuple[Path, str, _Constants, int, int], Launcher] = {}
_modules: dict[tuple[Path, _Constants, int], Module] = {}
_lock = threading.RLock()


@dataclass(frozen=True)
class DeviceProperties:
    """What a launch's shape depends on.

    Attributes:
        multiprocessors: Their number.
        shared_bytes_per_multiprocessor: Shared memory of one.
        capability: Compute capability, (9, 0).
    """

    multiprocessors: int
    shared_bytes_per_multiprocessor: int
    capability: tuple[int, int]


def device_properties(device: torch.device | str | int | None = None) -> DeviceProperties:
    """Return the properties of a GPU; the first call for each asks the driver.

    Args:
        device: Default: the current one.

    Returns:
        Its properties.
    """
    if isinstance(device, str):
        device = torch.device(device)
    index = device.index if isinstance(device, torch.device) else device
    return _properties(torch.cuda.current_device() if index is None else index)


@functools.cache
def _properties(index: int) -> DeviceProperties:
    found = torch.cuda.get_device_properties(index)
    return DeviceProperties(
        multiprocessors=found.multi_processor_count,
        shared_bytes_per_multiprocessor=found.shared_memory_per_multiprocessor,
        capability=(found.major, found.minor),
    )


def launch(
    source: Path,
    kernel: str,
    constants: Mapping[str, int | str],
    grid: tuple[int, int, int],
    threads: int,
    shared_bytes: int,
    arguments: Sequence[Tensor | int | float | None],
) -> None:
    """Run a kernel on the device of the first tensor, on that device's current stream.

    The first call for a source, its constants and a device compiles (seconds) or reads the disk cache.

    Args:
        source: The .cu file.
        kernel: Name of an ``extern "C"`` kernel in it.
        constants: Preprocessor definitions.
        grid: Number of blocks along x, y and z.
        threads: Threads a block.
        shared_bytes: Dynamic shared memory a block.
        arguments: Tensor -> pointer to its first element, None -> null, int -> 64 bits, float -> float32. An
            argument keeps its kind from call to call; None and a tensor are the same kind.

    Raises:
        UserError: No tensor, tensors of different devices, no such kernel, or it does not compile.
        RuntimeError: The driver refuses.
    """
    device = -1
    values: list[int | float] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            index = argument.get_device()
            if index != device:
                if device >= 0 or index < 0:
                    raise _devices_error(kernel, arguments)
                device = index
            values.append(argument.data_ptr())
        else:
            values.append(0 if argument is None else argument)
    if device < 0:
        raise _devices_error(kernel, arguments)
    key = (source, kernel, tuple(constants.items()), device, shared_bytes)
    launcher = _launchers.get(key)
    if launcher is None:
        launcher = _prepare(key, arguments)
    launcher(grid, threads, shared_bytes, values, torch._C._cuda_getCurrentRawStream(device))


def _prepare(key: tuple[Path, str, _Constants, int, int], arguments: Sequence[Argument]) -> Launcher:
    source, kernel, constants, device, shared_bytes = key
    with _lock:
        if key not in _launchers:
            module = _modules.get((source, constants, device))
            if module is None:
                architecture = architecture_of(device_properties(device).capability)
                code = compiled(source, constants, architecture).cubin
                module = _modules[source, constants, device] = Module(code, device, source.name)
            function = module.function(kernel, shared_bytes)
            _launchers[key] = Launcher(function, device, arguments, f"{source.name}: {kernel}")
        return _launchers[key]


def _devices_error(kernel: str, arguments: Sequence[Argument]) -> UserError:
    devices = sorted({str(argument.device) for argument in arguments if isinstance(argument, Tensor)})
    return UserError(f"{kernel}: its tensors must be on one NVIDIA GPU, got {', '.join(devices) or 'none'}")
