"""The CUDA kernels over ranks, on the CPU through the emulator: the outputs and gradients of one process."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from emulator import host_compiler
from operator_cases import scan_arguments, some_resets
from ranks import run_on_ranks
from scan_cases import machine_of
from torch import Tensor

from seqmamba import distributed, ops
from seqmamba.distributed import ContextGroup, own_piece, scan, scan_cuda
from seqmamba.ops.dispatch import no_obstacle

LENGTH, BATCH, DIM, STATE = 1231, 2, 34, 5
pytestmark = pytest.mark.skipif(host_compiler() is None, reason="no C++ compiler is installed")


def arguments_of(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    arguments = scan_arguments(BATCH, LENGTH, DIM, STATE)
    arguments.pop("initial_state")
    arguments["A"] = arguments["A"] * 0.01  # heard from rank to rank
    return {name: x.float() for name, x in arguments.items()}


def run(context: ContextGroup | None, way: str, packed: bool) -> dict[str, Tensor]:
    """Outputs and the gradients of this rank's share of the loss."""
    sets = [arguments_of(seed) for seed in ((0, 1) if way == "both" else (0,))]
    sets[-1].pop("z") if len(sets) > 1 else None
    leaves = [{name: x.clone().requires_grad_() for name, x in each.items()} for each in sets]
    given = [
        {name: own_piece(context, x) if x.ndim >= 3 else x for name, x in each.items()} for each in leaves
    ]
    reset = own_piece(context, some_resets(BATCH, LENGTH)) if packed else None
    options: dict[str, Any] = {"delta_softplus": True, "reset": reset}
    z = given[0].pop("z")
    if way == "both":
        pairs = {name: (given[0][name], given[1][name]) for name in given[1]}
        if context is None:
            y = ops.bidirectional_scan(**pairs, z=z, impl="cuda", **options)
        else:
            y = distributed.bidirectional_scan(**pairs, z=z, context=context, **options)
    else:
        options |= {"reverse": way == "reverse", "impl": "cuda"}
        scan = ops.selective_scan if context is None else partial(distributed.selective_scan, context=context)
        y = scan(**given[0], z=z, **options)
    weight = own_piece(context, torch.linspace(1, 2, LENGTH)[None, :, None])
    (y.square() * weight).mean().mul(y.shape[1]).backward()
    found = {"y": y.detach()}
    for number, each in enumerate(leaves):
        found |= {f"d_{name} {number}": leaf.grad for name, leaf in each.items() if leaf.grad is not None}
    return found


WAYS = [(way, packed) for way in ("forward", "reverse", "both") for packed in (False, True)]


def every_way(context: ContextGroup | None, multiprocessors: int) -> list[dict[str, Tensor]]:
    with pytest.MonkeyPatch.context() as patch, machine_of("cpu", patch) as machine:
        machine.multiprocessors = multiprocessors
        patch.setattr(scan_cuda, "cuda_obstacle", no_obstacle)
        patch.setattr(scan_cuda, "_is_on_gpu", lambda x: True)
        patch.setattr(scan, "_states", _refuse)  # of the scans that need no kernels
        return [run(context, way, packed) for way, packed in WAYS]


def _refuse(*_: Any) -> None:
    raise AssertionError("the kernels were to run")


@pytest.mark.parametrize("multiprocessors", [1, 3])  # whole pieces, and pieces cut into segments
def test_pieces_equal_the_whole(multiprocessors: int) -> None:
    expected = every_way(None, multiprocessors)
    ranks = run_on_ranks(3, every_way, multiprocessors)
    for number, way in enumerate(WAYS):
        found = [rank[number] for rank in ranks]
        joined = {"y": torch.cat([each["y"] for each in found], dim=1)}
        joined |= {name: sum(each[name] for each in found) for name in expected[number] if name != "y"}
        for name, value in expected[number].items():
            scale = float(value.abs().max())
            say = partial("{}: {}: {}".format, way, name)
            torch.testing.assert_close(joined[name], value, rtol=1e-5, atol=1e-5 * scale, msg=say)
