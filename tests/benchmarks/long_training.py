"""Training steps of DNA models on long windows: speed and memory, beside Caduceus' own code.

``python tests/benchmarks/long_training.py --out FOLDER --peer CHECKOUT_OF_CADUCEUS`` needs a GPU and, for the
peer, mamba-ssm and causal-conv1d. After every row it writes ``long_training.json`` and ``.md``, so that time
that runs out loses nothing. A step is forward, loss, backward and AdamW, in bfloat16 autocast.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from caduceus_peer import caduceus
from torch import Tensor, nn

from genomics.alphabet import A, T
from genomics.datasets.genome_batches import GenomeBatch
from genomics.masked_model import MaskedModel
from genomics.pretraining import Objectives, PretrainingConfig, build_model
from seqmamba.atomic import atomic_path
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.backbones.activations import ActivationPlan
from seqmamba.backbones.memory_budget import set_memory_budget
from seqmamba.nn.bidirectional import BidirectionalMamba

_GIB = 2**30
_SIXTEEN, _FOUR, _SMALL = ({"width": w, "layers": n} for w, n in ((256, 16), (256, 4), (118, 4)))
CASES: tuple[dict[str, Any], ...] = (
    {**_SIXTEEN, "length": 2**17, "profile": True},
    {**_SIXTEEN, "length": 2**17, "budget": 12},
    {**_SIXTEEN, "length": 2**17, "peer": True},
    {**_SMALL, "length": 2**10, "batch": 256},
    {**_SMALL, "length": 2**10, "batch": 256, "peer": True},
    {**_FOUR, "length": 2**20, "budget": 24},
    {**_FOUR, "length": 2**20, "budget": 72},
    {**_FOUR, "length": 2**19, "peer": True},
    {**_SIXTEEN, "length": 2**20, "budget": 60},
    {**_SIXTEEN, "length": 2**22, "budget": 74},
)
TOO_LARGE = ({**_FOUR, "length": 2**20, "peer": True},)  # for 80 GB
# As many tokens a step up to a window of as many, and one plan for all: that of the longest.
SWEEP = tuple(
    {**_FOUR, "length": 2**power, "batch": max(2 ** (20 - power), 1), "fixed": True}
    for power in range(14, 23)
)
TINY = (
    {"width": 16, "layers": 2, "length": 256},
    {"width": 16, "layers": 2, "length": 64, "batch": 4, "fixed": True},
)


class Learner(nn.Module):
    """The equivariant model and its loss."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        backbone = BackboneConfig(width, n_layers=layers, direction="bidirectional")
        config = PretrainingConfig(backbone=backbone, strand="equivariant")
        self.model = cast(MaskedModel, build_model(config))
        self.objectives = Objectives(self.model, config)

    def forward(self, batch: GenomeBatch) -> Tensor:
        """Return the loss of a batch."""
        return self.objectives.loss(self.objectives.ask(batch, training=True))


