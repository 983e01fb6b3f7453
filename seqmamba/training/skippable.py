"""An optimiser step that can be called off on the device, and what must then be called off with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


class SkippableAdamW(AdamW):
    """AdamW in one fused kernel, which a flag on the device stops from doing anything.

    Where the flag is true the kernel changes no parameter, moment or step count and applies no weight decay,
    and the host need not know. `torch.amp.GradScaler` made this possible.

    Args:
        params: Parameters or groups, as `torch.optim.AdamW` takes them.
        **options: Its other arguments.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, fused=True, **options)
        # A GradScaler would leave the unscaling to the fused kernel, which is too late for clipping.
        self._step_supports_amp_scaling = False
        self.found_inf: Tensor | None = None  # the name that AdamW looks for

    def skip_next(self, flag: Tensor) -> None:
        """Say whether the next step does nothing.

        Args:
            flag: Bool scalar on the device of the parameters.
        """
        self.found_inf = flag.to(torch.float32)


class PausableLambdaLR(LambdaLR):
    """`LambdaLR` that can miss steps: the schedule counts the optimiser's steps, not the skipped ones."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.owed = 0  # before the parent's constructor, which takes a step; it goes into the checkpoint
        super().__init__(*arguments, **options)

    def miss_step(self) -> None:
        """Let one more of the next calls of `step` do nothing."""
        self.owed += 1

    def step(self, epoch: int | None = None) -> None:
        """Take a step unless one is to be missed."""
        if self.owed:
            self.owed -= 1
        else:
            super().step(epoch)


class KeptBuffers:
    """The buffers of a module, whose last forward pass can be undone.

    Batch norm's averages, for instance, take in a batch before anyone knows that it is no good.

    Args:
        module: Its buffers are copied now, and again by each call of `settle`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._kept = [(buffer, buffer.clone()) for buffer in module.buffers()]

    def settle(self, undo: Tensor) -> None:
        """Undo what was written into the buffers since the last call, or keep it.

        Args:
            undo: Bool scalar on the device.
        """
        # All of them: batch norm writes without telling the buffer's version counter.
        for buffer, copy in self._kept:
            torch.where(undo, copy, buffer, out=buffer)
            copy.copy_(buffer)
