"""Blocks that run again in the backward pass, whole or but for their scans.

A scan is about half of a block's forward pass, and what it gives is a quarter of what the block would keep.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from seqmamba.nn.fused_both_ways import sparing_memory

_SCANS = ("bidirectional_scan_forward", "selective_scan_forward", "ssd_forward")
"""Operators of `seqmamba.ops` of which the results can be kept."""

# Newer ones want to be told what hooks that are around the call have to do with kept results: nothing.
_OF_NEWER = {"respect_saved_tensors_hooks": False}
_KNOWN = {name: value for name, value in _OF_NEWER.items() if name in signature(checkpoint).parameters}


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
    kept: dict[str, Any] = {}
    if keep_scans:
        kept = {"context_fn": partial(create_selective_checkpoint_contexts, _policy), **_KNOWN}
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


def _policy(context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    kept = isinstance(operator, torch._ops.OpOverload) and (
        operator.namespace == "seqmamba" and operator._opname in _SCANS
    )
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
