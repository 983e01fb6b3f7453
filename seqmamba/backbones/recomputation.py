"""Blocks that run again in the backward pass, whole or but for their scans.

A scan is about half of a block's forward pass, and what it gives is a quarter of what the block would keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from seqmamba.nn.fused_both_ways import sparing_memory

_SCANS = ("bidirectional_scan_forward", "selective_scan_forward", "ssd_forward")
"""Operators of `seqmamba.ops` of which the results can be kept."""


def run_again(block: Callable[..., Any], x: Tensor, *, keep_scans: bool = False, **options: Any) -> Any:
    """Call a block so that it keeps its input for the backward pass, and computes the rest again there.

    Args:
        block: What to call.
        x: Its input.
        keep_scans: Whether to keep the results of its scans too.
        **options: What else it takes.

    Returns:
        What the block returns.
    """
    kept: dict[str, Any] = {"context_fn": _kept_scans} if keep_scans else {}
    return checkpoint(block, x, use_reentrant=False, **kept, **options)


def sparingly(block: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a block whose mixers spare memory, now and where it runs again.

    Args:
        block: What to call.
        *arguments: What it takes.
        **options: What else it takes.
    """
    with sparing_memory():
        return block(*arguments, **options)


def _kept_scans() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    """Return the contexts of a first run, and of that which repeats it.

    PyTorch's own, `create_selective_checkpoint_contexts`, want all operators to come in the same number: but
    casts of weights that autocast has kept are made in one of the runs only.
    """
    results: list[Any] = []
    return _Keeping(results), _GivingBack(results)


def _is_scan(operator: Any) -> bool:
    return operator.namespace == "seqmamba" and operator._opname in _SCANS


class _Keeping(TorchDispatchMode):
    def __init__(self, results: list[Any]) -> None:
        super().__init__()
        self._results = results

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if _is_scan(func):  # without their graph, which would hold them in a circle
            self._results.append(_pytree.tree_map_only(Tensor, Tensor.detach, out))
        return out


class _GivingBack(TorchDispatchMode):
    def __init__(self, results: list[Any]) -> None:
        super().__init__()
        self._results, self._given = results, 0

    def __enter__(self) -> Any:
        self._given = 0  # a graph that is retained runs several times
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _is_scan(func):
            return func(*args, **(kwargs or {}))
        self._given += 1
        return self._results[self._given - 1]
