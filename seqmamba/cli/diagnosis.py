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
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

REQUIRED = ("torch", "lightning", "numpy", "numba", "jsonargparse", "torchmetrics", "safetensors", "pyfaidx")
OPTIONAL = ("torchaudio", "triton", "mamba-ssm", "causal-conv1d")
LEAST_FREE = 2 * 2**30
"""Bytes that a prepared dataset and a few runs need."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        group: Heading that it is listed under.
        name: What was looked at.
        detail: What was found.
        ok: Whether it is as it should be.
        fix: What to do when it is not.
    """

    group: str
    name: str
    detail: str
    ok: bool = True
    fix: str | None = None


def examine() -> list[Finding]:
    """Run all checks, in the order in which they are to be read."""
    findings = [*_versions(), _torchaudio(), *_plug_ins()]
    if any(not finding.ok and finding.name == "torch" for finding in findings):
        return [*findings, *_folders()]
    return [*findings, *_devices(), *_operators(), *_folders()]


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
            findings.append(Finding("versions", package, _first_line(failure), ok=False, fix=fix))
    for package in OPTIONAL:
        try:
            findings.append(Finding("versions", package, version(package)))
        except PackageNotFoundError:
            findings.append(Finding("versions", package, "not installed (optional)"))
    return findings


def _torchaudio() -> Finding:
    """Import torchaudio, which refuses beside a torch that was built for another CUDA."""
    try:
        importlib.import_module("torchaudio")
    except Exception as failure:
        return Finding(
            "versions",
            "torchaudio with torch",
            _first_line(failure),
            ok=False,
            fix="install torch and torchaudio of one CUDA version together: pip install --upgrade seqmamba",
        )
    return Finding("versions", "torchaudio with torch", "they fit")


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
                Finding("commands", f"seqmamba {entry.name}", _first_line(failure), ok=False, fix=fix)
            )
    return findings


def _devices() -> list[Finding]:
    import torch

    from seqmamba.training.hardware import available_cores

    cores = available_cores()
    threads = torch.get_num_threads()
    findings = [Finding("devices", "cpu", f"{cores} usable cores, {threads} threads by default")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        detail = f"{properties.name}, {memory}, compute capability {properties.major}.{properties.minor}"
        try:
            torch.ones(8, device=f"cuda:{index}").sum().item()
            findings.append(Finding("devices", f"cuda:{index}", detail))
        except Exception as failure:
            fix = "install a torch that was built for this GPU and driver"
            findings.append(
                Finding("devices", f"cuda:{index}", f"{detail}: {_first_line(failure)}", ok=False, fix=fix)
            )
    if not torch.cuda.device_count():
        findings.append(Finding("devices", "cuda", "none; everything runs on the CPU"))
    return findings


def _operators() -> list[Finding]:
    import torch

    try:
        from seqmamba.cli.operator_check import check_operators

        devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
        verdicts = [verdict for device in devices for verdict in check_operators(device)]
    except Exception as failure:
        return [
            Finding("operators", "self-test", _first_line(failure), ok=False, fix="install seqmamba again")
        ]
    return [
        Finding(
            "operators",
            f"{verdict.operator} {verdict.impl} {verdict.device}{' (default)' if verdict.default else ''}",
            verdict.detail,
            ok=verdict.ok,
            fix=None if verdict.ok else 'report it; until then use scan_impl="chunked"',
        )
        for verdict in verdicts
    ]


def _folders() -> list[Finding]:
    from seqmamba.paths import DATA_VARIABLE, data_dir

    return [
        _folder("data cache", data_dir(), f"set {DATA_VARIABLE} to a folder that can be written to"),
        _folder(
            "temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder that can be written to"
        ),
    ]


def _folder(name: str, path: Path, fix: str) -> Finding:
    """Check a folder, or the nearest one above it that exists, without creating anything that stays."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
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


def _first_line(failure: BaseException) -> str:
    lines = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {lines[0]}" if lines else type(failure).__name__


def describe_process() -> dict[str, str]:
    """Return the settings from outside that change how seqmamba runs, for the JSON report."""
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SEQMAMBA_DATA", "NUMBA_CACHE_DIR")
    return {"executable": sys.executable, **{name: os.environ[name] for name in names if name in os.environ}}
