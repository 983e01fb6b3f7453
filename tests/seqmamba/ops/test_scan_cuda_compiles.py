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
from seqmamba.ops.selective_scan.cuda import backward_piece, forward_piece
from seqmamba.paths import KERNELS_VARIABLE

OBSTACLE = runtime.runtime_obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))

SHARED_BYTES = {"sm_80": 164 * 1024, "sm_90": 228 * 1024, "sm_100": 228 * 1024}  # of a multiprocessor
RESERVED_SHARED_BYTES = 1024  # of each block
REGISTERS = 64 * 1024
MULTIPROCESSORS = (1, 8, 132)  # whole sequences in narrow and wide tiles, and segments
OPERANDS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
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
def launches_of(layer: str, architecture: str) -> list[Launch]:
    """Every different launch of a layer's forward, inference and backward, and of a rank's piece of it."""
    dtype, state = LAYERS[layer]
    arguments: dict[str, Any] = {
        name: x.to(dtype).requires_grad_() for name, x in scan_arguments(2, 1600, 512, state).items()
    }
    with pytest.MonkeyPatch.context() as patch, machine_of("cpu", patch) as machine:
        machine.shared_bytes = SHARED_BYTES[architecture]
        found = record_launches(patch)
        for machine.multiprocessors in MULTIPROCESSORS:
            if layer == "both directions":
                pairs = {name: (x, x) for name, x in arguments.items() if name not in ("z", "initial_state")}
                y = bidirectional_scan(**pairs, z=arguments["z"], delta_softplus=True, impl="cuda")
            else:
                y = scan_of_views(**arguments, rank=16, delta_softplus=True, impl="cuda")
                with torch.no_grad():
                    scan_of_views(**arguments, rank=16, delta_softplus=True, impl="cuda")
                    grouped = {name: arguments[name][:, :, None] for name in ("B", "C")}
                    piece = [{**arguments, **grouped}[name] for name in OPERANDS]
                    forward_piece(*piece, None, True, False)
                    backward_piece(arguments["u"], *piece, None, True, False)
            y.sum().backward()
    return list(dict.fromkeys(replace(launch, grid=(1, 1, 1)) for launch in found))


KERNELS = ("scan_forward", "scan_reduce", "scan_carry", "scan_backward", "scan_sum_tiles")
BUILDS = [*((layer, "sm_90") for layer in LAYERS), ("bfloat16", "sm_80"), ("bfloat16", "sm_100")]
# Of the backward in the form that three blocks of a multiprocessor share: tile values that wait outside the
# inner loops. Two blocks without a spill take 12 % longer (on an H200).
BEARABLE_SPILL_BYTES = 64
EVERY_BUILD = [(*build, kernel) for build in BUILDS for kernel in KERNELS]


@functools.cache
def resources_of(layer: str, architecture: str, kernel: str) -> list[tuple[Launch, runtime.Resources]]:
    launches = [launch for launch in launches_of(layer, architecture) if launch.kernel == kernel]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [(launch.source, launch.constants, architecture) for launch in launches]
        built = pool.map(lambda file: compiled(*file), files)
        return [(launch, each.kernels[kernel]) for launch, each in zip(launches, built, strict=True)]


@pytest.mark.parametrize(("layer", "architecture", "kernel"), EVERY_BUILD)
def test_nothing_spills(layer: str, architecture: str, kernel: str) -> None:
    found = resources_of(layer, architecture, kernel)
    assert found
    for launch, uses in found:
        lean = kernel == "scan_backward" and dict(launch.constants)["BLOCKS"] == 3
        assert uses.spill_bytes <= (BEARABLE_SPILL_BYTES if lean else 0), launch.constants


@pytest.mark.parametrize(("layer", "architecture", "kernel"), EVERY_BUILD)
def test_as_many_blocks_fit_as_the_layout_counts_on(layer: str, architecture: str, kernel: str) -> None:
    for launch, uses in resources_of(layer, architecture, kernel):
        blocks = dict(launch.constants)["BLOCKS"]
        assert isinstance(blocks, int)
        shared = launch.shared_bytes + uses.shared_bytes + RESERVED_SHARED_BYTES
        assert shared * blocks <= SHARED_BYTES[architecture], launch
        if launch.shared_bytes:  # the others are short kernels with launch bounds of none
            assert -(-uses.registers // 8) * 8 * launch.threads * blocks <= REGISTERS, (launch, uses)
