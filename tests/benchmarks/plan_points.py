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
_OPERATIONS = 4e14
"""Of matrix products in a second: assumed, two fifths of what the H100's data sheet says of bfloat16."""


def collect() -> dict[str, Any]:
    """Return the content of ``plan_points.json``."""
    memory = {
        name: _read(file)["hardware"]["memory_bytes"] / 2**30
        for name, file in (("H100", "generation/mamba_8x256_gpu.json"), ("H200", "scan_gpu.json"))
    }
    runs = runs_on_several(_read("context_parallel.json"))
    if (RESULTS / "long_training.json").exists():
        runs += runs_of_one(_read("long_training.json"))
    return {
        "memory_gib": {name: round(size, 2) for name, size in memory.items()},
        "operations_a_second": _OPERATIONS,
        "seconds_an_element": {name: _rates(*place) for name, place in _OPERATORS.items()},
        "runs": runs,
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


def runs_on_several(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the training steps of `context_parallel`, of the model that it measures.

    Args:
        found: Content of its results.
    """
    runs = []
    for stage in found["stages"]:
        for row in stage["rows"] if stage["stage"] in ("context", "data") else ():
            layout = {
                "gpus": stage["ranks"],
                "context": stage["ranks"] if stage["stage"] == "context" else 1,
                "sharded": row.get("kind") == "sharded",
                "recompute": row.get("recompute", False),
            }
            runs.append(_run(found["device"], 256, 16, row, layout))
    return runs


def runs_of_one(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the training steps of `long_training` in which a model of ours keeps or recomputes all blocks.

    Args:
        found: Content of its results.
    """
    runs = []
    for row in found["rows"]:
        kept = {"recomputed": 0, "scans": 0, "offloaded": 0, "strands": "together"}
        plan = {name: row.get("plan", kept)[name] for name in kept}
        recompute = plan == {**kept, "recomputed": row["layers"]}
        if row.get("peer") or "seconds" not in row or not (recompute or plan == kept):
            continue
        layout = {"recompute": recompute, "windows": row.get("batch", 1)}
        runs.append(_run(found["device"], row["width"], row["layers"], row, layout))
    return runs


def _run(device: str, width: int, layers: int, row: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    return {
        "gpu": "H100" if "H100" in device else "H200",
        "backbone": {"d_model": width, "n_layers": layers, "direction": "bidirectional"},
        "strands": 2,
        "length": row["length"],
        "layout": {"gpus": 1, **layout},
        "seconds": float(f"{row['seconds']:.5g}"),
        "gib": row.get("peak_gib") and float(f"{row['peak_gib']:.4g}"),
    }


if __name__ == "__main__":
    with atomic_path(TARGET) as part:
        part.write_text(text())
