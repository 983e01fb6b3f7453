"""A stand-in for CUDA graphs on the CPU: operations are noted with their memory, and replayed in it.

As with a real graph, what is captured leaves no trace in the tensors that were there before, and a replay
reads and writes the memory of the capture. The operators that change a state in place run here by PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqmamba.inference import graphs
from seqmamba.ops import (
    LtiSystem,
    causal_conv1d_step,
    in_place,
    lti_state_step,
    selective_state_step,
    ssd_state_step,
)
from seqmamba.ops.causal_conv1d import step as conv_module
from seqmamba.ops.lti import step as lti_module
from seqmamba.ops.selective_scan import step as selective_module
from seqmamba.ops.ssd import step as ssd_module


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def _memory(tensors: list[Tensor]) -> set[int]:
    return {x.untyped_storage().data_ptr() for x in tensors}


class RecordedGraph:
    """Takes the place of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def replay(self) -> None:
        for function, args, kwargs, noted in self.calls:
            before = _memory(_tensors((args, kwargs)))
            for x, new in zip(_tensors(noted), _tensors(function(*args, **kwargs)), strict=True):
                if x.untyped_storage().data_ptr() not in before:  # else a view, or changed in place
                    x.copy_(new)

    def written(self) -> list[Tensor]:
        """What the noted operations change in place, a tensor each time."""
        return [x for call in self.calls for x in _targets(*call[:3])]


def _targets(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    schema = function._schema.arguments
    given = dict(zip((each.name for each in schema), args, strict=False)) | kwargs
    changed = [each.name for each in schema if each.alias_info is not None and each.alias_info.is_write]
    return _tensors([given.get(name) for name in changed])


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self.graph = graph
        self.originals: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.originals += [(x, x.clone()) for x in _targets(func, args, kwargs)]
        out = func(*args, **kwargs)
        self.graph.calls.append((func, args, kwargs, out))
        return out

    def undo(self) -> None:
        for x, original in reversed(self.originals):
            x.copy_(original)


@contextmanager
def _capturing(graph: RecordedGraph, **options: Any) -> Iterator[None]:
    recorder = _Recorder(graph)
    with recorder:
        yield
    recorder.undo()


class _Stream:
    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, other: _Stream) -> None:
        pass


def record_graphs(patch: pytest.MonkeyPatch) -> None:
    """Let `GraphedSteps` capture what runs on the CPU."""
    patch.setattr(graphs, "_is_on_gpu", lambda state: True)
    patch.setattr(graphs, "_device", lambda state: torch.device("cpu"))
    for name, stand_in in {
        "CUDAGraph": RecordedGraph,
        "graph": _capturing,
        "Stream": _Stream,
        "current_stream": _Stream,
        "stream": nullcontext,
        "device": nullcontext,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: None,
    }.items():
        patch.setattr(torch.cuda, name, stand_in)


def _in_place(step: Any) -> Any:
    """A step that writes its new state over the old one."""

    def run(state: Tensor, *operands: Any) -> Tensor:
        token = in_place._updating.set(False)
        try:
            y, new = step(state, *operands)
        finally:
            in_place._updating.reset(token)
        state.copy_(new)
        return y.clone()

    return run


@contextmanager
def steps_in_place(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Implement the operators that change a state in place on the CPU, and let the steps choose them."""

    def obstacle(*tensors: Tensor | None) -> str | None:
        return None if in_place._updating.get() else "these stand for kernels that change a state in place"

    for module in (conv_module, lti_module, selective_module, ssd_module):
        patch.setattr(module, "triton_obstacle", obstacle)
    library = torch.library.Library("seqmamba", "FRAGMENT")
    for name, step in {
        "causal_conv1d_step_in_place": lambda state, x, weight, bias, silu: causal_conv1d_step(
            state, x, weight, bias, activation="silu" if silu else None
        ),
        "selective_state_step_in_place": lambda state, *operands: selective_state_step(
            state, *operands[:8], delta_softplus=operands[8], A_is_log=operands[9]
        ),
        "ssd_step_in_place": lambda state, *operands: ssd_state_step(
            state, *operands[:8], delta_softplus=operands[8], A_is_log=operands[9]
        ),
        "lti_state_step_in_place": lambda state, u, transition, drive, C, D, gelu: lti_state_step(
            state, u, LtiSystem(transition, drive), C, D, activation="gelu" if gelu else None
        ),
    }.items():
        library.impl(name, _in_place(step), "CPU")
    yield
    del library
