"""Takes what `seqmamba bench plan` knows from the result files.

``python tests/benchmarks/plan_points.py`` writes it into the package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqmamba.atomic import atomic_path

RESULTS = Path(__file__).with_name("results")
TARGET = Path(__file__).parents[2] / "seqmamba" / "benchmarks" / "plan_points.json"
_OPERATORS = {
    "scan": ("scan_gpu.json", "1x1048576x512", "cuda"),
    "both_scans": ("bidirectional_gpu.json", "1x1048576x256", "cuda"),
    "conv": ("conv_gpu.json", "1x1048576x512", "triton"),
    "norm": ("norm_gpu.json", "1x1048576x256", "triton"),
}
_MODELS = {
    "equivariant": {"backbone": {"d_model": 256, "n_layers": 16, "direction": "bidirectional"}, "strands": 2}
}
_OPERATIONS = 4e14
"""Of matrix products in a second: assumed, two fifths of what the H100's data sheet says of bfloat16."""


def collect() -> dict[str, Any]:
    """Return the content of ``plan_points.json``."""
    memory = {
        name: _read(file)["hardware"]["memory_bytes"] / 2**30
        for name, file in (("H100", "generation/mamba_8x256_gpu.json"), ("H200", "scan_gpu.json"))
    }
    return {
        "memory_gib": {name: round(size, 2) for name, size in memory.items()},
        "operations_a_second": _OPERATIONS,
        "seconds_an_element": {name: _rates(*place) for name, place in _OPERATORS.items()},
        "models": _MODELS,
        "runs": _runs(),
    }


def text() -> str:
    """Return the file."""
    return json.dumps(collect(), indent=1) + "\n"


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return document


def _rates(name: str, shape: str, kernel: str) -> dict[str, float]:
    comparison = next(each for each in _read(name)["comparisons"] if each["shape"] == shape)
    row = next(each for each in comparison["rows"] if each["name"] == kernel)
    return {
        phase: float(f"{row['times'][phase]['median_ms'] / 1e3 / comparison['elements']:.4g}")
        for phase in ("forward", "backward")
    }


def _runs() -> list[dict[str, Any]]:
    """Return the steps of context_parallel.json; of one GPU and replicas there is one kind only."""
    found = _read("context_parallel.json")
    runs = []
    for stage in found["stages"]:
        for row in stage["rows"] if stage["stage"] in ("context", "data") else ():
            context = stage["ranks"] if stage["stage"] == "context" else 1
            runs.append(
                {
                    "model": "equivariant",
                    "gpu": "H100" if "H100" in found["device"] else "H200",
                    "length": row["length"],
                    "gpus": stage["ranks"],
                    "context": context,
                    "sharded": row.get("kind") == "sharded",
                    "recompute": row.get("recompute", False),
                    "seconds": float(f"{row['seconds']:.5g}"),
                    "gib": row.get("peak_gib") and float(f"{row['peak_gib']:.4g}"),
                }
            )
    return runs


if __name__ == "__main__":
    with atomic_path(TARGET) as part:
        part.write_text(text())
