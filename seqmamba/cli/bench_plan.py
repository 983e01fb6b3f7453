"""``seqmamba bench plan``: how fast a pretraining would be on many GPUs, and whether it fits."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmamba.errors import UserError

if TYPE_CHECKING:
    from seqmamba.benchmarks.plan import Estimate, Job
    from seqmamba.benchmarks.plan_model import Workload

_COLUMNS = {
    "GPUs": 5,
    "data": 5,
    "context": 8,
    "parameters": 11,
    "activations": 12,
    "tokens/step": 14,
    "tokens/s": 14,
    "days": 9,
    "GiB/GPU": 8,
}
_GPUS = (8, 16, 32, 64, 128, 256, 512)
_BOTH_STRANDS = ("equivariant", "conjoin")


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Add the sub-verb's options."""
    verb.add_argument("--config", metavar="RECIPE", help="take model, length and tokens from a recipe")
    verb.add_argument("--d-model", type=int, metavar="N", help="channels of the model (256)")
    verb.add_argument("--layers", type=int, metavar="N", help="blocks (16)")
    verb.add_argument("--direction", choices=("causal", "bidirectional"), help="of the model (bidirectional)")
    verb.add_argument("--strands", type=int, metavar="N", help="2 if the model reads both strands of DNA (1)")
    verb.add_argument("--length", type=int, metavar="N", help="tokens of a window (131072)")
    verb.add_argument("--tokens", type=float, metavar="N", help="tokens to train on (1e12)")
    verb.add_argument(
        "--batch", type=int, metavar="N", help="tokens of an optimiser step; what the GPUs hold if left out"
    )
    verb.add_argument("--gpu", default="H100", metavar="NAME", help="kind of GPU (H100)")
    verb.add_argument("--gpus", type=int, nargs="+", default=list(_GPUS), metavar="N", help="how many")
    verb.add_argument("--node", type=int, default=8, metavar="N", help="GPUs of a node (8)")
    verb.add_argument(
        "--within", type=float, default=300.0, metavar="GB/S", help="a GPU's bandwidth within a node (300)"
    )
    verb.add_argument(
        "--between", type=float, default=50.0, metavar="GB/S", help="a GPU's bandwidth between nodes (50)"
    )
    verb.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Plan and print.

    Returns:
        0.

    Raises:
        UserError: If nothing fits, or nothing like it was measured.
    """
    from seqmamba.benchmarks.plan import plan
    from seqmamba.benchmarks.plan_fit import fit, leave_one_out, read_points
    from seqmamba.benchmarks.plan_model import Links, Model
    from seqmamba.nn.options import require, require_whole

    require_whole("--node", args.node)
    for name in ("within", "between"):
        require(getattr(args, name) > 0, f"--{name}", "a number > 0", getattr(args, name))
    rates, points, memory = read_points()
    if args.gpu not in memory:
        raise UserError(f"--gpu: expected one of {', '.join(memory)}, got {args.gpu}")
    job = _job(args)
    links = Links(args.node, args.within * 1e9, args.between * 1e9)
    constants = fit(rates, points)
    found = plan(job, Model(rates, constants, links), memory[args.gpu], args.gpus)
    notes = _notes(args, sorted({point.gpu for point in points}), max(p.layout.gpus for p in points))
    times, memories = leave_one_out(rates, points)
    if args.json:
        errors = {
            name: [asdict(error) | {"relative": error.relative} for error in each]
            for name, each in (("seconds", times), ("gib", memories))
        }
        document = {
            "job": asdict(job),
            "gpu": args.gpu,
            "links": asdict(links),
            "constants": asdict(constants),
            "estimates": [asdict(each) | {"groups": each.layout.groups} for each in found],
            "leave_one_out": errors,
            "notes": notes,
        }
        print(json.dumps(document, indent=1))
        return 0
    from seqmamba.benchmarks.plan_fit import describe

    print(_table(job, args.gpu, found))
    print()
    print(f"error of time, each point predicted from the others: {describe(times, '{:.3f} s'.format)}")
    print(f"error of memory: {describe(memories, '{:.1f} GiB'.format)}")
    print("\n".join(notes))
    return 0


def _job(args: argparse.Namespace) -> Job:
    """Put the options over what a recipe says, and both over the defaults."""
    from seqmamba.backbones import BackboneConfig
    from seqmamba.benchmarks.plan import Job
    from seqmamba.benchmarks.plan_model import Workload

    backbone: dict[str, Any] = {"d_model": 256, "n_layers": 16, "direction": "bidirectional"}
    sizes: dict[str, Any] = {"strands": 1, "length": 131_072, "tokens": 1e12}
    if args.config is not None:
        of_recipe, sizes_of_recipe = _recipe(args.config)
        backbone, sizes = of_recipe, sizes | sizes_of_recipe
    given = {"d_model": args.d_model, "n_layers": args.layers, "direction": args.direction}
    backbone |= {name: value for name, value in given.items() if value is not None}
    sizes |= {name: getattr(args, name) for name in sizes if getattr(args, name) is not None}
    workload: Workload = Workload(BackboneConfig(**backbone), sizes["length"], sizes["strands"])
    return Job(workload, int(sizes["tokens"]), args.batch)


def _recipe(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a recipe says of the backbone, and of length, strands and tokens on one device.

    Raises:
        UserError: If there is no such recipe, or it has no backbone.
    """
    import yaml

    from seqmamba.cli.recipes import find_config

    path = Path(name).expanduser()
    if not path.is_file():
        found = find_config(name)
        if found is None:
            raise UserError(f"--config {name}: there is neither such a file nor such a recipe")
        path = found
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    model = _section(recipe, "model", "init_args", "model")
    backbone = _section(model, "backbone")
    if "d_model" not in backbone or "n_layers" not in backbone:
        raise UserError(
            f"--config {name}: expected model.init_args.model.backbone with d_model and n_layers",
            hint="say them with --d-model and --layers instead",
        )
    sizes: dict[str, Any] = {"strands": 2 if model.get("strand") in _BOTH_STRANDS else 1}
    windows = _section(recipe, "data", "init_args", "windows")
    if "length" in windows:
        sizes["length"] = windows["length"]
    counts: list[Any] = [
        windows.get("tokens_per_batch"),
        windows.get("steps_per_epoch"),
        _section(recipe, "trainer").get("max_epochs"),
    ]
    if all(isinstance(count, int) for count in counts):
        sizes["tokens"] = math.prod(counts)
    return dict(backbone), sizes


