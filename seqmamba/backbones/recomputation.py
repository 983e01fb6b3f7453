"""Blocks that run again in the backward pass, whole or but for their scans.

A scan is about half of a block's forward pass, and what it gives is a quarter of what the block would keep.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

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
    contexts = {"context_fn": partial(create_selective_checkpoint_contexts, _policy)} if keep_scans else {}
    return checkpoint(block, x, use_reentrant=False, **contexts, **options)


def _policy(context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    kept = isinstance(operator, torch._ops.OpOverload) and (
        operator.namespace == "seqmamba" and operator._opname in _SCANS
    )
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
