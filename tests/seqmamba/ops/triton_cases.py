"""Running Triton kernels on a GPU, or with TRITON_INTERPRET=1 in Triton's interpreter on the CPU.

Tests of kernels carry the mark `gpu`. `make test-gpu` runs them on a GPU; `test_triton_kernels.py` runs the
same ones in the interpreter, in a process of its own since Triton reads the variable once, on import.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.ops.dispatch import no_obstacle

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
TRITON = pytest.param("triton", marks=pytest.mark.gpu)
on_a_gpu_only = pytest.mark.skipif(INTERPRETED, reason="asks for more than the interpreter offers")


def lift_obstacles(monkeypatch: pytest.MonkeyPatch, api: Any) -> None:
    """Let every implementation of an operator's `api` module run on every tensor."""
    free = tuple(replace(each, obstacle=no_obstacle) for each in api.IMPLEMENTATIONS)
    monkeypatch.setattr(api, "IMPLEMENTATIONS", free)


def on_device(arguments: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move the arguments to where the kernels run."""
    return {name: x.to(DEVICE) for name, x in arguments.items()}


def implement_on_the_cpu(**kernels: Any) -> torch.library.Library:
    """Run registered operators by the given functions on CPU tensors, as long as the library is held."""
    library = torch.library.Library("seqmamba", "FRAGMENT")
    for name, function in kernels.items():
        library.impl(name, function, "CPU")
    return library
