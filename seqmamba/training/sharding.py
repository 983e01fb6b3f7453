"""Parameters, gradients and optimiser states shared out among devices that compute with all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from seqmamba.errors import UserError
from seqmamba.nn.block import Block
from seqmamba.nn.shared_attention import SharedTransformer
from seqmamba.training.task import Task

NAME = "sharded"
_JUDGE = "judge"  # see `LanguageModel`
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class ShardedStrategy(DDPStrategy):
    """Fully sharded data parallel (Zhao et al. 2023, arXiv:2304.11277), ``--trainer.strategy sharded``.

    Each device keeps its share of every parameter and of the optimiser's moments; a block's parameters are
    gathered when it runs, and gradients are averaged over all devices as under DDP. Checkpoints are those of
    one device: a run can go on with another number of devices, and with or without sharding.

    Lightning's own ``fsdp`` flattens parameters into vectors, so that weight decay no longer finds the
    matrices.
    """

    strategy_name = NAME

    def configure_ddp(self) -> None:
        """Share out the parameters, in place of wrapping the model.

        Raises:
            UserError: If the task does not say which of its modules computes with them.
        """
        task = self.lightning_module
        if not isinstance(task, Task) or task.shardable is None:
            raise UserError(
                f"trainer.strategy {NAME}: {type(task).__name__} cannot share out its parameters",
                hint="use --trainer.strategy ddp",
            )
        for tensor in (*task.parameters(), *task.buffers()):
            dist.broadcast(tensor.data, src=0)
        shard(task.shardable, self.root_device)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole parameters; every device must ask."""
        return {name: whole(value) for name, value in super().lightning_module_state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return whole moments; every device must ask."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        parts = {
            number: {name: whole(value) for name, value in part.items()}
            for number, part in state["state"].items()
        }
        return {**state, "state": parts}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take each device's share of the moments in a checkpoint."""
        for optimiser, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            parts = {
                number: {name: share_like(value, parameters[number]) for name, value in part.items()}
                for number, part in saved["state"].items()
            }
            optimiser.load_state_dict({**saved, "state": parts})

    def teardown(self) -> None:
        """Let Lightning move the model to the CPU even if a failure has left it in the middle of a step."""
        for module in self._modules_of_task():
            _be_plain(module)
        super().teardown()

    def gather_model(self) -> None:
        """Make the model a plain one with all its parameters on every device, after the last step."""
        found: dict[DTensor, nn.Parameter] = {}  # tied parameters stay tied
        for module in self._modules_of_task():
            shares: dict[str, Any] = {
                name: p for name, p in module._parameters.items() if isinstance(p, DTensor)
            }
            if not (_be_plain(module) or shares):
                continue
            for hooks in _HOOKS:
                getattr(module, hooks).clear()
            vars(module).pop(_JUDGE, None)  # that of the class is left
            for name, share in shares.items():
                if share not in found:
                    found[share] = nn.Parameter(whole(share), requires_grad=share.requires_grad)
                module.register_parameter(name, found[share])

    def _modules_of_task(self) -> Iterator[nn.Module]:
        return iter(()) if self.lightning_module is None else self.lightning_module.modules()


def shard(model: nn.Module, device: torch.device) -> None:
    """Share out a model's parameters among all processes, block by block.

    Args:
        model: Its `forward` gathers what is not a block's, and its `judge` if it has one.
        device: Of this process.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    marks = {name: dict(vars(parameter)) for name, parameter in model.named_parameters()}
    for module in model.modules():
        if isinstance(module, Block | SharedTransformer):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if hasattr(model, _JUDGE):
        register_fsdp_forward_method(model, _JUDGE)
    for name, parameter in model.named_parameters():
        vars(parameter).update(marks[name])  # what the optimiser must know, see `parameter_groups`


def let_go(module: nn.Module) -> None:
    """Free what was gathered: after a pass without a backward the outermost parameters still are whole."""
    for each in module.modules():
        if isinstance(each, FSDPModule):
            each.reshard()


def _be_plain(module: nn.Module) -> bool:
    """Undo the change of class that `fully_shard` makes; returns whether there was one."""
    shared_out = isinstance(module, FSDPModule)
    if shared_out:
        module.__class__ = type(module).__bases__[1]  # the first is FSDPModule
    return shared_out


def whole(value: Any) -> Any:
    """Return all of a tensor that is shared out, on every device; anything else as it is. All must ask."""
    # of uneven shares it is a view of something larger
    return value.full_tensor().clone() if isinstance(value, DTensor) else value


def share_like(value: Any, parameter: Tensor) -> Any:
    """Return this device's share of a whole tensor, as a parameter of its shape is shared out."""
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor):
        return value
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


StrategyRegistry.register(NAME, ShardedStrategy, description="parameters shared out among devices")
