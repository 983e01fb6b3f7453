"""One rank of `context_parallel`: ``torchrun context_parallel_worker.py STAGE LINES [--tiny] [LENGTH ...]``.

``correct`` compares ranks with one process, ``context`` times windows that all ranks share out, ``data`` a
window a rank. Rank 0 adds a line of JSON to LINES for each row.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genomics.alphabet import A, T
from genomics.datasets.genome_batches import GenomeBatch
from genomics.pretraining import Objectives, PretrainingConfig, build_model
from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.distributed import ContextGroup, own_piece
from seqmamba.nn import AttentionOptions
from seqmamba.nn.context import spread_context
from seqmamba.training.sharding import shard

_MIXERS = ("mamba", "mamba2", "s4", "attention", ("mamba", "attention+mlp"))
_CORRECT_LENGTH = 4099
_TRAIN_LENGTH = 131_072
_GIB = 2**30


class Learner(nn.Module):
    """The equivariant model of 7.7 million parameters and its loss."""

    def __init__(self, tiny: bool, recompute: bool, context: ContextGroup | None) -> None:
        super().__init__()
        width, depth = (16, 2) if tiny else (256, 16)
        backbone = BackboneConfig(
            width, n_layers=depth, direction="bidirectional", checkpoint_activations=recompute
        )
        config = PretrainingConfig(backbone=backbone, strand="equivariant")
        self.model = build_model(config)
        self.objectives = Objectives(self.model, config)
        self.objectives.share(context)

    def forward(self, batch: GenomeBatch) -> Tensor:
        """Return the loss of a batch."""
        return self.objectives.loss(self.objectives.ask(batch, training=True))


def window(length: int, device: torch.device, seed: int) -> GenomeBatch:
    """One window of random bases."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(A, T + 1, (1, length), generator=draw).to(torch.uint8)
    return {
        "tokens": tokens.to(device),
        "lower": torch.zeros(1, length, dtype=torch.bool, device=device),
        "lengths": None,
        "keys": torch.tensor([seed], device=device),
        "genome": torch.zeros(1, dtype=torch.long, device=device),
        "fresh": torch.ones(1, dtype=torch.bool, device=device),
    }


def autocast(device: torch.device, wanted: bool = True) -> Any:
    """Bfloat16 on a GPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def timed(step: Callable[[], None], steps: int, device: torch.device) -> dict[str, Any]:
    """Seconds of a step after one to warm up, the most memory, and what of a step went into communication."""
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    dist.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = torch.tensor((time.perf_counter() - start) / steps, device=device, dtype=torch.float64)
    dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
    found: dict[str, Any] = {"seconds": seconds.item()}
    if device.type == "cuda":
        peak = torch.tensor(torch.cuda.max_memory_allocated(), device=device, dtype=torch.float64)
        dist.all_reduce(peak, op=dist.ReduceOp.MAX)
        found |= {"peak_gib": peak.item() / _GIB, "communication_seconds": communication(step)}
    return found


def communication(step: Callable[[], None]) -> float:
    """Seconds that NCCL's kernels of one step ran on this rank, waiting for the other ranks included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    return sum(e.device_time_total for e in profile.key_averages() if "nccl" in e.key.lower()) / 1e6


