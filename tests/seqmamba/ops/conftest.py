from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch
from emulator import host_compiler
from scan_cases import Machine, machine_of

# by its path: as an attribute of seqmamba.ops the folder's name is the operator
chunked = importlib.import_module("seqmamba.ops.selective_scan.chunked")


@pytest.fixture(autouse=True)
def _uninitialised_memory_is_nan() -> Iterator[None]:
    """Here torch.empty is full of NaN: an output that a kernel forgets to write fails its comparison."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(4).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the short sequences of the tests are several chunks of the chunked scan."""
    monkeypatch.setattr(chunked, "MOST_STEPS", chunked.FEWEST_STEPS)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Runs impl="cuda" of the scans: a GPU, or the CPU, which runs the kernels through the emulator."""
    if request.param == "cpu" and host_compiler() is None:
        pytest.skip("no C++ compiler is installed")
    with machine_of(request.param, monkeypatch) as found:
        yield found
