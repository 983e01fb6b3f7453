"""What each part of a model would use on each device, and why: the last part of ``seqmamba doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqmamba.cli.finding import Finding

if TYPE_CHECKING:
    import torch

PARTS = {
    "scan": "selective_scan",
    "bidirectional scan": "bidirectional_scan",
    "conv": "causal_conv1d",
    "norm": "rms_norm",
    "ssd": "ssd",
    "s4": "lti",
}
"""Part -> operator."""


def examine_implementations() -> list[Finding]:
    """Say for every device and part which implementation runs, and why no faster one does."""
    import torch

    devices = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    findings = []
    for device in devices:
        findings += [_part(part, operator, device) for part, operator in PARTS.items()]
        findings.append(Finding(_group(device), "decoding", _decoding(device)))
    return findings


def _group(device: torch.device) -> str:
    return f"what runs on {'the CPU' if device.type == 'cpu' else 'a GPU'}"


def _part(part: str, operator: str, device: torch.device) -> Finding:
    from seqmamba.ops import explain

    explanation = explain(operator, **_example(operator, device))
    better = list(explanation.verdicts)[: list(explanation.verdicts).index(explanation.chosen)]
    detail = explanation.verdicts[explanation.chosen].removesuffix("; would run")
    reasons = [
        f"{name}: {explanation.verdicts[name].rpartition('; cannot run: ')[2]}"
        for name in better
        if "; cannot run: " in explanation.verdicts[name]
    ]
    why = f" (not {'; not '.join(reasons)})" if reasons else ""
    return Finding(_group(device), part, f"{explanation.chosen}: {detail}{why}")


def _example(operator: str, device: torch.device) -> dict[str, Any]:
    """Return the arguments that decide: usual sizes, in float32, on the device."""
    import torch

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=device)

    def scan_arguments() -> dict[str, torch.Tensor]:
        x, states = zeros(1, 8, 16), zeros(1, 8, 16)
        return {"u": x, "delta": x, "A": zeros(16, 16), "B": states, "C": states}

    if operator == "bidirectional_scan":
        return {name: (tensor, tensor) for name, tensor in scan_arguments().items()}
    if operator == "causal_conv1d":
        return {"x": zeros(1, 8, 16), "weight": zeros(16, 4)}
    if operator == "rms_norm":
        return {"x": zeros(1, 8, 16), "weight": zeros(16)}
    if operator == "ssd":
        groups = zeros(1, 8, 1, 64)
        x = zeros(1, 8, 1, 64)
        return {"x": x, "delta": zeros(1, 8, 1), "A": zeros(1), "B": groups, "C": groups}
    if operator == "lti":
        return {"u": zeros(1, 8, 16)}
    return scan_arguments()


def _decoding(device: torch.device) -> str:
    """Say how tokens are drawn one after the other; `seqmamba.inference.decoding` decides it for a model."""
    if device.type == "cpu":
        return "step by step, since CUDA graphs and kernels of whole steps need a GPU"
    return "one kernel for all steps where a model allows it, else periods of steps as CUDA graphs"
