"""Training in a given amount of GPU memory."""

from __future__ import annotations

from torch import nn

from seqmamba.backbones.activations import StackMemory
from seqmamba.backbones.isotropic import BlockStack
from seqmamba.backbones.multiscale import MultiScaleBackbone
from seqmamba.nn.options import require_whole


def set_memory_budget(model: nn.Module, budget: int | None) -> None:
    """Let the stacks of a model keep as much for the backward pass as fits, and compute the rest again.

    What a block takes is measured at the first batch, on up to 65,536 positions. Then every batch gets the
    plan that computes least twice: all is kept; or some first blocks keep their input only, with or without
    the results of their scans; or some of these inputs wait in pinned host memory; or mixers spare memory too
    (see `sparing_memory`). Gradients are the same but for rounding whatever the plan. An equivariant model
    reads its strands one after the other where that helps. A batch that does not fit is refused before it
    runs, with the size it needs.

    Args:
        model: A backbone, or a model around one or several.
        budget: Bytes that the process may hold on the GPU at a time; None keeps all, or what
            ``checkpoint_activations`` says.
    """
    if budget is not None:
        require_whole("memory_budget", budget)
    stacks = [module for module in model.modules() if isinstance(module, BlockStack)]
    weights = {id(stack): float(stack.config.n_layers * stack.config.d_model) for stack in stacks}
    order = list(stacks)
    for backbone in (module for module in model.modules() if isinstance(module, MultiScaleBackbone)):
        inside = _in_order(backbone, weights)
        order = [*inside, *(stack for stack in order if all(stack is not other for other in inside))]
    for place, stack in enumerate(order):
        later = sum(weights[id(each)] for each in order[place:])
        stack.memory = None if budget is None else StackMemory(budget, weights[id(stack)] / later)


def _in_order(backbone: MultiScaleBackbone, weights: dict[int, float]) -> list[BlockStack]:
    """Return the stacks in the order in which they run, and divide their weights by their pooling."""
    factor, down, up = 1, list(backbone.down), list(backbone.up)
    for stage, pool in enumerate(backbone.config.pool):
        for side in (down, up):
            if side:
                weights[id(side[stage])] /= factor
        factor *= pool
    weights[id(backbone.centre)] /= factor
    stacks = [*down, backbone.centre, *reversed(up)]
    return [stack for stack in stacks if isinstance(stack, BlockStack)]
