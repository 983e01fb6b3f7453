"""The checks behind ``seqmamba doctor``.

A check must survive the thing it checks being broken, so everything heavy is imported inside.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from seqmamba.cli.finding import Finding, first_line

REQUIRED = ("torch", "lightning", "numpy", "numba", "jsonargparse", "torchmetrics", "safetensors", "pyfaidx")
OPTIONAL = ("torchaudio", "triton", "mamba-ssm", "causal-conv1d")
LEAST_FREE = 2 * 2**30
"""Bytes that a prepared dataset and a few runs need."""


def examine() -> list[Finding]:
    """Run all checks, in the order in which they are to be read."""
    findings = [*_versions(), _torchaudio(), *_plug_ins()]
    if any(not finding.ok and finding.name == "torch" for finding in findings):
        return [*findings, *_folders()]
    from seqmamba.cli.device_diagnosis import examine_devices

    return [*findings, *examine_devices(), *_operators(), *_folders()]


def _versions() -> list[Finding]:
    findings = [
        Finding("versions", "seqmamba", version("seqmamba")),
        Finding("versions", "python", f"{platform.python_version()} on {platform.platform()}"),
    ]
    for package in REQUIRED:
        try:
            importlib.import_module(package)
            findings.append(Finding("versions", package, version(package)))
        except Exception as failure:  # a broken binary package raises anything
            fix = f"install it again: pip install --force-reinstall {package}"
            findings.append(Finding("versions", package, first_line(failure), ok=False, fix=fix))
    for package in OPTIONAL:
        try:
            findings.append(Finding("versions", package, version(package)))
        except PackageNotFoundError:
            findings.append(Finding("versions", package, "not installed (optional)"))
    return findings


def _torchaudio() -> Finding:
    """Import torchaudio, which refuses beside a torch that was built for another CUDA."""
    name = "torchaudio with torch"
    try:
        importlib.import_module("torchaudio")
    except ModuleNotFoundError as failure:
        fix = "install it: pip install torchaudio"
        return Finding("versions", name, first_line(failure), ok=False, fix=fix)
    except Exception as failure:
        pair = " and ".join(f"{package} {_version(package)}" for package in ("torchaudio", "torch"))
        return Finding(
            "versions",
            name,
            f"{pair} do not fit: {first_line(failure)}",
            ok=False,
            fix="install torch and torchaudio of one CUDA version together: pip install --upgrade seqmamba",
        )
    return Finding("versions", name, "they fit")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _plug_ins() -> list[Finding]:
    findings = []
    for entry in sorted(entry_points(group="seqmamba.verbs"), key=lambda entry: entry.name):
        try:
            module = entry.load()
            for name in module.VERBS.values():
                importlib.import_module(name)
            findings.append(Finding("commands", f"seqmamba {entry.name}", ", ".join(module.VERBS)))
        except Exception as failure:
            fix = f"install the package that brings {entry.value} again"
            findings.append(
                Finding("commands", f"seqmamba {entry.name}", first_line(failure), ok=False, fix=fix)
            )
    return findings


def _operators() -> list[Finding]:
    import torch

    try:
        from seqmamba.cli.implementations import examine_implementations
        from seqmamba.cli.operator_check import check_operators

        used = examine_implementations()
        devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
        verdicts = [verdict for device in devices for verdict in check_operators(device)]
    except Exception as failure:
        return [
            Finding("operators", "self-test", first_line(failure), ok=False, fix="install seqmamba again")
        ]
    checked = [
        Finding(
            "operators",
            f"{verdict.operator} {verdict.impl} {verdict.device}{' (default)' if verdict.default else ''}",
            verdict.detail,
            ok=verdict.ok,
            fix=None if verdict.ok else 'report it; until then use scan_impl="chunked"',
        )
        for verdict in verdicts
    ]
    return [*checked, *used]


def _folders() -> list[Finding]:
    from seqmamba.paths import DATA_VARIABLE, KERNELS_VARIABLE, data_dir, kernels_dir

    return [
        _folder("data cache", data_dir(), f"set {DATA_VARIABLE} to a folder that can be written to"),
        _folder(
            "compiled kernels", kernels_dir(), f"set {KERNELS_VARIABLE} to a folder that can be written to"
        ),
        _folder(
            "temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder that can be written to"
        ),
    ]


def _folder(name: str, path: Path, fix: str) -> Finding:
    """Check a folder, or the nearest one above it that exists, without creating anything that stays."""
    try:
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"seqmamba")
    except OSError as failure:
        return Finding("folders", name, f"{path}: {failure.strerror}", ok=False, fix=fix)
    free = shutil.disk_usage(existing).free
    detail = f"{path}, {free / 2**30:.1f} GiB free"
    if free < LEAST_FREE:
        fix = f"free some space there, or {fix}"
        return Finding("folders", name, f"{detail}, {LEAST_FREE / 2**30:.0f} wanted", ok=False, fix=fix)
    return Finding("folders", name, detail)


def describe_process() -> dict[str, str]:
    """Return the settings from outside that change how seqmamba runs, for the JSON report."""
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SEQMAMBA_DATA", "NUMBA_CACHE_DIR")
    return {"executable": sys.executable, **{name: os.environ[name] for name in names if name in os.environ}}
