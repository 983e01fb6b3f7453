"""Where the CUDA kernels of the scans run in tests, and the comparison of what they compute with float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from emulator import emulate
from operator_cases import TOLERANCE, assert_all_close, rounded, run_with_gradients
from torch import Tensor

from seqmamba.ops import selective_scan
from seqmamba.ops.bidirectional_scan import api as bidirectional_api
from seqmamba.ops.bidirectional_scan import registration as bidirectional_registration
from seqmamba.ops.cuda import runtime
from seqmamba.ops.dispatch import no_obstacle
from seqmamba.ops.selective_scan import api, registration

_REGISTRATIONS = {"selective_scan": registration, "bidirectional_scan": bidirectional_registration}
# Of gradients, relative to the largest value. Where inputs have 16 bits the backward's states are bfloat16.
# A GPU's exponentials are off by 2^-22, which recurrences add up.
OUTPUTS = TOLERANCE | {torch.float32: 1e-5}
GRADIENTS = TOLERANCE | {torch.float32: 4e-5, torch.bfloat16: 1.2e-2, torch.float16: 1e-2}


@dataclass
class Machine:
    """A GPU, or the CPU in its place.

    Attributes:
        device: Where tensors must be.
        multiprocessors: How many the kernels believe there are; None leaves a GPU's own. Few leave a sequence
            whole, many have it cut into segments.
        shared_bytes: Shared memory of a multiprocessor, where the CPU stands in.
    """

    device: str
    multiprocessors: int | None = None
    shared_bytes: int = 228 * 1024

    def hold(self, arguments: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the arguments on this machine."""
        return {name: x.to(self.device) for name, x in arguments.items()}


@contextmanager
def machine_of(device: str, patch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """On "cpu", impl="cuda" runs the kernels by the emulator; multiprocessors are as many as wanted."""
    machine = Machine(device)
    real = runtime.device_properties

    def properties(of: Any = None) -> runtime.DeviceProperties:
        found = runtime.DeviceProperties(1, machine.shared_bytes, (9, 0)) if device == "cpu" else real(of)
        return replace(found, multiprocessors=machine.multiprocessors or found.multiprocessors)

    patch.setattr(runtime, "device_properties", properties)
    if device == "cuda":
        yield machine
        return
    patch.setattr(runtime, "launch", emulate)
    first, *others = api.IMPLEMENTATIONS
    assert first.name == "cuda"
    patch.setattr(api, "IMPLEMENTATIONS", (replace(first, obstacle=no_obstacle), *others))
    patch.setattr(bidirectional_api, "cuda_obstacle", no_obstacle)
    with torch.library._scoped_library("seqmamba", "IMPL") as library:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Oo]verriding a previously registered kernel")
            for name, its in _REGISTRATIONS.items():
                library.impl(f"{name}_forward", its._forward_cuda, "CPU")
                library.impl(f"{name}_backward", its._backward_cuda, "CPU")
        yield machine


@dataclass(frozen=True)
class Launch:
    """What `runtime.launch` is asked for, without the arguments."""

    source: Path
    kernel: str
    constants: tuple[tuple[str, int | str], ...]
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int


def record_launches(patch: pytest.MonkeyPatch) -> list[Launch]:
    """A list that launches go to instead of being run."""
    found: list[Launch] = []

    def record(source: Path, kernel: str, constants: Mapping[str, int | str], *shape: Any) -> None:
        grid, threads, shared_bytes, _ = shape
        found.append(Launch(source, kernel, tuple(sorted(constants.items())), grid, threads, shared_bytes))

    patch.setattr(runtime, "launch", record)
    return found


def as_a_layer_gives_them(rank: int = 3, **arguments: Any) -> dict[str, Any]:
    """U and z as halves of one projection, B and C as parts of another; gradients flow through the views."""
    u, z, B, C = (arguments[name] for name in ("u", "z", "B", "C"))
    states = torch.cat([B.new_zeros(*B.shape[:-1], rank), B, C], dim=-1)
    _, B, C = states.split([rank, B.shape[-1], C.shape[-1]], dim=-1)
    if z is not None:
        u, z = torch.cat([u, z], dim=-1).chunk(2, dim=-1)
    return arguments | {"u": u, "z": z, "B": B, "C": C}


def scan_of_views(**arguments: Any) -> Any:
    """`selective_scan` of the arguments as views."""
    return selective_scan(**as_a_layer_gives_them(**{"z": None, **arguments}))


def compare(
    machine: Machine,
    arguments: dict[str, Tensor],
    dtype: torch.dtype,
    *,
    operator: Callable[..., Any] = selective_scan,
    **options: Any,
) -> dict[str, Tensor]:
    """Compare outputs and every gradient of the kernels with those of the definition in float64."""
    length = next(iter(arguments.values())).shape[1]
    slow = {"impl": "reference" if length < 100 else "chunked"}  # the loop over steps takes seconds
    expected = run_with_gradients(selective_scan, rounded(arguments, dtype), torch.float64, **slow, **options)
    on_it = {name: x.to(machine.device) if isinstance(x, Tensor) else x for name, x in options.items()}
    actual = run_with_gradients(operator, machine.hold(arguments), dtype, impl="cuda", **on_it)
    actual = {name: x.cpu() for name, x in actual.items()}
    outputs = {name: expected.pop(name) for name in ("y", "final state")}
    assert_all_close(actual, outputs, OUTPUTS[dtype])
    assert_all_close(actual, expected, GRADIENTS[dtype])
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == torch.float32
    return actual
