"""`explain`: which implementation of an operator would run, and why not the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.causal_conv1d import api as conv_api
from seqmamba.ops.dispatch import Implementation, Options, choose
from seqmamba.ops.selective_scan import api as scan_api
from seqmamba.ops.ssd import api as ssd_api

_OPERATORS: dict[str, tuple[Implementation, ...]] = {
    "selective_scan": scan_api.IMPLEMENTATIONS,
    "causal_conv1d": conv_api.IMPLEMENTATIONS,
    "ssd": ssd_api.IMPLEMENTATIONS,
}
# The order in which an operator hands its tensors to the obstacle functions.
_TENSORS: dict[str, tuple[str, ...]] = {
    "selective_scan": ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"),
    "causal_conv1d": ("x", "weight", "bias", "initial_state"),
    "ssd": ("x", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"),
}


@dataclass(frozen=True)
class Explanation:
    """What would run.

    Attributes:
        operator: Name of the operator.
        chosen: Name of the implementation that would run.
        verdicts: For each implementation, in order of preference, why it would or would not run.
    """

    operator: str
    chosen: str
    verdicts: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.operator}: {self.chosen}"]
        for name, verdict in self.verdicts.items():
            lines.append(f"  {'*' if name == self.chosen else ' '} {name}: {verdict}")
        return "\n".join(lines)


def explain(
    op: str | Callable[..., Any],
    *,
    impl: str = "auto",
    reverse: bool = False,
    reset: Tensor | None = None,
    **example: Tensor | None,
) -> Explanation:
    """Say which implementation of an operator would run on the given arguments, and why not the others.

    Args:
        op: The operator or its name: "selective_scan", "causal_conv1d" or "ssd".
        impl: As the operator takes it.
        reverse: As the operator takes it.
        reset: As the operator takes it.
        **example: Tensor arguments as the operator takes them; what is left out counts as float32 on the CPU.

    Returns:
        The choice and a verdict for each implementation; `print` it.

    Raises:
        UserError: The operator or an argument is unknown, or the named `impl` cannot run.
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in _OPERATORS:
        raise UserError(f"explain: op must be one of {', '.join(_OPERATORS)}, got {name!r}")
    unknown = set(example) - set(_TENSORS[name])
    if unknown:
        raise UserError(f"explain: {name} takes no tensor argument {', '.join(sorted(unknown))}")
    tensors = [example.get(argument) for argument in _TENSORS[name]]
    options = Options(reverse, reset is not None)
    chosen = choose(name, _OPERATORS[name], impl, tensors, options).name
    verdicts: dict[str, str] = {}
    for candidate in _OPERATORS[name]:
        objection = candidate.objection(tensors, options)
        if candidate.name == chosen:
            verdicts[candidate.name] = f"{candidate.summary}; would run"
        elif objection is None:
            verdicts[candidate.name] = (
                f'{candidate.summary}; can run, if asked for with impl="{candidate.name}"'
            )
        else:
            verdicts[candidate.name] = f"{candidate.summary}; cannot run: {objection}"
    return Explanation(name, chosen, verdicts)
