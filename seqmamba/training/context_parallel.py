"""Devices that share out sequences, beside those that share out batches."""

from __future__ import annotations

import re
from typing import Any

import lightning as L
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from seqmamba.distributed import ContextGroup
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole
from seqmamba.training.task import Task

_GLOO_LOST = re.compile(r"gloo.*(?:closed by peer|reset by peer|Timed out|Broken pipe)", re.DOTALL)


class ContextParallel(L.Callback):
    """Lets every `size` neighbouring devices share out the sequences of the same batches.

    The devices form a mesh, data x context. Each row of it is given batches of its own, and in a row each
    device holds a piece of every sequence. The gradient is the mean over all devices, which DDP and FSDP take
    anyhow: the loss of a row is the mean of its devices' losses. Parameters, and so checkpoints, know nothing
    of it, and a run can go on with another number of devices.

    Args:
        size: Devices that share out a sequence.

    Raises:
        UserError: If it is not a positive number.
    """

    def __init__(self, size: int) -> None:
        require_whole("context_parallel", size)
        self.size = size
        self.context: ContextGroup | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Form the mesh and let the task join its row.

        Raises:
            UserError: If the devices do not make whole rows, or the task cannot share out sequences.
        """
        devices = trainer.world_size
        if devices % self.size:
            raise UserError(
                f"context_parallel: expected a divisor of the {devices} devices, got {self.size}",
                hint="set trainer.devices, and trainer.num_nodes",
            )
        if self.context is None:
            kind, shape = trainer.strategy.root_device.type, (devices // self.size, self.size)
            mesh = init_device_mesh(kind, shape, mesh_dim_names=("data", "context"))
            self.context = ContextGroup.of(mesh.get_group("context"))
        if not isinstance(pl_module, Task):
            raise UserError(f"context_parallel: expected a Task, got {type(pl_module).__name__}")
        pl_module.join_context(self.context)


def lost_a_process(failure: RuntimeError) -> bool:
    """Tell whether a failure of torch.distributed says that another process does not answer any more.

    Args:
        failure: DistBackendError of NCCL, or of gloo what has no type of its own.
    """
    return isinstance(failure, dist.DistBackendError) or _GLOO_LOST.search(str(failure)) is not None


def data_place(trainer: L.Trainer) -> tuple[int, int]:
    """Return which share of the batches this device takes, and how many shares there are.

    Args:
        trainer: Whose devices; those that share out sequences take the same share.
    """
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    size = next((each.size for each in callbacks if isinstance(each, ContextParallel)), 1)
    return trainer.global_rank // size, trainer.world_size // size
