"""``seqmamba bench generate``: time generation, with and without a CUDA graph, beside other packages."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from seqmamba.cli.arguments import add_again, add_device, add_json, add_output
from seqmamba.errors import UserError
from seqmamba.finished import require_new

if TYPE_CHECKING:
    import torch

    from seqmamba.benchmarks.generation import GenerationSettings

_COLUMNS = ("", "batch", "position", "us/step", "tokens/s", "x real time", "state", "peak", "error", "ratio")
_WIDTHS = (12, 5, 8, 8, 9, 11, 8, 8, 7, 6)


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Add the sub-verb's options."""
    verb.add_argument("--d-model", type=int, default=256, help="channels of the model")
    verb.add_argument("--layers", type=int, default=8, help="blocks, or blocks a stage")
    verb.add_argument("--mixer", nargs="+", default=["mamba"], metavar="NAME", help="pattern over the depth")
    verb.add_argument(
        "--pool", nargs="*", type=int, help="poolings between the stages of a multi-scale model"
    )
    verb.add_argument("--vocab", type=int, default=256, help="tokens")
    verb.add_argument("--batch", nargs="+", type=int, default=[1, 64], help="sequences side by side")
    verb.add_argument("--position", nargs="+", type=int, default=[1000], help="tokens taken in before")
    verb.add_argument("--sample-rate", type=int, default=16_000, help="for the column 'x real time'")
    verb.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of weights"
    )
    add_device(verb)
    verb.add_argument(
        "--impls", nargs="+", metavar="NAME", help="graph, steps, mamba-ssm, transformers; all if left out"
    )
    verb.add_argument("--seconds", type=float, default=3.0, help="for the repeats of each row")
    verb.add_argument("--seed", type=int, default=0, help="of weights and prompt")
    add_output(verb, "FILE", "write everything as JSON", required=False)
    add_again(verb, "FILE", resumes=False)
    add_json(verb)


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Returns:
        0, or 1 if a result was wrong or one of our rows failed.
    """
    require_new(args.output, overwrite=args.overwrite)
    from seqmamba.benchmarks.floors import measure_limits
    from seqmamba.benchmarks.generation import PEERS, measure
    from seqmamba.benchmarks.machine import describe_run, load_average
    from seqmamba.benchmarks.results import SCHEMA, write
    from seqmamba.training.hardware import find_device, limit_threads

    limit_threads()
    device = find_device(args.device)
    settings = _settings(args, device)
    model = {"d_model": args.d_model, "layers": args.layers, "mixer": args.mixer, "pool": args.pool}
    header = {
        "schema": SCHEMA,
        "operator": "generate",
        "command": shlex.join(["seqmamba", *sys.argv[1:]]),
        "model": {**model, "vocab": args.vocab},
        "dtype": args.dtype,
        "seed": args.seed,
        "sample_rate": args.sample_rate,
        "load_before": load_average(),
        **describe_run(device, measure_limits(device)),
    }
    out = sys.stderr if args.json else sys.stdout
    print(f"bench generate: {header['hardware']['name']}, {args.dtype}, {header['model']}", file=out)
    print(_aligned(_COLUMNS), file=out, flush=True)
    rows: list[dict[str, Any]] = []
    for row in measure(settings, args.impls):
        rows.append(row)
        print(_line(row, args.sample_rate), file=out, flush=True)
        if args.output is not None:
            write(args.output, {**header, "load_after": load_average(), "rows": rows})
    print(
        f"  (x real time: at {args.sample_rate} tokens a second; ratio: speed over the fastest peer)",
        file=out,
    )
    if args.json:
        print(json.dumps({**header, "load_after": load_average(), "rows": rows}))
    return int(any(row["status"] not in ("ok", "absent") and row["name"] not in PEERS for row in rows))


def _settings(args: argparse.Namespace, device: torch.device) -> GenerationSettings:
    """Turn options into settings."""
    import torch

    from seqmamba.backbones import BackboneConfig, MultiScaleConfig
    from seqmamba.benchmarks.generation import GenerationSettings
    from seqmamba.nn.options import require_whole

    for name in ("batch", "position"):
        for value in getattr(args, name):
            require_whole(f"--{name}", value)
    require_whole("--sample-rate", args.sample_rate)
    if not args.seconds > 0:
        raise UserError(f"bench generate: --seconds must be positive, got {args.seconds}")
    outer = BackboneConfig(args.d_model, args.layers, mixer=tuple(args.mixer))
    return GenerationSettings(
        backbone=MultiScaleConfig(outer, pool=tuple(args.pool)) if args.pool else outer,
        vocab_size=args.vocab,
        device=device,
        dtype=getattr(torch, args.dtype),
        batches=tuple(args.batch),
        positions=tuple(args.position),
        seconds=args.seconds,
        seed=args.seed,
    )


def markdown(document: dict[str, Any]) -> str:
    """A result file as a Markdown table, and below it what was measured on what.

    Args:
        document: As ``-o`` wrote it.
    """
    timed = [row for row in document["rows"] if row["status"] == "ok"]
    table = [_COLUMNS, ("---",) * len(_COLUMNS), *(_cells(row, document["sample_rate"]) for row in timed)]
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    failed = [
        f"{row['name']}, batch {row['batch']}: {row['detail']}"
        for row in document["rows"]
        if row not in timed
    ]
    sizes = ", ".join(f"{name} {size}" for name, size in document["model"].items() if size is not None)
    where = f"{document['hardware']['name']}, {document['dtype']}, torch {document['versions']['torch']}"
    return "\n".join([*lines, "", *failed, f"{where}; {sizes}; `{document['command']}`"])


def _line(row: dict[str, Any], sample_rate: int) -> str:
    """One row of the table; a row without a time says why."""
    if row["status"] == "ok":
        return _aligned(_cells(row, sample_rate))
    return f"{_aligned(_place(row))}  {row['status']}: {row['detail']}"


def _cells(row: dict[str, Any], sample_rate: int) -> tuple[str, ...]:
    peak, ratio = row["peak_bytes"], row["ratio"]
    return (
        *_place(row),
        f"{row['microseconds_per_step']['median']:.1f}",
        f"{row['tokens_per_second']:.0f}",
        f"{row['tokens_per_second'] / row['batch'] / sample_rate:.3g}",
        f"{row['state_bytes'] / 1024:.0f} KB",
        "" if peak is None else f"{peak / 2**20:.0f} MB",
        f"{row['error']:.0e}",
        "" if ratio is None else f"{ratio:.2f}",
    )


def _place(row: dict[str, Any]) -> tuple[str, ...]:
    return row["name"], str(row["batch"]), str(row["position"])


def _aligned(cells: tuple[str, ...]) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join(["", cells[0].ljust(_WIDTHS[0]), *padded[1:]])
