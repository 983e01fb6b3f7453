"""``seqmamba doctor``: says what is installed, what would run, and what is wrong."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from seqmamba.cli.diagnosis import describe_process, examine
from seqmamba.cli.finding import Finding

HELP = "check the installation: versions, devices, operators, folders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings.

    Returns:
        0 when everything is in order, 1 otherwise.
    """
    findings = examine()
    problems = [finding for finding in findings if not finding.ok]
    if args.json:
        content = {
            "ok": not problems,
            "process": describe_process(),
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(content, indent=2))
        return int(bool(problems))
    _print_table(findings)
    for finding in problems:
        print(f"error: {finding.name}: {finding.detail}", file=sys.stderr)
        print(f"hint: {finding.fix}", file=sys.stderr)
    if not problems:
        print("\neverything is in order")
    return int(bool(problems))


def _print_table(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    group = None
    for finding in findings:
        if finding.group != group:
            group = finding.group
            print(group)
        print(f"  {'ok ' if finding.ok else 'BAD'}  {finding.name:{width}}  {finding.detail}")
    sys.stdout.flush()
