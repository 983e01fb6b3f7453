"""What of a stack's forward pass is kept for the backward pass, so that training fits a memory budget.

A block can keep all that its backward pass needs, or its input alone and run again (Chen et al. 2016,
arXiv:1604.06174), with or without the results of its scans, which take about half of the time; that input can
lie on the device, or in the host's memory. The first blocks are the ones to recompute: the backward pass
begins with the last, so what those kept is gone when the first run again. Mixers can spare memory too, and
compute the cheaper half of their intermediate results again, one direction after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
import torch.distributed as dist
from torch import Tensor

from seqmamba.backbones.recomputation import run_again, sparingly
from seqmamba.distributed import is_distributed
from seqmamba.errors import UserError

PROBE = 65_536
"""Positions on which the costs of a block are measured, if a batch has as many."""

LONG = 2**19
"""Positions of a batch from which a device takes longer for a block than its host for the launches."""

_GIB = 2**30
_STREAMS = 2  # tensors as large as the residual stream beside the blocks: its end, and its gradient
_ON_THE_WAY = 2  # inputs of blocks that are on the device though they lie on the host
_COUNTS = 16  # of blocks, that are tried
_MARGIN = 0.03  # of the budget, for what is not foreseen of batches that follow
_SCAN_SHARE = 0.6  # of a block's forward pass, in time; these are from runs on an H100
_SPARING_SHARE = 0.12  # the same, of what is computed again to spare memory
_COPY_SHARE = 0.2  # the same, of a copy to the host and back, which runs beside the computation
_SHORT_COPY_SHARE = 1.0  # the same of batches below `LONG`


@dataclass(frozen=True)
class ActivationPlan:
    """How the blocks of a stack keep what the backward pass needs.

    Args:
        recomputed: How many of the first blocks keep their input only and run again.
        offloaded: How many of these, the first, keep that input in host memory.
        fits: Whether the peak stays in the budget.
        peak: Expected bytes beside what was held before, at most.
        scans: How many of the recomputed, the last of them, keep the results of their scans.
        spares: Whether mixers spare memory, see `sparing_memory`.
    """

    recomputed: int = 0
    offloaded: int = 0
    fits: bool = True
    peak: int = 0
    scans: int = 0
    spares: bool = False


@dataclass(frozen=True)
class BlockCosts:
    """Bytes a position of one block.

    Args:
        stream: Of its input.
        kept: What its forward pass leaves for the backward pass, its input not included.
        work: The peak of both passes of the block alone, but for its input, output and the output's gradient.
        scans: What its scans give.
    """

    stream: float
    kept: float
    work: float
    scans: float = 0.0


def choose_plan(
    costs: BlockCosts, sparing: BlockCosts, layers: int, positions: int, free: int, turns: int = 1
) -> ActivationPlan:
    """Return the plan that computes least twice, and copies least, among those that fit.

    Args:
        costs: Of a block.
        sparing: Of a block that spares memory, see `sparing_memory`.
        layers: Number of blocks.
        positions: Of all sequences of a batch together.
        free: Bytes that may be taken.
        turns: How many such batches, this one included, are read before the first backward pass.

    Returns:
        The plan; if nothing fits, the one that takes least, with `ActivationPlan.fits` false.
    """
    least = ActivationPlan(fits=False)
    order = _in_order_of_time(layers, costs.scans > 0, positions >= LONG)
    for recomputed, scans, offloaded, spares in order:
        chosen = sparing if spares else costs
        peak = int(_peak(chosen, layers, recomputed, scans, offloaded, turns) * positions)
        plan = ActivationPlan(recomputed, offloaded, peak <= free, peak, scans, spares)
        if plan.fits:
            return plan
        least = plan if not least.peak or peak < least.peak else least
    return least


@lru_cache
def _in_order_of_time(layers: int, with_scans: bool, long: bool) -> list[tuple[int, int, int, bool]]:
    """Return plans: blocks that run again, those of them that keep scans, inputs on the host, sparing."""
    counts = [*range(0, layers, -(-layers // _COUNTS)), layers]  # of a deep stack not every one
    plans = [
        (again, scans, offloaded, spares)
        for again in counts
        for scans in (counts if with_scans else (0,))
        for offloaded in counts
        for spares in (False, True)
        if max(scans, offloaded) <= again
    ]
    sparing, copy = _SPARING_SHARE * layers, _COPY_SHARE if long else _SHORT_COPY_SHARE
    return sorted(
        plans, key=lambda plan: plan[0] - _SCAN_SHARE * plan[1] + copy * plan[2] + sparing * plan[3]
    )


def _peak(costs: BlockCosts, layers: int, recomputed: int, scans: int, offloaded: int, turns: int) -> float:
    """Return the expected bytes a position where the backward pass takes most."""
    inputs = (recomputed - offloaded + min(_ON_THE_WAY, offloaded)) * costs.stream
    of_scans, of_kept = scans * costs.scans, (layers - recomputed) * costs.kept
    at_blocks = [0.0]
    if recomputed < layers:
        at_blocks.append(of_kept - costs.kept + costs.work + of_scans)
    if scans:
        at_blocks.append(of_scans - costs.scans + costs.work)
    if recomputed > scans:
        at_blocks.append(costs.work)
    earlier = (turns - 1) * (inputs + of_scans + of_kept + _STREAMS * costs.stream)
    return earlier + inputs + _STREAMS * costs.stream + max(at_blocks)


def measure_costs(
    block: Callable[[Tensor], Tensor], parameters: Iterable[Tensor], like: Tensor
) -> BlockCosts:
    """Measure what a block takes, by forward and backward passes over up to `PROBE` positions, on a GPU.

    It resets the allocator's peak. The gradients are thrown away.

    Args:
        block: Takes and returns a residual stream.
        parameters: Of the block.
        like: Residual stream of the batch, of which the shape and dtype count.

    Raises:
        UserError: If it is not on a GPU.
    """
    device = like.device
    if device.type != "cuda":
        raise UserError(f"memory_budget: expected a model on a GPU, got one on {device}")
    positions = min(PROBE, like.shape[0] * like.shape[1])
    x = torch.randn(1, positions, like.shape[-1], dtype=like.dtype, device=device, requires_grad=True)
    wanted = [x, *(each for each in parameters if each.requires_grad)]
    found: dict[str, float] = {}
    with torch.random.fork_rng([device]), torch.enable_grad():
        for _ in range(2):  # kernels are compiled, and their scratch is made, the first time
            for name, run in (("all", block), ("scans", partial(run_again, block, keep_scans=True))):
                before = torch.cuda.memory_allocated(device)
                torch.cuda.reset_peak_memory_stats(device)
                y = run(x)
                found[name] = (torch.cuda.memory_allocated(device) - before) / positions
                torch.autograd.grad(y, wanted, torch.ones_like(y), allow_unused=True)
                found[f"work {name}"] = (torch.cuda.max_memory_allocated(device) - before) / positions
                del y
    stream = x[0, 0].nbytes
    work = max(found["work all"], found["work scans"]) - 2 * stream
    return BlockCosts(stream, found["all"], work, max(found["scans"] - stream, 0.0))


class StackMemory:
    """Chooses a plan for every batch that a stack reads.

    Args:
        budget: Bytes that the process may hold on the GPU at a time.
        share: Part of what is free that this stack may take; the rest is for those that run later.
    """

    def __init__(self, budget: int, share: float = 1.0) -> None:
        self.budget, self.share = budget, share
        self.costs: tuple[BlockCosts, BlockCosts] | None = None  # of a block, and of one that spares memory
        self.turns = 1
        self._held = 0
        self.last: ActivationPlan | None = None  # for the last batch

    def plan(
        self,
        hidden: Tensor,
        blocks: Sequence[Callable[[Tensor], Tensor]],
        layers: int,
        parameters: Iterable[Tensor],
    ) -> ActivationPlan:
        """Return the plan for a batch; the same on all processes, which meet for it.

        Args:
            hidden: The residual stream before the stack.
            blocks: One of each kind in the stack.
            layers: Blocks in all.
            parameters: Of the stack.
        """
        parameters = list(parameters)
        if self.costs is None:
            sparing = [partial(sparingly, block) for block in blocks]
            all_of, spared = (self._measure(hidden, each, parameters) for each in (blocks, sparing))
            self.costs = all_of, spared
        positions = hidden.shape[0] * hidden.shape[1]
        # what is still to come beside the activations: gradients, and at first the moments of AdamW
        pending = sum(3 * each.nbytes for each in parameters if each.requires_grad and each.grad is None)
        self._held = torch.cuda.memory_allocated(hidden.device) + pending
        free = (self.budget - self._held) * self.share
        free = int(free * (1 - _MARGIN * (self.turns - 1)))  # the last of the turns must not be refused
        costs, sparing_costs = self.costs
        plan = choose_plan(costs, sparing_costs, layers, positions, free, self.turns)
        self.last = _agreed(plan, hidden.device)
        return self.last

    @contextmanager
    def before(self, later: int) -> Iterator[None]:
        """Return a context in which batches leave memory to others that follow before the backward pass.

        Args:
            later: How many of the same size follow.
        """
        self.turns = 1 + later
        try:
            yield
        finally:
            self.turns = 1

    def too_small(self, hidden: Tensor, plan: ActivationPlan) -> UserError:
        """Return the error that says that a batch cannot be trained on in the budget.

        Args:
            hidden: The residual stream before the stack.
            plan: The thriftiest.
        """
        rows, length = hidden.shape[:2]
        needed = math.ceil(10 * (plan.peak / self.share + self._held) / _GIB) / 10
        return UserError(
            f"memory_budget: expected {needed:.1f} GiB or more for a batch of {rows} x {length:,} positions, "
            f"{self._held / _GIB:.1f} of them for parameters and the like, got {self.budget / _GIB:.1f} GiB",
            hint="make the batch smaller, or share out sequences among devices (--context_parallel)",
        )

    @staticmethod
    def _measure(
        hidden: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]], parameters: list[Tensor]
    ) -> BlockCosts:
        found = [measure_costs(block, parameters, hidden) for block in blocks]
        most = {name: max(getattr(each, name) for each in found) for name in ("kept", "work", "scans")}
        return BlockCosts(found[0].stream, **most)


def _agreed(plan: ActivationPlan, device: torch.device) -> ActivationPlan:
    """Return the thriftiest plan of all processes: blocks that run again meet in their collectives."""
    if not is_distributed() or dist.get_world_size() == 1:
        return plan
    own = [plan.recomputed, plan.offloaded, not plan.fits, plan.peak, -plan.scans, plan.spares]
    most = torch.tensor(own, device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    recomputed, offloaded, too_large, peak, scans, spares = most.tolist()
    return ActivationPlan(recomputed, offloaded, not too_large, peak, -scans, bool(spares))