def windows(batch: int, length: int, device: torch.device) -> GenomeBatch:
    """Windows of random bases."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(A, T + 1, (batch, length), generator=draw).to(torch.uint8)
    return {
        "tokens": tokens.to(device),
        "lower": torch.zeros(batch, length, dtype=torch.bool, device=device),
        "lengths": None,
        "keys": torch.arange(batch, device=device),
        "genome": torch.zeros(batch, dtype=torch.long, device=device),
        "fresh": torch.ones(batch, dtype=torch.bool, device=device),
    }


def training(learner: nn.Module, inputs: tuple[Any, ...], device: torch.device) -> Callable[[], None]:
    """Return a function that does one training step."""
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-4, fused=device.type == "cuda")

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = learner(*inputs)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def prepare(
    case: dict[str, Any], peer: Path | None, device: torch.device
) -> tuple[nn.Module, tuple[Any, ...]]:
    """Build the model and the batch of a case."""
    torch.manual_seed(0)
    batch = windows(case.get("batch", 1), case["length"], device)
    if case.get("peer"):
        assert peer is not None
        tokens = batch["tokens"].long()  # any ids: what is timed does not depend on them
        labels = tokens.masked_fill(torch.rand(tokens.shape, device=device) > 0.15, -100)
        return caduceus(peer, case["width"], case["layers"]).to(device), (tokens, labels)
    learner = Learner(case["width"], case["layers"]).to(device)
    if "budget" in case:
        set_memory_budget(learner, int(case["budget"] * _GIB))
    if "fixed" in case:
        fix(learner, ActivationPlan(case["layers"], case["layers"], spares=True), "again")
    return learner, (batch,)


def measure(case: dict[str, Any], peer: Path | None, device: torch.device) -> dict[str, Any]:
    """Time some steps after one to warm up, and return tokens a second, GiB, and the plan."""
    learner, inputs = prepare(case, peer, device)
    step = training(learner, inputs, device)
    step()
    synchronise(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, steps = time.perf_counter(), 0
    while steps < 8 and time.perf_counter() - start < 1.5:
        step()
        synchronise(device)
        steps += 1
    seconds = (time.perf_counter() - start) / steps
    tokens = case.get("batch", 1) * case["length"]
    found = {"tokens_s": tokens / seconds, "seconds": seconds, "steps": steps}
    if device.type == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_allocated() / _GIB
        if isinstance(learner, Learner) and "budget" in case:
            found["plan"] = describe(learner, inputs)
        if case.get("profile"):
            found["profile"] = profile(step)
    return found


def describe(learner: Learner, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return what the budget led to."""
    stack = learner.model.backbone
    plan = stack.activation_plan(torch.empty(0)) if stack.memory is None else stack.memory.last
    return {**vars(plan), "strands": learner.model._way(inputs[0]["tokens"])}


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def profile(step: Callable[[], None]) -> dict[str, float]:
    """Milliseconds of every kernel of a step, the longest first, and of the step."""
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found:
        step()
        torch.cuda.synchronize()
    kernels: dict[str, float] = {}
    for event in found.events() or ():
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(
            event, "is_user_annotation", False
        ):
            kernels[event.name[:100]] = kernels.get(event.name[:100], 0.0) + event.device_time / 1e3
    ordered = sorted(kernels.items(), key=lambda pair: -pair[1])
    return {"sum of kernels": sum(kernels.values()), **dict(ordered[:30])}


