"""What whole runs take, each in a process of its own: wall time, memory of CPU and GPU; and a table.

A run comes twice in its process: first on a small input, which loads what is loaded once (libraries, the
GPU's context, kernels), then on the input that counts.
"""

from __future__ import annotations

import gc
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from seqmamba.benchmarks.results import read

COLUMNS = ("run", "model", "input", "wall time", "rate", "GPU memory", "CPU memory", "measured")
_ROW = ("run", "model", "input")  # what tells a row from the others


def measure(
    run: Callable[..., float], arguments: Sequence[Any], small: Sequence[Any], device: str, preload: str
) -> dict[str, Any]:
    """Measure one run in a new process that has imported the libraries.

    Args:
        run: Does the work, checks its result and returns how much it did; can be pickled.
        arguments: Of the run that counts.
        small: Arguments of the run in front of it.
        device: ``cpu`` or ``cuda``.
        preload: Module that imports what the run needs.

    Returns:
        ``status``, and ``amount``, ``seconds``, ``cpu_bytes`` (the largest resident set of the process) and
        ``gpu_bytes`` (the most that the allocator handed out; None on a CPU) if it is "ok", else ``detail``.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["lightning", preload])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_measured, run, arguments, small, device).result()
        except Exception as failure:
            return {"status": "OOM" if _ran_out(failure) else "FAIL", "detail": _first_line(failure)}


def _measured(
    run: Callable[..., float], arguments: Sequence[Any], small: Sequence[Any], device: str
) -> dict[str, Any]:
    cuda = device == "cuda"
    run(*small)
    gc.collect()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    amount = run(*arguments)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "status": "ok",
        "amount": amount,
        "seconds": seconds,
        "cpu_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what tells a row from the others."""
    return tuple(row[name] for name in _ROW)


def revision(folder: Path) -> str:
    """Return the commit of a folder that git knows, marked if files were changed since; else ``?``."""
    command = ("git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"


def earlier_rows(path: Path, document: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the good rows of an earlier file, each with its date and revision.

    Args:
        path: A file of the same script.
        document: The document that they go into; what they were measured on has to be the same.
    """
    earlier = read(path)
    for name in ("scale", "models"):
        if earlier[name] != document[name]:
            raise SystemExit(f"--merge {path}: {name} are {earlier[name]} there, here {document[name]}")
    for section, name in (("hardware", "name"), ("versions", "torch")):
        there, here = earlier[section][name], document[section][name]
        if there != here:
            raise SystemExit(f"--merge {path}: was measured with {there}, this is {here}")
    made = {"date": earlier["date"], "revision": earlier["revision"]}
    return {key(row): made | row for row in earlier["rows"] if row["status"] == "ok"}


def markdown(document: dict[str, Any]) -> str:
    """Return a document's rows as a Markdown table, and below it what was measured on what.

    Args:
        document: As a script of this folder wrote it with `seqmamba.benchmarks.results.write`.
    """
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, document["rows"])]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    hardware = document["hardware"]
    threads = "" if hardware["device"] == "cuda" else f", {hardware['threads']} threads"
    models = "; ".join(f"{name}: {text}" for name, text in document["models"].items())
    where = f"{hardware['name']}{threads}, torch {document['versions']['torch']}"
    return f"{table}\n\n{where}. {models}. `{document['command']}` repeats it."


def blocks(text: str, kind: str) -> dict[str, str]:
    """Return what a document has between ``<!-- KIND NAME -->`` and ``<!-- /KIND -->``, by name."""
    return dict(re.findall(rf"<!-- {kind} ([\w.-]+) -->\n(.*?)\n<!-- /{kind} -->", text, flags=re.DOTALL))


def replace_block(document: Path, title: str, content: str) -> None:
    """Put a table between the marks of a document.

    Args:
        document: A Markdown file that has ``<!-- TITLE -->``.
        title: Kind and name, with a space between them.
        content: What to put there.
    """
    text = document.read_text()
    head, mark, rest = text.partition(f"<!-- {title} -->\n")
    end = f"\n<!-- /{title.split()[0]} -->"
    if not mark or end not in rest:
        raise SystemExit(f"{document}: has no block <!-- {title} -->")
    document.write_text(f"{head}{mark}{content}{rest[rest.index(end) :]}")


def _cells(row: dict[str, Any]) -> list[str]:
    place = [row["run"], row["model"], row["input"]]
    made = f"{row['date'][:10]}, {row['revision']}"
    if row["status"] != "ok":
        return [*place, row["status"], "", "", "", made]
    gpu = "" if row["gpu_bytes"] is None else _size(row["gpu_bytes"])
    rate = f"{_three_digits(row['amount'] / row['seconds'])} {row['unit']}/s"
    return [*place, f"{_three_digits(row['seconds'])} s", rate, gpu, _size(row["cpu_bytes"]), made]


def _size(count: int) -> str:
    return f"{_three_digits(count / 2**30)} GiB"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ran_out(failure: BaseException) -> bool:
    # a verb of the command line has only a sentence left of it
    return isinstance(failure, torch.OutOfMemoryError | MemoryError) or "OutOfMemoryError" in str(failure)


def _first_line(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {str(failure).partition(chr(10))[0]}"
