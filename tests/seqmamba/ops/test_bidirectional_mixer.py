"""The bidirectional mixer with its own backward pass, against the same mixer by autograd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from scan_cases import Machine, machine_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.backbones.activations import ActivationPlan
from seqmamba.nn.bidirectional import BidirectionalMamba
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.fused_both_ways import mix_both_ways, sparing_memory


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The CPU runs the scan's kernels through the emulator."""
    with machine_of(request.param, monkeypatch) as found:
        yield found


def with_gradients(mixer: BidirectionalMamba, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    wanted = {"x": x, **dict(mixer.named_parameters())}
    seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    found = torch.autograd.grad(y, list(wanted.values()), seed)
    return {"y": y.detach(), **dict(zip(wanted, found, strict=True))}


@pytest.mark.parametrize("sparing", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("conv_bias", [False, True])
def test_it_computes_what_autograd_does(
    machine: Machine, sparing: bool, packed: bool, conv_bias: bool
) -> None:
    torch.manual_seed(0)
    config = MixerConfig(d_model=18, d_state=5, direction="bidirectional", conv_bias=conv_bias)
    mixer = BidirectionalMamba(config).to(machine.device)
    x = torch.randn(2, 61, 18, device=machine.device, requires_grad=True)
    reset = torch.rand(2, 61, device=machine.device) < 0.1 if packed else None
    weights = [mixer._weights(way, x.dtype) for way in (mixer.mamba_fwd, mixer.mamba_rev)]
    with sparing_memory() if sparing else nullcontext():
        y = mix_both_ways(x, mixer.in_proj.weight, *weights, reset)
    actual = with_gradients(mixer, x, mixer.out_proj(y))
    for way in (mixer.mamba_fwd, mixer.mamba_rev):
        way.impl = "chunked"  # the other path on a GPU too
    expected = with_gradients(mixer, x, mixer(x, reset=reset)[0])
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=2e-4 * value.abs().max().item(), rtol=0)


def test_bfloat16_rounds_as_autograd_does(machine: Machine) -> None:
    torch.manual_seed(0)
    config = MixerConfig(d_model=16, d_state=16, direction="bidirectional")
    mixer = BidirectionalMamba(config).to(machine.device)
    x = torch.randn(1, 50, 16, device=machine.device, requires_grad=True)
    expected = with_gradients(mixer, x, mixer(x)[0])
    low = x.to(torch.bfloat16)
    weights = [mixer._weights(way, low.dtype) for way in (mixer.mamba_fwd, mixer.mamba_rev)]
    y = mix_both_ways(low, mixer.in_proj.weight.to(low.dtype), *weights)
    assert y.dtype == torch.bfloat16
    actual = with_gradients(mixer, x, mixer.out_proj(y.float()))
    for name, value in expected.items():
        assert actual[name].dtype == torch.float32
        torch.testing.assert_close(actual[name], value, atol=2e-2 * value.abs().max().item(), rtol=0)


PLANS = [
    ActivationPlan(spares=True),
    ActivationPlan(3),
    ActivationPlan(3, scans=2),
    ActivationPlan(2, offloaded=2, scans=1, spares=True),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_plan_gives_the_same_gradients(
    machine: Machine, plan: ActivationPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BidirectionalMamba, "_fuses", lambda *_: torch.is_grad_enabled())
    torch.manual_seed(0)
    config = BackboneConfig(16, 3, direction="bidirectional", d_state=4, dropout=0.2)
    backbone = Backbone(config).to(machine.device)
    x = torch.randn(2, 37, 16, device=machine.device, requires_grad=True)
    found = []
    for each in (ActivationPlan(), plan):
        monkeypatch.setattr(backbone, "activation_plan", lambda *_, each=each: each)
        torch.manual_seed(1)
        y = backbone(x)
        wanted = [x, *backbone.parameters()]
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), wanted)])
    for expected, actual in zip(*found, strict=True):
        # a GPU adds to the residual stream in one kernel or in another
        tolerance = 1e-5 * expected.abs().max().item() if x.is_cuda else 0.0
        torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


class CopiedActivations(TorchDispatchMode):
    """Counts operators that do nothing but move or add up tensors as large as a sequence's activations."""

    MOVES = ("flip", "cat", "clone", "copy_", "_to_copy", "add", "add_", "index", "roll", "constant_pad_nd")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.found = size, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and func._opname in self.MOVES and out.numel() >= self.size:
            self.found[func._opname] += 1
        return out


def test_no_activation_is_flipped_joined_copied_or_added_up(machine: Machine) -> None:
    torch.manual_seed(0)
    config = MixerConfig(d_model=16, d_state=4, direction="bidirectional")
    mixer = BidirectionalMamba(config).to(machine.device)
    x = torch.randn(2, 400, 16, device=machine.device, requires_grad=True)
    weights = [mixer._weights(way, x.dtype) for way in (mixer.mamba_fwd, mixer.mamba_rev)]
    with CopiedActivations(x.numel()) as counter, torch.autograd.set_multithreading_enabled(False):
        y = mixer.out_proj(mix_both_ways(x, mixer.in_proj.weight, *weights))
        torch.autograd.grad(y.square().sum(), [x, *mixer.parameters()])
    # the CPU's convolution has no kernel that adds to another gradient, and the emulator copies
    stand_ins = {} if x.is_cuda else {"add_": 1, "copy_": counter.found["copy_"]}
    assert counter.found == stand_ins
