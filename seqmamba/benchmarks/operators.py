"""What is timed: for each sub-verb our operator, how it is called, its check and its counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

import seqmamba.ops
from seqmamba.benchmarks import exact, inputs
from seqmamba.benchmarks.candidates import Candidate
from seqmamba.benchmarks.inputs import Arguments
from seqmamba.benchmarks.shapes import Shape, Widths
from seqmamba.errors import UserError

UPSTREAM = ("mamba_ssm", "causal_conv1d")
"""Implementations that are other packages; those are timed as peers, in their own layout."""
_SLOW = {"cuda": {"chunked": 4096, "reference": 2048}, "cpu": {"chunked": 16384, "reference": 16384}}


@dataclass(frozen=True)
class Operator:
    """One of the sub-verbs.

    Attributes:
        name: Of the sub-verb.
        function: Of the operator in `seqmamba.ops`; it may not exist in this installation.
        draw: Makes arguments.
        call: Calls the operator on them with an `impl`.
        exact: Gives y and every gradient in float64.
        exponentials: How many each pass needs.
        result: The argument that y is shaped like.
        also_written: The argument that a second result is as large as, if there is one.
    """

    name: str
    function: str
    draw: Callable[[Shape, Widths, inputs.Draw], Arguments]
    call: Callable[[Callable[..., Any], Arguments, str], Tensor]
    exact: Callable[[Arguments, Tensor], exact.Results]
    exponentials: Callable[[Shape, Widths], int]
    result: str
    also_written: str | None = None

    def implementations(self) -> list[str]:
        """Names that `impl` takes besides "auto", the fastest first.

        Raises:
            UserError: This installation has no such operator.
        """
        if not hasattr(seqmamba.ops, self.function):
            raise UserError(
                f"bench {self.name}: not available: seqmamba.ops has no {self.function}",
                hint="upgrade seqmamba, or time another operator",
            )
        api = import_module(f"{getattr(seqmamba.ops, self.function).__module__}")
        return [implementation.name for implementation in getattr(api, "IMPLEMENTATIONS", ())]

    def candidates(self, impls: list[str]) -> list[Candidate]:
        """Our implementations of these names."""
        function = getattr(seqmamba.ops, self.function)
        return [Candidate(impl, "seqmamba", partial(self._call, function, impl)) for impl in impls]

    def _call(self, function: Callable[..., Any], impl: str, arguments: Arguments) -> Tensor:
        return self.call(function, arguments, impl)


def too_slow(impl: str, shape: Shape, device_type: str) -> bool:
    """Whether an implementation would take minutes at this length; it is timed only if asked for by name."""
    limit = _SLOW[device_type].get(impl)
    return limit is not None and shape.length > limit


def _scan(function: Callable[..., Any], arguments: Arguments, impl: str) -> Tensor:
    y: Tensor = function(**arguments, delta_softplus=True, impl=impl)
    return y


def _bidirectional(function: Callable[..., Any], arguments: Arguments, impl: str) -> Tensor:
    pairs = {
        name: tuple(arguments[f"{name}_{direction}"] for direction in inputs.DIRECTIONS)
        for name in inputs.PAIRED
    }
    y: Tensor = function(**pairs, z=arguments["z"], delta_softplus=True, impl=impl)
    return y


def _conv(function: Callable[..., Any], arguments: Arguments, impl: str) -> Tensor:
    y: Tensor = function(**arguments, activation="silu", impl=impl)
    return y


def _norm(function: Callable[..., Any], arguments: Arguments, impl: str) -> Tensor:
    result = function(
        arguments["x"],
        arguments["weight"],
        exact.EPS,
        residual=arguments["residual"],
        dtype=arguments["x"].dtype,
        impl=impl,
    )
    y: Tensor = result[0]
    return y


def _none(shape: Shape, widths: Widths) -> int:
    return 0


OPERATORS = {
    operator.name: operator
    for operator in (
        Operator(
            "scan",
            "selective_scan",
            inputs.scan_arguments,
            _scan,
            exact.exact_scan,
            lambda shape, widths: shape.elements * widths.state,
            "u",
        ),
        Operator(
            "bidirectional",
            "bidirectional_scan",
            inputs.bidirectional_arguments,
            _bidirectional,
            exact.exact_bidirectional,
            lambda shape, widths: 2 * shape.elements * widths.state,
            "z",
        ),
        Operator("conv", "causal_conv1d", inputs.conv_arguments, _conv, exact.exact_conv, _none, "x"),
        Operator("norm", "rms_norm", inputs.norm_arguments, _norm, exact.exact_norm, _none, "x", "residual"),
        Operator("ssd", "ssd", inputs.ssd_arguments, _scan, exact.exact_ssd, _none, "x"),
    )
}
