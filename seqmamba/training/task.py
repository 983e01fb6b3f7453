"""The base of every LightningModule of the project."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import PurePath
from typing import Any, ClassVar

import lightning as L
import numpy as np
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from seqmamba.distributed import ContextGroup
from seqmamba.errors import UserError
from seqmamba.training.graphed import GraphedTraining
from seqmamba.training.optimisation import OptimiserConfig, build_optimiser


class Task(L.LightningModule):
    """A model, its loss and its metrics; subclasses write the steps, this class owns the optimiser.

    A subclass logs ``train/loss`` and ``val/loss`` (and any other ``val/...``), sets `monitor` to the logged
    quantity that decides which checkpoint is the best one, and overrides `exported` with the module
    that users will load again.

    Args:
        optimiser: Optimiser settings; defaults apply when None.
    """

    monitor: ClassVar[str] = "val/loss"
    """Name of the logged quantity that picks ``checkpoints/best.ckpt``."""

    monitor_mode: ClassVar[str] = "min"
    """Whether the smallest (``min``) or the largest (``max``) value of `monitor` is the best."""

    def __init__(self, optimiser: OptimiserConfig | None = None) -> None:
        super().__init__()
        self.optimiser_config = optimiser or OptimiserConfig()

    @property
    def exported(self) -> nn.Module | None:
        """The module whose ``save_pretrained(folder)`` fills ``RUN/pretrained``; None exports nothing."""
        return None

    def record_hyperparameters(self, **values: Any) -> None:
        """Store the constructor's arguments in every checkpoint, as plain data.

        Dataclasses become dictionaries: a class inside a checkpoint would make it unreadable under
        ``weights_only`` loading, the only kind of loading there is here.

        Args:
            **values: Names and values; dataclasses, containers, numbers, strings and None.

        Raises:
            TypeError: When a value is none of these.
        """
        self.save_hyperparameters({name: _plain(value) for name, value in values.items()}, logger=False)

    def require_one_device(self) -> None:
        """Refuse several devices, each of which would see, and report on, a part of a set only.

        Raises:
            UserError: If there are several.
        """
        if self.trainer.world_size > 1:
            raise UserError(
                f"expected one device, got {self.trainer.world_size}", hint="add --trainer.devices 1"
            )

    @property
    def fitting(self) -> bool:
        """Whether the trainer trains, its passes over the validation part included."""
        return self.trainer.state.fn == TrainerFn.FITTING

    @property
    def shardable(self) -> nn.Module | None:
        """The module whose ``forward`` the steps call: devices can share out its parameters.

        None: the steps reach for parameters in other ways.
        """
        return None

    def join_context(self, context: ContextGroup) -> None:
        """Share every sequence out among ranks, before the training, validation or test begins.

        A task that can do so overrides this: it lets its model compute with the others (`spread_context`),
        takes its own piece of each batch, and returns losses whose mean over all ranks is the loss. The ranks
        of a context are given the same batches.

        Args:
            context: The ranks.

        Raises:
            UserError: If the task reads whole sequences on every device.
        """
        raise UserError(
            f"context_parallel: {type(self).__name__} reads whole sequences on every device, expected 1, got "
            f"{context.size}",
            hint="leave the option out: devices then share out the batches",
        )

    def graphed(self, module: nn.Module, function: Callable[..., Tensor]) -> GraphedTraining:
        """Return a function of a module whose training steps run as CUDA graphs.

        Args:
            module: See `GraphedTraining`.
            function: See `GraphedTraining`.

        Raises:
            UserError: Where gradients are accumulated: a replay writes where those of the batch before may
                still be.
        """
        if self.trainer.accumulate_grad_batches != 1:
            raise UserError("cuda_graphs: expected trainer.accumulate_grad_batches 1 beside it")
        return GraphedTraining(module, function)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and its schedule over the trainer's number of steps.

        Raises:
            UserError: When the trainer would train for ever, so that there is no schedule.
        """
        total_steps = self.trainer.estimated_stepping_batches
        if not 0 < total_steps < math.inf:
            raise UserError(
                "the length of the training is unknown, and the learning-rate schedule needs it",
                hint="set trainer.max_epochs, or trainer.max_steps for an endless data set",
            )
        optimiser, schedule = build_optimiser(self, self.optimiser_config, int(total_steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the global gradient norm to ``optimiser.grad_clip``; the trainer's settings win if given."""
        limit = self.optimiser_config.grad_clip if gradient_clip_val is None else gradient_clip_val
        if limit:
            self.clip_gradients(optimizer, limit, gradient_clip_algorithm or "norm")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a hyper-parameter must be plain data or a dataclass of it, got {type(value).__name__}")