def exactness(device: torch.device, width: int, layers: int, length: int) -> dict[str, float]:
    """Largest difference of a gradient of each plan from those with all kept, relative to its largest."""
    found: dict[str, float] = {}
    expected: list[Tensor] = []
    batch = windows(1, length, device)
    plans = {
        "all kept": (ActivationPlan(), "together"),
        "mixers by autograd": (ActivationPlan(), "together"),
        "half recomputed": (ActivationPlan(layers // 2), "together"),
        "recomputed but for scans": (ActivationPlan(layers, scans=layers), "together"),
        "recomputed, inputs on the host": (ActivationPlan(layers, layers), "together"),
        "sparing": (ActivationPlan(spares=True), "together"),
        "strands one after the other": (ActivationPlan(layers, layers, scans=1, spares=True), "apart"),
        "one strand's graph at a time": (ActivationPlan(layers, layers, spares=True), "again"),
    }
    for name, (plan, way) in plans.items():
        torch.manual_seed(0)
        learner = Learner(width, layers).to(device)
        fix(learner, plan, way)
        for module in learner.modules():
            if isinstance(module, BidirectionalMamba) and name == "mixers by autograd":
                module._fuses = lambda *_: False  # type: ignore[method-assign]
        try:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = learner(batch)
            loss.backward()
        except RuntimeError as failure:
            print(f"{name}: {str(failure)[:300]}", flush=True)
            continue
        own = [each.grad for each in learner.parameters() if each.grad is not None]
        expected = expected or own
        pairs = zip(own, expected, strict=True)
        found[name] = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    return found


def fix(learner: Learner, plan: ActivationPlan, way: str) -> None:
    """Let a model follow a plan, whatever its budget."""
    set_memory_budget(learner, _GIB)  # which plays no part
    learner.model.backbone.activation_plan = lambda *_: plan  # type: ignore[method-assign]
    learner.model._way = lambda *_: way  # type: ignore[method-assign, assignment, return-value]


@torch.inference_mode()
def stream(device: torch.device, length: int, chunk: int) -> dict[str, float]:
    """Read a sequence of a chromosome's size with a causal model that carries its state."""
    torch.manual_seed(0)
    config = LanguageModelConfig(BackboneConfig(256, 8, direction="causal"), 16)
    model = LanguageModel(config).to(device).eval()
    tokens = torch.randint(7, 11, (1, length), dtype=torch.uint8)
    state, total, peaks = None, torch.zeros((), dtype=torch.float64, device=device), []
    start = time.perf_counter()
    for begin in range(0, length, chunk):
        part = tokens[:, begin : begin + chunk].to(device).long()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits, state = model(part, state=state, return_state=True)
        nll = nn.functional.cross_entropy(logits[0, :-1].float(), part[0, 1:], reduction="sum")
        total += nll
        peaks.append(torch.cuda.max_memory_allocated() / _GIB if device.type == "cuda" else 0.0)
    nats = float(total) / length
    seconds = time.perf_counter() - start
    return {
        "length": length,
        "chunk": chunk,
        "bases_s": length / seconds,
        "first_peak_gib": peaks[0],
        "last_full_peak_gib": peaks[length // chunk - 1],
        "nats": nats,
    }


_SAYS = {
    "exact": "Largest difference of a gradient from those with all kept, relative to its largest",
    "stream": "A causal model of 8 blocks, 256 wide, that reads a sequence chunk by chunk",
}


def markdown(found: dict[str, Any]) -> str:
    """Return the rows as a table."""
    lines = [
        f"{found['device']}, PyTorch {found['torch']}, bfloat16 autocast, AdamW; equivariant.",
        "",
        "| width | layers | batch x length | code | budget, GiB | 10^3 tokens/s | peak, GiB | plan |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found["rows"]:
        plan = row.get("plan")
        text = row.get("failure", "all kept")
        if plan:
            text = f"{plan['recomputed']} recomputed, {plan['scans']} of them but for scans, "
            text += f"{plan['offloaded']} inputs on the host, strands {plan['strands']}"
            text += ", sparing" if plan["spares"] else ""
        elif "fixed" in row:
            text = "one plan for all lengths"
        cells = [
            str(row["width"]),
            str(row["layers"]),
            f"{row.get('batch', 1)} x {row['length']:,}",
            "Caduceus" if row.get("peer") else "**seqmamba**",
            str(row.get("budget", "")),
            f"{row['tokens_s'] / 1e3:,.0f}" if "tokens_s" in row else "",
            f"{row['peak_gib']:.1f}" if "peak_gib" in row else "",
            "its own" if row.get("peer") and "failure" not in row else text,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for name, text in _SAYS.items():
        lines += ["", f"{text}: {json.dumps(found[name])}"] if name in found else []
    for note in found.get("notes", ()):
        lines += ["", note]
    return "\n".join(lines)


def main() -> None:
    """Measure every case that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    device = torch.device("cpu" if given.tiny else "cuda")
    name = "CPU" if given.tiny else torch.cuda.get_device_name()
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "rows": []}
    cases = TINY if given.tiny else (*CASES, *SWEEP, *TOO_LARGE)
    found["exact"] = exactness(device, 16 if given.tiny else 256, 4, 64 if given.tiny else 2**15)
    print(found["exact"], flush=True)
    for case in cases:
        if time.monotonic() > end or (case.get("peer") and given.peer is None):
            continue
        try:
            row = {**case, **measure(case, given.peer, device)}
        except Exception as failure:  # out of memory, or a peer that does not run
            row = {**case, "failure": f"{type(failure).__name__}: {str(failure).splitlines()[0][:160]}"}
        found["rows"].append(row)
        gc.collect()  # failures hold their frames in circles
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print({key: value for key, value in row.items() if key != "profile"}, flush=True)
        _write(given.out, found)
    if time.monotonic() < end:
        found["stream"] = stream(device, *((1000, 100) if given.tiny else (250_000_000, 2**21)))
    _write(given.out, found)
    print(markdown(found))


def _write(out: Path, found: dict[str, Any]) -> None:
    texts = {"long_training.json": json.dumps(found, indent=1), "long_training.md": markdown(found)}
    for name, text in texts.items():
        with atomic_path(out / name) as part:
            part.write_text(text + "\n")


if __name__ == "__main__":
    main()
