"""``seqmamba check``: measures on any saved model what its mode of use takes for granted."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmamba.cli.arguments import add_device, add_model

if TYPE_CHECKING:
    from seqmamba.inference.checks import Check

HELP = "check a model: modes agree, causality, padding, finite, both strands, drift"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser, metavar="CKPT")
    parser.add_argument("--length", type=int, help="positions of the training sequences, if it does not know")
    parser.add_argument(
        "--steps", type=int, default=1_000_000, help="positions over which states are watched"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    add_device(parser, default="cpu")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Check a model and print a line a finding.

    Returns:
        0 when nothing failed, 1 otherwise.
    """
    import seqmamba
    from seqmamba.inference.checks import check_model
    from seqmamba.training.hardware import find_device, limit_threads
    from seqmamba.training.run_folder import RunFolder

    limit_threads()
    device = find_device(args.device)
    pretrained = RunFolder(Path(args.model).expanduser()).pretrained
    model = seqmamba.from_pretrained(pretrained if pretrained.is_dir() else args.model).to(device)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.model}: {type(model).__name__}, {size:,} parameters, on {device}", file=sys.stderr)
    found = []
    for check in check_model(model, length=args.length, steps=args.steps, seed=args.seed):
        found.append(check)
        if not args.json:
            print(_line(check), flush=True)
    failed = [check for check in found if check.outcome == "fail"]
    if args.json:
        content = {"model": args.model, "ok": not failed, "checks": [_plain(check) for check in found]}
        print(json.dumps(content, indent=2))
    for check in failed:
        print(f"error: {check.name}: {check.measured:.3g} is above {check.limit:.3g}", file=sys.stderr)
    return int(bool(failed))


def _plain(check: Check) -> dict[str, Any]:
    """The check as JSON, which has no word for a number that is none."""
    content = asdict(check)
    if check.measured is not None and not math.isfinite(check.measured):
        content["measured"] = str(check.measured)
    return content


def _line(check: Check) -> str:
    measured = "" if check.measured is None else f"{check.measured:.2g}"
    limit = "" if check.limit is None else f"<= {check.limit:.2g}"
    return f"  {check.outcome:4}  {check.name:25} {measured:>8} {limit:>10}  {check.detail}"
