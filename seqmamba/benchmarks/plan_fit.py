"""The constants of `seqmamba.benchmarks.plan_model`, from measurements that the package carries.

``plan_points.json`` has the operators' rates and whole training steps; the script
``tests/benchmarks/plan_points.py`` of the repository takes both from its result files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from seqmamba.backbones import BackboneConfig
from seqmamba.benchmarks.plan_model import (
    GIB,
    Constants,
    Layout,
    Model,
    Rates,
    Weights,
    Workload,
    kept_bytes,
    own_tokens,
)

_BOUND_BY_HOST = 1.1  # times what the GPU computes


@dataclass(frozen=True)
class Point:
    """A measured training step.

    Attributes:
        workload: What was read.
        weights: Of the model.
        layout: On which GPUs.
        seconds: Of the step.
        gib: Most memory of a GPU; None where nobody looked.
        gpu: Which GPUs.
    """

    workload: Workload
    weights: Weights
    layout: Layout
    seconds: float
    gib: float | None
    gpu: str

    @property
    def name(self) -> str:
        """What was measured, in words."""
        layout, config = self.layout, self.workload.backbone
        kind = "recomputed" if layout.recompute else "kept"
        shared = ", sharded" if layout.sharded else ""
        windows = f"{layout.windows} x " if layout.windows > 1 else ""
        return (
            f"{config.n_layers} x {config.d_model}, {windows}{self.workload.length:,} tokens, context "
            f"{layout.context} of {layout.gpus}{shared}, {kind}"
        )


@dataclass(frozen=True)
class Error:
    """A measured point beside what the model says that was fitted to all others.

    Attributes:
        name: Of the point.
        measured: Seconds or GiB.
        predicted: In the same unit.
    """

    name: str
    measured: float
    predicted: float

    @property
    def relative(self) -> float:
        """How much too large the prediction is, as a share of what was measured."""
        return self.predicted / self.measured - 1


@cache
def read_points() -> tuple[Rates, tuple[Point, ...], dict[str, float]]:
    """Return the operators' rates, the measured steps and the memory of each kind of GPU in GiB."""
    document = json.loads(files("seqmamba.benchmarks").joinpath("plan_points.json").read_text())
    rates = {
        name: (value["forward"], value["backward"]) for name, value in document["seconds_an_element"].items()
    }
    points = tuple(map(_point, document["runs"]))
    return Rates(**rates, operations=document["operations_a_second"]), points, document["memory_gib"]


def _point(run: dict[str, Any]) -> Point:
    config = BackboneConfig(**run["backbone"])
    return Point(
        Workload(config, run["length"], run["strands"]),
        Weights.of(config),
        Layout(**run["layout"]),
        run["seconds"],
        run["gib"],
        run["gpu"],
    )


def fit(rates: Rates, points: Sequence[Point]) -> Constants:
    """Find the constants: least squares of relative errors.

    Args:
        rates: Of the operators.
        points: Measured steps; one GPU alone, several with and without context parallel.
    """
    alone = [point for point in points if point.layout.gpus == 1 and not point.layout.sharded]
    slowdown, launch = _least_squares(
        [_computing(rates, point) for point in alone], [point.seconds for point in alone]
    )
    known = [point for point in points if point.gib is not None]
    terms = [_memory(point) for point in known]
    taken = [(point.gib or 0) * GIB - fixed for point, (fixed, _, _) in zip(known, terms, strict=True)]
    kept, around = _least_squares([(inside, outside) for _, inside, outside in terms], taken)
    model = Model(rates, Constants(slowdown, launch, 0.0, 0.0, kept, around))

    def ratio(point: Point) -> float:
        return point.seconds / model.seconds(point.workload, point.weights, point.layout)

    exchanges = [
        point.seconds / _launches(point)
        for point in points
        if point.layout.context > 1 and ratio(point) > _BOUND_BY_HOST
    ]
    exchange = float(np.exp(np.mean(np.log(exchanges)))) if exchanges else 0.0
    waits = [ratio(point) - 1 for point in points if point.layout.groups > 1 and point.layout.context == 1]
    waiting = max(0.0, float(np.mean(waits))) if waits else 0.0
    return Constants(slowdown, launch, exchange, waiting, kept, around)


def leave_one_out(rates: Rates, points: Sequence[Point]) -> tuple[list[Error], list[Error]]:
    """Return the errors of time and of memory for each point, predicted from the others alone."""
    times, memories = [], []
    for point in points:
        asked = (point.workload, point.weights, point.layout)
        # what was measured twice is left out twice
        others = [each for each in points if (each.workload, each.weights, each.layout) != asked]
        model = Model(rates, fit(rates, others))
        times.append(Error(point.name, point.seconds, model.seconds(*asked)))
        if point.gib is not None:
            memories.append(Error(point.name, point.gib, model.bytes(*asked) / GIB))
    return times, memories


def describe(errors: Sequence[Error], form: Callable[[float], str]) -> str:
    """Return the median and the largest error in words.

    Args:
        errors: One or more.
        form: Writes a measured value with its unit.
    """
    worst = max(errors, key=lambda error: abs(error.relative))
    median = float(np.median([abs(error.relative) for error in errors]))
    return (
        f"{median:.1%} in the median of {len(errors)}, {worst.relative:+.0%} at worst ({worst.name}: "
        f"{form(worst.predicted)} for {form(worst.measured)})"
    )


def _computing(rates: Rates, point: Point) -> tuple[float, float]:
    a_token = rates.seconds(point.workload, point.weights, point.layout.recompute)
    return own_tokens(point.workload, point.layout) * a_token, _launches(point)


def _launches(point: Point) -> float:
    return point.workload.backbone.n_layers * (3 if point.layout.recompute else 2)


def _memory(point: Point) -> tuple[float, float, float]:
    tokens = own_tokens(point.workload, point.layout)
    _, inside, outside = (tokens * x for x in kept_bytes(point.workload, point.layout.recompute))
    without = Model(Rates(*((0.0, 0.0),) * 4, operations=1.0), Constants(0, 0, 0, 0, 0, 0))
    return without.bytes(point.workload, point.weights, point.layout), inside, outside


def _least_squares(terms: Sequence[tuple[float, float]], measured: Sequence[float]) -> tuple[float, float]:
    """Return the two factors whose sum of products has the smallest relative errors."""
    weights = 1 / np.asarray(measured)
    matrix = np.asarray(terms, dtype=np.float64) * weights[:, None]
    scale = np.linalg.norm(matrix, axis=0)  # the units of the two have nothing to do with each other
    first, second = np.linalg.lstsq(matrix / scale, np.ones(len(weights)), rcond=None)[0] / scale
    return float(first), float(second)
