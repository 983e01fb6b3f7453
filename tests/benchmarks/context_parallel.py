"""Several GPUs of one host: correctness over NCCL, context parallel, data parallel, and a killed rank.

``python tests/benchmarks/context_parallel.py --out FOLDER`` runs all of it on the GPUs of this machine and
writes ``results.json`` and ``results.md``. Each measurement runs in processes of its own, so that one that
runs out of memory ends alone. ``--tiny`` runs small sizes on the CPU, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from context_parallel_faults import kill_and_resume
from context_parallel_tables import markdown

from seqmamba.atomic import atomic_path
from seqmamba.benchmarks.floors import nvidia_smi

_WORKER = Path(__file__).with_name("context_parallel_worker.py")
LENGTHS = (2**17, 2**20, 2**22, 2**24)
TINY_LENGTHS = (2**8, 2**9)


def launch(stage: str, size: int, out: Path, options: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run a stage of the worker on some ranks; its lines of JSON are the result.

    Args:
        stage: See `context_parallel_worker`.
        size: Number of ranks.
        out: Folder of the log and of the lines.
        options: More words for the worker.
        seconds: After which it is ended.
    """
    lines = out / f"{stage}_{size}.jsonl"
    lines.unlink(missing_ok=True)
    log = out / f"{stage}_{size}.log"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)),
        *(str(_WORKER), stage, str(lines), *options),
    ]
    start = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment())
        try:
            status: int | str = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its workers
            process.wait(60)
            status = "out of time"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return {
        "stage": stage,
        "ranks": size,
        "status": status,
        "seconds": time.monotonic() - start,
        "rows": rows,
    }


def environment() -> dict[str, str]:
    """NVLink multicast stays off."""
    return {**os.environ, "NCCL_NVLS_ENABLE": "0", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "4")}


def main() -> None:
    """Run every stage that there is time for, and write what was found after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    most = 2 if given.tiny else torch.cuda.device_count()
    sizes = [size for size in (1, 2, 4, 8) if size <= most]
    tiny = ["--tiny"] if given.tiny else []
    lengths = [str(length) for length in (TINY_LENGTHS if given.tiny else LENGTHS)]
    name = "CPU" if given.tiny else torch.cuda.get_device_name()
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "ranks": sizes, "stages": []}
    if not given.tiny:
        found["driver"] = nvidia_smi(0, "driver_version")
    plan = [("context", size, lengths) for size in sizes]
    plan += [("correct", size, []) for size in sizes[1:]]
    plan += [("data", size, []) for size in sizes]
    for stage, size, words in plan:
        found["stages"].append(launch(stage, size, given.out, [*tiny, *words], end - time.monotonic()))
        _write(given.out, found)
    if most > 1:
        found["fault"] = kill_and_resume(given.out, given.tiny, end)
    _write(given.out, found)
    print((given.out / "results.md").read_text())


def _write(out: Path, found: dict[str, Any]) -> None:
    for name, text in (("results.json", json.dumps(found, indent=1)), ("results.md", markdown(found))):
        with atomic_path(out / name) as part:
            part.write_text(text + "\n")


if __name__ == "__main__":
    main()
