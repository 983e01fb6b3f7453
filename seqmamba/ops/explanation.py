"""`explain`: which implementation of an operator would run, and why not the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.bidirectional_scan import api as bidirectional_api
from seqmamba.ops.causal_conv1d import api as conv_api
from seqmamba.ops.dispatch import Implementation, Options, choose
from seqmamba.ops.draw import api as draw_api
from seqmamba.ops.lti import api as lti_api
from seqmamba.ops.rms_norm import api as norm_api
from seqmamba.ops.selective_scan import api as scan_api
from seqmamba.ops.ssd import api as ssd_api

_OPERATORS: dict[str, tuple[Implementation, ...]] = {
    "selective_scan": scan_api.IMPLEMENTATIONS,
    "causal_conv1d": conv_api.IMPLEMENTATIONS,
    "ssd": ssd_api.IMPLEMENTATIONS,
    "bidirectional_scan": bidirectional_api.IMPLEMENTATIONS,
    "rms_norm": norm_api.IMPLEMENTATIONS,
    "lti": lti_api.IMPLEMENTATIONS,
    "bidirectional_lti": lti_api.IMPLEMENTATIONS,
    "draw": draw_api.IMPLEMENTATIONS,
}
# The order in which an operator hands its tensors to the obstacle functions.
_TENSORS: dict[str, tuple[str, ...]] = {
    "selective_scan": ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"),
    "causal_conv1d": ("x", "weight", "bias", "initial_state"),
    "ssd": ("x", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"),
    "bidirectional_scan": ("z",),
    "rms_norm": ("x", "weight", "residual"),
    "lti": ("u", "delta", "A", "B", "C", "D", "P", "initial_state"),
    "bidirectional_lti": ("u", "delta", "A", "B", "C", "D", "P"),
    "draw": ("logits", "uniforms"),
}
# What an operator takes as pairs (forward, reverse): those of one direction, of the other, then the above.
_PAIRS: dict[str, tuple[str, ...]] = {
    "bidirectional_scan": ("u", "delta", "A", "B", "C", "D", "delta_bias"),
}
_Example = Tensor | Sequence[Tensor | None] | None


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
    **example: _Example,
) -> Explanation:
    """Say which implementation of an operator would run on the given arguments, and why not the others.

    Args:
        op: The operator or its name, such as "selective_scan", "causal_conv1d", "ssd" or "lti".
        impl: As the operator takes it.
        reverse: As the operator takes it.
        reset: As the operator takes it.
        **example: Tensor arguments as the operator takes them, pairs where it takes pairs; what is left out
            counts as float32 on the CPU.

    Returns:
        The choice and a verdict for each implementation; `print` it.

    Raises:
        UserError: The operator or an argument is unknown, or the named `impl` cannot run.
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in _OPERATORS:
        raise UserError(f"explain: op must be one of {', '.join(_OPERATORS)}, got {name!r}")
    tensors = _tensors(name, example)
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


def _tensors(name: str, example: Mapping[str, _Example]) -> list[Tensor | None]:
    """The tensors as the operator hands them to the obstacle functions."""
    single, pairs = _TENSORS[name], _PAIRS.get(name, ())
    unknown = set(example) - set(single) - set(pairs)
    if unknown:
        raise UserError(f"explain: {name} takes no tensor argument {', '.join(sorted(unknown))}")
    directions: list[list[Tensor | None]] = [[], []]
    for argument in pairs:
        pair = example.get(argument)
        if pair is None:
            pair = (None, None)
        if isinstance(pair, Tensor) or len(pair) != 2:
            raise UserError(f"explain: {name} takes {argument} as a pair (forward, reverse) of tensors")
        for direction, tensor in zip(directions, pair, strict=True):
            direction.append(tensor)
    rest: list[Tensor | None] = []
    for argument in single:
        given = example.get(argument)
        if given is not None and not isinstance(given, Tensor):
            raise UserError(f"explain: {name} takes {argument} as a tensor, got {type(given).__name__}")
        rest.append(given)
    return [*directions[0], *directions[1], *rest]
