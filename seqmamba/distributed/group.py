"""The processes that share out sequences among themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from seqmamba.errors import UserError

# Their newer names; PyTorch before 2.14 knows the older ones only.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@dataclass(frozen=True)
class ContextGroup:
    """Ranks that hold consecutive pieces of the same sequences, rank 0 the first one.

    Args:
        group: Their process group.
        rank: This process, from 0.
        size: Number of ranks.
    """

    group: dist.ProcessGroup
    rank: int
    size: int

    @classmethod
    def of(cls, group: dist.ProcessGroup | None = None) -> ContextGroup:
        """Return the context of a process group, by default of all processes.

        Raises:
            UserError: If torch.distributed has not been set up.
        """
        if not dist.is_initialized():
            raise UserError(
                "context: the processes do not know each other yet",
                hint="call torch.distributed.init_process_group first, or start with torchrun",
            )
        group = dist.group.WORLD if group is None else group
        assert group is not None
        return cls(group, dist.get_rank(group), dist.get_world_size(group))

    @property
    def first(self) -> bool:
        """Whether this rank holds the first piece."""
        return self.rank == 0

    @property
    def last(self) -> bool:
        """Whether this rank holds the last piece."""
        return self.rank == self.size - 1

    def __deepcopy__(self, memo: dict[int, Any]) -> ContextGroup:
        return self  # a copy of a model talks to the same processes

    @torch.no_grad()
    def gather(self, x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, ranks * shape]:
        """Return what every rank has; shapes and dtypes are the same everywhere. No gradient flows.

        Args:
            x: This rank's.
        """
        if x.is_complex():
            return torch.view_as_complex(self.gather(torch.view_as_real(x)))
        if x.dtype == torch.bool:
            return self.gather(x.to(torch.uint8)).bool()
        parts = x.new_empty(self.size, *x.shape)
        # one axis: the backend joins along the first one, which a scalar lacks
        _all_gather(parts.flatten(), x.contiguous().flatten(), group=self.group)
        return parts

    @torch.no_grad()
    def sum_of_parts(self, parts: Shaped[Tensor, ranks * shape]) -> Shaped[Tensor, "*shape"]:
        """Add up over the ranks what they have for each, and return what they have for this one.

        Args:
            parts: What this rank has for every rank.
        """
        if parts.is_complex():
            return torch.view_as_complex(self.sum_of_parts(torch.view_as_real(parts)))
        own = parts.new_empty(parts.shape[1:])
        _reduce_scatter(own.flatten(), parts.contiguous().flatten(), group=self.group)
        return own

    @torch.no_grad()
    def sum(self, x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """Return the sum over the ranks.

        Args:
            x: This rank's.
        """
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total

    def lengths(self, own: int, device: torch.device) -> list[int]:
        """Return the length of every rank's piece. The host waits for the device.

        Args:
            own: Of this rank's.
            device: Where the ranks' tensors are.
        """
        return self.gather(torch.tensor(own, device=device)).tolist()


def is_distributed() -> bool:
    """Tell whether torch.distributed has been set up, for one process or several."""
    return dist.is_available() and dist.is_initialized()


def mean_over_processes(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return the mean over all processes, without a gradient; x itself of one.

    Divided by the mean count of all, sums have a mean over the processes that is the mean of everything, as
    data parallel training takes it: it does not matter how samples of unlike weight are shared out.

    Args:
        x: This process's, of a floating-point type.
    """
    if not is_distributed():
        return x
    everyone = ContextGroup.of()
    return everyone.sum(x.detach()) / everyone.size
