"""What a memory budget makes of a stack: which plan is chosen, and what a recomputed block runs again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.backbones.activations import LONG, ActivationPlan, BlockCosts, StackMemory, choose_plan
from seqmamba.backbones.memory_budget import set_memory_budget
from seqmamba.backbones.recomputation import run_again
from seqmamba.errors import UserError

COSTS = BlockCosts(stream=1024, kept=9900, work=16_500, scans=2400)
SPARING = BlockCosts(stream=1024, kept=5900, work=13_200, scans=2400)
POSITIONS, LAYERS = 2**18, 16


def plan(bytes_a_position: float, turns: int = 1) -> ActivationPlan:
    return choose_plan(COSTS, SPARING, LAYERS, POSITIONS, int(bytes_a_position * POSITIONS), turns)


def time(plan: ActivationPlan) -> float:
    """In forward passes of a block, of a short batch."""
    return plan.recomputed - 0.6 * plan.scans + plan.offloaded + 0.12 * LAYERS * plan.spares


def test_what_fits_is_kept() -> None:
    assert plan(200_000) == ActivationPlan(peak=plan(200_000).peak)


def test_less_memory_takes_more_time_and_never_more_memory_than_there_is() -> None:
    budgets = range(20_000, 200_000, 3000)
    plans = [plan(each) for each in budgets]
    assert [each.fits for each in plans] == sorted(each.fits for each in plans)
    fitting = [(each, size) for each, size in zip(plans, budgets, strict=True) if each.fits]
    assert all(each.peak <= size * POSITIONS for each, size in fitting)
    times = [time(each) for each, _ in fitting]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) > 20  # all kinds of steps between all and nothing
    assert all(0 <= each.scans <= each.recomputed and each.offloaded <= each.recomputed for each in plans)


def test_copies_to_the_host_are_dear_where_batches_are_short() -> None:
    short, long = (choose_plan(COSTS, SPARING, LAYERS, n, 45_000 * n) for n in (LONG - 1, LONG))
    assert short.offloaded == 0
    assert long.offloaded > 0
    assert long.scans > short.scans


def test_deep_stacks_are_planned_in_coarser_steps() -> None:
    deep = choose_plan(COSTS, SPARING, 100, 1, 500_000)
    assert deep.fits
    assert 0 < deep.recomputed < 100
    assert deep.recomputed % 7 == 0
    assert choose_plan(COSTS, SPARING, 100, 1, 30_000).recomputed == 100


def test_what_cannot_fit_says_what_the_thriftiest_takes() -> None:
    least = plan(10_000)
    assert not least.fits
    assert least == plan(1000)
    assert plan(least.peak / POSITIONS + 1).fits


def test_a_batch_leaves_memory_to_the_one_that_follows() -> None:
    first, only = plan(60_000, turns=2), plan(60_000)
    assert time(first) > time(only)
    held = LAYERS - first.recomputed
    assert 2 * held * COSTS.kept + 2 * first.scans * COSTS.scans < 60_000


def test_what_is_asked_for_is_more_than_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 10**9)
    memory = StackMemory(24 * 2**30)
    memory.costs = COSTS, SPARING
    hidden = torch.empty(1).expand(1, 1, 256)
    weight = torch.empty(10**6, requires_grad=True)
    assert memory.plan(hidden, [], LAYERS, [weight]).fits
    least = ActivationPlan(fits=False, peak=int(23.06 * 2**30))
    message = str(memory.too_small(hidden, least))
    assert "memory_budget: expected 24.1 GiB or more for a batch of 1 x 1 positions, 0.9 of them" in message


class CountedScans(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.seqmamba.selective_scan_forward.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("keep", "scans"), [(False, 2), (True, 1)])
def test_kept_scans_do_not_run_again(keep: bool, scans: int) -> None:
    torch.manual_seed(0)
    block = Backbone(BackboneConfig(8, 1, d_state=4)).layers[0]
    x = torch.randn(1, 40, 8, requires_grad=True)
    wanted = [x, *block.parameters()]
    expected = torch.autograd.grad(block(x)[0].square().sum(), wanted)
    with CountedScans() as counter:
        loss = run_again(block, x, keep_scans=keep)[0].square().sum()
        actual = torch.autograd.grad(loss, wanted, retain_graph=True)
    assert counter.count == scans
    again = torch.autograd.grad(loss, wanted)
    for one, two, three in zip(expected, actual, again, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_casts_that_autocast_keeps_may_come_in_another_number() -> None:
    block = Backbone(BackboneConfig(8, 1, d_state=4)).layers[0]
    x = torch.randn(1, 40, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss: Tensor = sum(run_again(block, x, keep_scans=True)[0].square().sum() for _ in range(2))
    loss.backward()
    assert x.grad is not None


def test_messages() -> None:
    backbone = Backbone(BackboneConfig(8, 1))
    with pytest.raises(UserError, match="memory_budget: expected a whole number >= 1, got 0"):
        set_memory_budget(backbone, 0)
    set_memory_budget(backbone, 2**30)
    with pytest.raises(UserError, match="memory_budget: expected a model on a GPU, got one on cpu"):
        backbone(torch.randn(1, 5, 8))
    with torch.no_grad():
        backbone(torch.randn(1, 5, 8))  # nothing is kept


@pytest.mark.gpu
def test_the_peak_stays_in_the_budget_and_the_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(128, 8, direction="bidirectional")).cuda()
    x = torch.randn(1, 100_000, 128, device="cuda", requires_grad=True)
    found = []
    for budget in (None, 3 * 2**29):
        set_memory_budget(backbone, budget)
        for _ in range(2):  # the first measures what a block takes
            torch.cuda.reset_peak_memory_stats()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = backbone(x).square().mean()
            found.append(torch.autograd.grad(loss, [x, *backbone.parameters()]))
    assert torch.cuda.max_memory_allocated() <= 3 * 2**29
    for expected, actual in zip(found[1], found[3], strict=True):
        torch.testing.assert_close(actual, expected, atol=2e-2 * expected.abs().max().item(), rtol=0)
    set_memory_budget(backbone, 2**28)
    with pytest.raises(UserError, match=r"memory_budget: expected .* GiB or more for a batch of 1 x 100,000"):
        backbone(x)
