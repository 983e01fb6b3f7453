"""Two processes with half a batch each have the gradients of one process with the whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from composed import assert_same, backbone_on, features
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

MODES: dict[str, dict[str, Any]] = {
    "plain": {"find_unused_parameters": False},
    "static": {"static_graph": True},
    "compiled": {},
    "checkpointed": {"static_graph": True},
    "sharded": {},
}


def mean_gradients(model: nn.Module, run: Any, x: Tensor, passes: int) -> dict[str, Tensor]:
    for _ in range(passes):  # a static graph is learnt in the first
        model.zero_grad()
        (run(x) * x.cos()).mean().backward()
    found = {}
    for name, parameter in model.named_parameters():
        gradient: Any = parameter.grad
        assert gradient is not None, name
        found[name] = (gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient).cpu()
    return found


def replicate(rank: int, rendezvous: str, results: str, device: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    x = features(21, device, batch=4).chunk(2)[rank]
    found = {}
    for mode, options in MODES.items():
        if mode == "sharded" and device != "cpu":
            continue  # two processes on one GPU can only talk through gloo, which does not shard there
        backbone = backbone_on(
            device, n_layers=1, direction="bidirectional", checkpoint_activations=mode == "checkpointed"
        )
        run: Any
        if mode == "sharded":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(device, (2,))
            for layer in backbone.layers:
                fully_shard(layer, mesh=mesh)
            run = fully_shard(backbone, mesh=mesh)
        else:
            run = DistributedDataParallel(backbone, **options)
        if mode == "compiled":
            run = torch.compile(run, dynamic=True, backend="aot_eager")
        found[mode] = mean_gradients(backbone, run, x, passes=2)
    if rank == 0:
        torch.save(found, results)
    dist.destroy_process_group()


def test_gradients_are_those_of_the_whole_batch(tmp_path: Path, device: str) -> None:
    results = tmp_path / "gradients.pt"
    context = torch.multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=replicate, args=(rank, str(tmp_path / "rendezvous"), str(results), device))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    backbone = backbone_on(device, n_layers=1, direction="bidirectional")
    expected = mean_gradients(backbone, backbone, features(21, device, batch=4), passes=1)
    found = torch.load(results)
    assert found.keys() == MODES.keys() - (set() if device == "cpu" else {"sharded"})
    for gradients in found.values():
        assert_same(gradients, expected, 1e-5)
