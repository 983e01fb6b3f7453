"""Forward and backward pass of a module as CUDA graphs, where launching kernels takes longer than they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn


class GraphedTraining:
    """Calls a function of a module, on a GPU as CUDA graphs: two replays instead of hundreds of launches.

    A short sequence keeps a GPU busy for less time than the host needs to launch its kernels. The function
    must not wait for the GPU, and the parameters have to stay where they are, as optimisers leave them. The
    graphs are made in the first call that takes a gradient. Inputs of another shape, a last batch for
    instance, and calls without a gradient run as they would without graphs; so does everything on a CPU.
    Gradients are to be used before the next call and not accumulated: its replay writes to the same places.

    The setting of `torch.autocast` at that call is part of the graphs. Dropout draws anew in each replay.

    Args:
        module: Whose parameters the function uses.
        function: Takes tensors that need no gradient, returns one tensor.
    """

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        self._bound = _Bound(module, function)
        self._function = function
        self._graphed: Callable[..., Tensor] | None = None
        self._form: list[tuple[torch.Size, torch.dtype]] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run the function.

        Args:
            inputs: Tensors on the device of the module.
        """
        if not (inputs[0].is_cuda and torch.is_grad_enabled()):
            return self._function(*inputs)
        form = [(x.shape, x.dtype) for x in inputs]
        if self._graphed is None:
            self._graphed, self._form = self._capture(inputs), form
        return (self._graphed if form == self._form else self._function)(*inputs)

    def _capture(self, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        samples = tuple(x.detach().clone() for x in inputs)
        dtype = torch.get_autocast_dtype("cuda")
        # Casts of the weights that were kept from outside would not be made again in a replay.
        with torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            graphed: Any = torch.cuda.make_graphed_callables(self._bound, samples, allow_unused_input=True)
        return cast(Callable[..., Tensor], graphed)


class _Bound(nn.Module):
    """A function of a module as a module of its own, which `torch.cuda.make_graphed_callables` takes."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs)
