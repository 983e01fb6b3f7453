"""Which layouts of GPUs a pretraining fits on, how fast it would be there and how long it would take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seqmamba.benchmarks.plan_model import GIB, Layout, Model, Weights, Workload
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole

_ENOUGH_TOKENS = 2**17
"""Of a GPU at a time: as many as were measured, where it waits little for the host."""

_USABLE = 0.9
"""Share of a GPU's memory that tensors may take: the rest is for fragments and the libraries."""


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Args:
        workload: The model and its windows.
        tokens: To train on, in all.
        batch: Tokens of a step of the optimiser, over all GPUs; None takes what the GPUs hold at a time.

    Raises:
        UserError: If a number is out of range.
    """

    workload: Workload
    tokens: int
    batch: int | None = None

    def __post_init__(self) -> None:
        require_whole("tokens", self.tokens)
        if self.batch is not None:
            require_whole("batch", self.batch)
            if self.batch % self.workload.length:
                raise UserError(
                    f"batch: expected a multiple of the length {self.workload.length:,}, got {self.batch:,}"
                )


@dataclass(frozen=True)
class Estimate:
    """What a job takes in a layout.

    Attributes:
        layout: Which.
        tokens_a_step: Of all GPUs.
        tokens_a_second: Of all GPUs.
        days: For all tokens.
        gib: Most memory of a GPU.
    """

    layout: Layout
    tokens_a_step: int
    tokens_a_second: float
    days: float
    gib: float


def plan(job: Job, model: Model, memory: float, gpus: Sequence[int]) -> list[Estimate]:
    """Return the best estimate of each way to share the work out that fits.

    Args:
        job: What is to be trained.
        model: Predicts time and memory.
        memory: Of a GPU, in GiB.
        gpus: Numbers of GPUs.

    Returns:
        In the order of `gpus`; for each number, one GPU a window first.

    Raises:
        UserError: If nothing fits.
    """
    weights = Weights.of(job.workload.backbone)
    found: list[Estimate] = []
    least: Estimate | None = None
    for count in gpus:
        require_whole("gpus", count)
        for context in _powers(min(count, model.links.node)):
            if count % context:
                continue
            for sharded in (False, True) if count > 1 else (False,):
                ways = [
                    _estimate(job, model, weights, layout) for layout in _ways(job, count, context, sharded)
                ]
                least = min([*ways, *([least] if least else [])], key=lambda way: way.gib, default=None)
                fits = [way for way in ways if way.gib <= _USABLE * memory]
                if fits:
                    found.append(max(fits, key=lambda way: way.tokens_a_second))
    if not found:
        raise _refusal(job, memory, gpus, least)
    return found


def _ways(job: Job, gpus: int, context: int, sharded: bool) -> Iterator[Layout]:
    """Yield layouts that differ in what they hold at a time."""
    length, groups = job.workload.length, gpus // context
    most = max(1, _ENOUGH_TOKENS * context // length)
    if job.batch is None:
        counts = dict.fromkeys(_powers(most), 1)
    else:
        each, rest = divmod(job.batch, length * groups)
        if rest or not each:
            return
        counts = {windows: each // windows for windows in range(1, min(each, most) + 1) if not each % windows}
    for windows, batches in counts.items():
        for recompute in (False, True):
            yield Layout(gpus, context, sharded, recompute, windows, batches)


def _estimate(job: Job, model: Model, weights: Weights, layout: Layout) -> Estimate:
    tokens = layout.groups * layout.windows * layout.batches * job.workload.length
    rate = tokens / model.seconds(job.workload, weights, layout)
    gib = model.bytes(job.workload, weights, layout) / GIB
    return Estimate(layout, tokens, rate, job.tokens / rate / 86_400, gib)


def _powers(most: int) -> list[int]:
    """Return the powers of two up to a number."""
    return [1 << power for power in range(most.bit_length())]


def _refusal(job: Job, memory: float, gpus: Sequence[int], least: Estimate | None) -> UserError:
    numbers = ", ".join(map(str, gpus))
    length = f"windows of {job.workload.length:,} tokens"
    if least is None:
        return UserError(
            f"batch: {job.batch:,} tokens are no whole number of {length} for the groups of {numbers} GPUs",
            hint="take a multiple of the length times the GPUs, or leave it out",
        )
    layout = least.layout
    shared = f"{layout.context} GPUs a window" if layout.context > 1 else "one GPU a window"
    return UserError(
        f"{length} do not fit on {numbers} GPUs: at best they take {least.gib:,.1f} GiB of each, with "
        f"{shared}, and {_USABLE * memory:.1f} of {memory:.1f} GiB can be used",
        hint="shorten the windows, or name GPUs with more memory or nodes with more GPUs",
    )