def _section(content: Any, *keys: str) -> Mapping[str, Any]:
    """Return a section of a recipe, an empty one if it is not there."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content if isinstance(content, Mapping) else {}


def _table(job: Job, gpu: str, found: list[Estimate]) -> str:
    """Return the estimates; ``*`` marks the fastest of each number of GPUs."""
    config, workload = job.workload.backbone, job.workload
    head = (
        f"{config.n_layers} blocks of {config.d_model} channels, {config.direction}, "
        f"{workload.strands} strand{'s' * (workload.strands > 1)}; windows of {workload.length:,} tokens, "
        f"{job.tokens:.3g} in all; {gpu}"
    )
    fastest = {
        count: max((e for e in found if e.layout.gpus == count), key=lambda e: e.tokens_a_second)
        for count in {each.layout.gpus for each in found}
    }
    rows = [_aligned(tuple(_COLUMNS))]
    for each in found:
        layout = each.layout
        cells = (
            f"{layout.gpus}",
            f"{layout.groups}",
            f"{layout.context}",
            "sharded" if layout.sharded else "whole",
            "recomputed" if layout.recompute else "kept",
            f"{each.tokens_a_step:,}",
            f"{each.tokens_a_second:,.0f}",
            f"{each.days:.3g}",
            f"{each.gib:.1f}",
        )
        rows.append(_aligned(cells) + (" *" if fastest[layout.gpus] is each else ""))
    return "\n".join([head, *rows])


def _aligned(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, _COLUMNS.values(), strict=True))


def _notes(args: argparse.Namespace, measured: list[str], most: int) -> list[str]:
    """Say what the estimates rest on."""
    notes = [
        f"measured on at most {most} GPUs; more of them, and links of {args.within:g} GB/s within a node of "
        f"{args.node} and {args.between:g} GB/s between nodes, are taken as stated"
    ]
    if args.gpu not in measured:
        where = ", ".join(measured)
        notes.append(f"whole steps were measured on {where} only: {args.gpu} is taken to be as fast")
    return notes
