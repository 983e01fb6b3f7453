"""NVRTC compiles the scan's kernels for three generations of GPUs, and they fit; needs no GPU."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from operator_cases import scan_arguments
from scan_cases import Launch, machine_of, record_launches, scan_of_views

from seqmamba.ops import bidirectional_scan
from seqmamba.ops.cuda import runtime
from seqmamba.ops.cuda.cache import compiled
from seqmamba.paths import KERNELS_VARIABLE

OBSTACLE = runtime.runtime_obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))

SHARED_BYTES = {"sm_80": 164 * 1024, "sm_90": 228 * 1024, "sm_100": 228 * 1024}  # of a multiprocessor
RESERVED_SHARED_BYTES = 1024  # of each block
REGISTERS = 64 * 1024
MULTIPROCESSORS = (1, 8, 132)  # whole sequences in narrow and wide tiles, and segments
LAYERS = {
    "bfloat16": (torch.bfloat16, 16),
    "float32": (torch.float32, 16),
    "few states": (torch.bfloat16, 4),
    "both directions": (torch.bfloat16, 16),
}


@pytest.fixture(scope="module", autouse=True)
def _kernels_in_a_folder_of_the_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(tempfile.gettempdir()) / f"seqmamba-test-kernels-{os.getuid()}"
        patch.setenv(KERNELS_VARIABLE, str(folder))
        yield


@functools.cache
def launches_of(layer: str) -> list[Launch]:
    """Every different launch of a layer's forward, inference and backward."""
    dtype, state = LAYERS[layer]
    arguments: dict[str, Any] = {
        name: x.to(dtype).requires_grad_() for name, x in scan_arguments(2, 1600, 512, state).items()
    }
    with pytest.MonkeyPatch.context() as patch, machine_of("cpu", patch) as machine:
        found = record_launches(patch)
        for machine.multiprocessors in MULTIPROCESSORS:
            if layer == "both directions":
                pairs = {name: (x, x) for name, x in arguments.items() if name not in ("z", "initial_state")}
                y = bidirectional_scan(**pairs, z=arguments["z"], delta_softplus=True, impl="cuda")
            else:
                y = scan_of_views(**arguments, rank=16, delta_softplus=True, impl="cuda")
                with torch.no_grad():
                    scan_of_views(**arguments, rank=16, delta_softplus=True, impl="cuda")
            y.sum().backward()
    return list(dict.fromkeys(replace(launch, grid=(1, 1, 1)) for launch in found))


KERNELS = ("scan_forward", "scan_reduce", "scan_carry", "scan_backward", "scan_sum_tiles")
BUILDS = [*((layer, "sm_90") for layer in LAYERS), ("bfloat16", "sm_80"), ("bfloat16", "sm_100")]
KNOWN_SPILLS = {
    ("bfloat16", "sm_90", "scan_backward"),
    ("both directions", "sm_90", "scan_backward"),
    ("bfloat16", "sm_80", "scan_backward"),
}
KNOWN_MISFITS = {("few states", "sm_90", "scan_reduce"), ("bfloat16", "sm_80", "scan_backward")}


def builds_but(known: set[tuple[str, str, str]], reason: str) -> list[Any]:
    """Every layer, architecture and kernel; a known exception that ends fails until it leaves its set."""
    expected = pytest.mark.xfail(strict=True, reason=reason)
    return [
        pytest.param(*build, kernel, marks=expected if (*build, kernel) in known else ())
        for build in BUILDS
        for kernel in KERNELS
    ]


@functools.cache
def resources_of(layer: str, architecture: str, kernel: str) -> list[tuple[Launch, runtime.Resources]]:
    launches = [launch for launch in launches_of(layer) if launch.kernel == kernel]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [(launch.source, launch.constants, architecture) for launch in launches]
        built = pool.map(lambda file: compiled(*file), files)
        return [(launch, each.kernels[kernel]) for launch, each in zip(launches, built, strict=True)]


@pytest.mark.parametrize(("layer", "architecture", "kernel"), builds_but(KNOWN_SPILLS, "a few bytes spill"))
def test_nothing_spills(layer: str, architecture: str, kernel: str) -> None:
    found = resources_of(layer, architecture, kernel)
    assert found
    for launch, uses in found:
        assert (uses.spill_bytes, uses.stack_bytes) == (0, 0), launch.constants


@pytest.mark.parametrize(
    ("layer", "architecture", "kernel"),
    builds_but(KNOWN_MISFITS, "asks for more blocks than shared memory holds"),
)
def test_as_many_blocks_fit_as_the_layout_counts_on(layer: str, architecture: str, kernel: str) -> None:
    for launch, uses in resources_of(layer, architecture, kernel):
        blocks = dict(launch.constants)["BLOCKS"]
        assert isinstance(blocks, int)
        shared = launch.shared_bytes + uses.shared_bytes + RESERVED_SHARED_BYTES
        assert shared * blocks <= SHARED_BYTES[architecture], launch
        if launch.shared_bytes:  # the others are short kernels with launch bounds of none
            assert -(-uses.registers // 8) * 8 * launch.threads * blocks <= REGISTERS, (launch, uses)