def training(learner: nn.Module, batch: GenomeBatch, device: torch.device) -> Callable[[], None]:
    """Return a function that does one training step."""
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with autocast(device):
            loss = learner(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def context_stage(rank: ContextGroup, device: torch.device, tiny: bool, lengths: list[int], say: Any) -> None:
    """Windows that all ranks share out, with activations kept where they fit, and recomputed."""
    for length in lengths:
        for recompute in (False, True) if length <= 2**20 else (True,):
            kept = length // rank.size > 2**18 and not recompute
            if kept:
                continue  # would not fit
            torch.manual_seed(0)
            context = rank if rank.size > 1 else None
            learner: nn.Module = Learner(tiny, recompute, context).to(device)
            if rank.size > 1:
                learner = DistributedDataParallel(learner)
            steps = 1 if length >= 2**22 else 2 if length >= 2**20 else 5
            found = timed(training(learner, window(length, device, 0), device), steps, device)
            say({"length": length, "recompute": recompute, "tokens_s": length / found["seconds"], **found})
            del learner
            if device.type == "cuda":
                torch.cuda.empty_cache()


def data_stage(rank: ContextGroup, device: torch.device, tiny: bool, say: Any) -> None:
    """A window on each rank: replicas, and parameters shared out."""
    length = 256 if tiny else _TRAIN_LENGTH
    for kind in ("replicas", "sharded"):
        torch.manual_seed(0)
        learner: nn.Module = Learner(tiny, False, None).to(device)
        if rank.size > 1 and kind == "replicas":
            learner = DistributedDataParallel(learner)
        elif kind == "sharded":
            shard(learner, device)
        found = timed(training(learner, window(length, device, rank.rank), device), 5, device)
        say({"kind": kind, "length": length, "tokens_s": rank.size * length / found["seconds"], **found})
        del learner


def gradients(
    options: dict[str, Any], x: Tensor, context: ContextGroup | None, mixed: bool
) -> tuple[Tensor, Tensor]:
    """The loss, and the gradients of all parameters in one vector, of all ranks together."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(**options)).to(x.device)
    spread_context(backbone, context)
    with autocast(x.device, mixed):
        y = backbone(own_piece(context, x)).float()
    weight = own_piece(context, torch.linspace(1, 2, x.shape[1], device=x.device)[None, :, None])
    loss = (y.square() * weight).mean() * y.shape[1] / x.shape[1]
    loss.backward()
    flat = torch.cat([each.grad.flatten() for each in backbone.parameters() if each.grad is not None])
    if context is None:
        return loss.detach(), flat
    return context.sum(loss.detach()), context.sum(flat)


def correct_stage(rank: ContextGroup, device: torch.device, tiny: bool, say: Any) -> None:
    """Loss and gradients of all ranks against one process, relative to its float32 gradient."""
    width, length = (64, 67) if tiny else (256, _CORRECT_LENGTH)
    x = torch.randn(1, length, width, generator=torch.Generator().manual_seed(0)).to(device)
    for mixer in _MIXERS:
        for direction in ("causal", "bidirectional"):
            options = {
                "d_model": width,
                "n_layers": 2,
                "mixer": mixer,
                "direction": direction,
                "attention": AttentionOptions(n_heads=4),
            }
            exact = gradients(options, x, None, False)
            for mixed in (False, True):
                alone = gradients(options, x, None, True) if mixed else exact
                loss, gradient = gradients(options, x, rank, mixed)
                norm = exact[1].norm()
                say(
                    {
                        "mixer": "+".join(mixer) if isinstance(mixer, tuple) else mixer,
                        "direction": direction,
                        "dtype": "bfloat16" if mixed else "float32",
                        "loss_difference": abs(float(loss / alone[0]) - 1),
                        "gradient_difference": float((gradient - alone[1]).norm() / norm),
                        "error_of_one_process": float((alone[1] - exact[1]).norm() / norm),
                        "error_of_ranks": float((gradient - exact[1]).norm() / norm),
                    }
                )


def main() -> None:
    """Meet the other ranks and run a stage."""
    stage, lines, *words = sys.argv[1:]
    tiny = "--tiny" in words
    device = torch.device("cpu") if tiny else torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if not tiny:
        torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = False
    dist.init_process_group(
        "gloo" if tiny else "nccl",
        timeout=timedelta(seconds=120),
        device_id=None if tiny else device,
    )
    rank = ContextGroup.of()

    def say(row: dict[str, Any]) -> None:
        if rank.first:
            with Path(lines).open("a") as file:
                file.write(json.dumps(row) + "\n")

    if stage == "context":
        lengths = [int(word) for word in words if word != "--tiny"]
        context_stage(rank, device, tiny, lengths, say)
    elif stage == "data":
        data_stage(rank, device, tiny, say)
    else:
        correct_stage(rank, device, tiny, say)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
