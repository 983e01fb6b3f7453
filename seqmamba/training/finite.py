"""Steps whose loss or gradient is not finite: skipped, counted and reported."""

from __future__ import annotations

import math
import sys
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from seqmamba.distributed import is_distributed
from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.skippable import KeptBuffers, PausableLambdaLR, SkippableAdamW
from seqmamba.training.task import Task

_LOOK_EVERY = 50
_LINES_AN_EPOCH = 10


class FiniteSteps(L.Callback):
    """Lets no loss and no gradient that is infinite or NaN into the model.

    A step is skipped where the loss of one of its batches or the norm of its gradient is not finite. It then
    changes nothing: not the parameters, the optimiser's moments and step count, the learning-rate schedule,
    nor what the forward pass wrote into buffers. Under gradient accumulation all batches of the step go.
    Several processes skip the same steps, as they agree on the sum of their losses and norms. In float16 the
    steps that the loss scaling skips are among them.

    The device decides, and the host looks at what it decided after the fact. Until it does the schedule runs
    on, then it misses as many steps.

    ``train/skipped``, logged at the end of each epoch, counts the skipped steps of the run; a line on stderr
    names each. The run ends with a `UserError` when too many come in a row or in an epoch, see
    `OptimiserConfig`.

    Args:
        look_every: Steps from one look to the next; the last one is at the end of the epoch. ``None`` means
            every step on a CPU, else every 50, because a look makes the host wait for the device.
    """

    def __init__(self, look_every: int | None = None) -> None:
        self.look_every = look_every
        self.skipped = 0
        self.in_a_row = 0
        self._losses: list[Tensor] = []
        self._unread: list[tuple[int, Tensor]] = []
        self._epoch_steps = self._epoch_skipped = self._epoch_blamed = 0
        self._last: tuple[int, float, float] | None = None
        self._buffers: KeptBuffers | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, to be kept in the checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the counts of the run that goes on."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Copy the buffers."""
        self._buffers = KeptBuffers(pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the epoch's counts."""
        self._epoch_steps = self._epoch_skipped = self._epoch_blamed = 0

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss of a batch of the step."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Call the step off where something is not finite, before the gradient is clipped."""
        found = self._loss_and_norm(pl_module, optimizer)
        bad = ~found.isfinite().all()
        if self._buffers is not None:
            self._buffers.settle(bad)
        if isinstance(optimizer, SkippableAdamW):
            optimizer.skip_next(bad)
        elif bad:  # any optimiser does nothing where there are no gradients, but the host has to know
            optimizer.zero_grad(set_to_none=True)
        self._epoch_steps += 1
        self._unread.append((trainer.global_step, found))
        if len(self._unread) >= (self.look_every or (1 if found.device.type == "cpu" else _LOOK_EVERY)):
            self._look(trainer, _limits(pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the count, and end the run if too much of the epoch was skipped.

        Raises:
            UserError: If so.
        """
        limits = _limits(pl_module)
        self._look(trainer, limits)
        count = float(self.skipped)
        pl_module.log("train/skipped", count, reduce_fx="max", sync_dist=True, logger=False)
        # Lightning would write it after the checkpoint, and a run killed in between would lack it.
        for logger in trainer.loggers:
            values = {"epoch": float(trainer.current_epoch), "train/skipped": count}
            logger.log_metrics(values, step=trainer.global_step - 1)
        if self._last is not None and self._epoch_blamed > limits.max_skipped_share * self._epoch_steps:
            share = f"{self._epoch_skipped} of the {self._epoch_steps} steps of an epoch were skipped"
            raise _too_many(*self._last, share)

    def _loss_and_norm(self, pl_module: L.LightningModule, optimizer: Optimizer) -> Tensor:
        """Sum the losses of the step's batches, and the norms of its gradient, over the processes.

        Terms that are finite have a finite sum, as none comes near the largest number of float32; others have
        not. Processes share their gradient but not their loss, and that may be all that is not finite.
        """
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        found = torch.zeros(2, device=pl_module.device)
        if self._losses:
            found[0] = torch.stack(self._losses).sum()
        if gradients:
            norm = get_total_norm(gradients)
            found[1] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self._losses.clear()
        if is_distributed():
            dist.all_reduce(found)  # not `strategy.reduce`, which makes the host wait at a barrier
        return found

    def _look(self, trainer: L.Trainer, limits: OptimiserConfig) -> None:
        """Read what the device has found since the last look, in one copy."""
        if not self._unread:
            return
        steps = [step for step, _ in self._unread]
        values = torch.stack([found for _, found in self._unread]).tolist()
        self._unread.clear()
        for step, (loss, norm) in zip(steps, values, strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                self.in_a_row = 0
                continue
            self._count(trainer, step, loss, norm)
            if self.in_a_row >= limits.max_skipped_in_a_row:
                raise _too_many(step, loss, norm, f"{self.in_a_row} steps in a row were skipped")

    def _count(self, trainer: L.Trainer, step: int, loss: float, norm: float) -> None:
        self.skipped += 1
        self.in_a_row += 1
        self._epoch_skipped += 1
        # Loss scaling in float16 finds its scale by steps that are too large for it.
        scaling = getattr(trainer.precision_plugin, "scaler", None) is not None
        if not (scaling and math.isfinite(loss)):
            self._epoch_blamed += 1
            self._last = (step, loss, norm)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, PausableLambdaLR):
                config.scheduler.miss_step()
        if trainer.is_global_zero and self._epoch_skipped <= _LINES_AN_EPOCH:
            more = "; more of this epoch are only counted" if self._epoch_skipped == _LINES_AN_EPOCH else ""
            print(f"step {step} skipped: {_what(loss, norm)}{more}", file=sys.stderr, flush=True)


def _limits(pl_module: L.LightningModule) -> OptimiserConfig:
    return pl_module.optimiser_config if isinstance(pl_module, Task) else OptimiserConfig()


def _what(loss: float, norm: float) -> str:
    if math.isfinite(loss):
        return f"the norm of the gradient became {norm}"
    return f"the training loss became {loss}"


def _too_many(step: int, loss: float, norm: float, how_many: str) -> UserError:
    return UserError(
        f"{_what(loss, norm)} at step {step}, and {how_many}",
        hint="lower model.init_args.optimiser.lr, or train with --trainer.precision 32-true",
    )
