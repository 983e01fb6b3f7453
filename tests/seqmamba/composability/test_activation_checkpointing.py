"""torch.utils.checkpoint around a block, whole and selective."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from composed import KINDS, assert_same, backbone_on, features, gradients, kind_name
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from seqmamba.errors import UserError

SCANS = {
    torch.ops.seqmamba.selective_scan_forward.default: 1,
    torch.ops.seqmamba.bidirectional_scan_forward.default: 2,  # what a GPU runs for both directions
}


class CountScans(TorchDispatchMode):
    """Counts the forward scans that really run."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.scans += SCANS.get(func, 0)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_a_checkpointed_block_gives_the_same_bits(kind: dict[str, Any], reentrant: bool, device: str) -> None:
    block = backbone_on(device, n_layers=1, **kind).layers[0]
    x = features(65, device)

    def run(x: Tensor) -> Tensor:
        return block(x)[0]

    again = gradients(block, lambda x: checkpoint(run, x, use_reentrant=reentrant), x)
    assert_same(again, gradients(block, run, x))


def save_scans(context: Any, function: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    if function in SCANS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_a_policy_can_name_the_scan(kind: dict[str, Any], device: str) -> None:
    block = backbone_on(device, n_layers=1, **kind).layers[0]
    x = features(65, device)
    expected = gradients(block, lambda x: block(x)[0], x)
    directions = 1 if kind["direction"] == "causal" else 2
    for contexts, scans in (
        (partial(create_selective_checkpoint_contexts, save_scans), directions),
        (None, 2 * directions),
    ):
        options = {} if contexts is None else {"context_fn": contexts}
        with CountScans() as counter:
            actual = gradients(
                block,
                lambda x, options=options: checkpoint(block, x, use_reentrant=False, **options)[0],
                x,
            )
        assert_same(actual, expected)
        assert counter.scans == scans


def test_a_second_derivative_is_refused_under_checkpointing(device: str) -> None:
    backbone = backbone_on(device, n_layers=1, checkpoint_activations=True)
    x = features(9, device).requires_grad_()
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(backbone(x).square().sum(), x, create_graph=True)
