"""The least time that an operator can take on a device.

Two bounds, of which the larger counts:

- memory: every input is read once and every result written once, at the bandwidth of a large copy measured
  on this device. The backward reads the inputs and the gradient of y, and writes the gradients.
- the special-function unit of an NVIDIA GPU, which takes 16 exponentials a clock and multiprocessor
  (compute capability 8.0 to 10.0): a scan needs one a state and element, in the forward and again in the
  backward, which recomputes the decays rather than reads them. Softplus and silu are not counted.

Neither counts instructions, so a kernel at 100 % of its floor does not exist for the scan.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import torch

from seqmamba.benchmarks.timing import Clock

_COPIED = {"cuda": 2**31, "cpu": 2**28}  # bytes; well beyond every cache
_REPEATS = 7
_EXPONENTIALS_A_CLOCK = 16


@dataclass(frozen=True)
class Limits:
    """What a device can do at most.

    Attributes:
        bandwidth: Bytes a second that a copy reads and writes.
        exponentials: A second, of the special-function units; None where that bound does not apply or the
            clock is not known.
    """

    bandwidth: float
    exponentials: float | None


@dataclass(frozen=True)
class Floor:
    """Milliseconds of the two bounds for one phase, and the bytes that the first counts."""

    size: int
    memory: float
    exponentials: float | None

    @property
    def milliseconds(self) -> float:
        """The larger bound."""
        return max(self.memory, self.exponentials or 0.0)


def measure_limits(device: torch.device) -> Limits:
    """Measure the device's copy bandwidth and look up its clock."""
    return Limits(_copy_bandwidth(device), _exponential_rate(device))


def floors(inputs: int, result: int, limits: Limits, exponentials: int) -> dict[str, Floor]:
    """Bound inference, forward, backward and their sum.

    Args:
        inputs: Bytes of all inputs.
        result: Bytes of y.
        limits: Of the device.
        exponentials: That each pass needs; 0 for an operator without a recurrence.

    Returns:
        A floor for each phase that is timed.
    """
    sizes = {
        "inference": inputs + result,
        "forward": inputs + result,
        "backward": 2 * inputs + result,
    }
    sizes["sum"] = sizes["forward"] + sizes["backward"]
    passes = {"inference": 1, "forward": 1, "backward": 1, "sum": 2}
    rate = limits.exponentials
    return {
        phase: Floor(
            size,
            1e3 * size / limits.bandwidth,
            1e3 * passes[phase] * exponentials / rate if rate and exponentials else None,
        )
        for phase, size in sizes.items()
    }


def _copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written a second, of the fastest of several copies."""
    clock = Clock(device)
    source = torch.ones(_COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    best = float("inf")
    for _ in range(_REPEATS):
        clock.wait()
        start = clock.mark()
        target.copy_(source)
        end = clock.mark()
        clock.wait()
        best = min(best, clock.milliseconds(start, end))
    return 2 * source.numel() / (best / 1e3)


def _exponential_rate(device: torch.device) -> float | None:
    """Exponentials a second at the highest clock, or None."""
    if device.type != "cuda" or torch.version.hip is not None:
        return None
    clock = _highest_clock(device)
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return None if clock is None else _EXPONENTIALS_A_CLOCK * multiprocessors * clock


def _highest_clock(device: torch.device) -> float | None:
    """Hertz of the multiprocessors, from PyTorch or from the driver's tool."""
    kilohertz = getattr(torch.cuda.get_device_properties(device), "clock_rate", None)
    if kilohertz:
        return 1e3 * kilohertz
    index = device.index if device.index is not None else torch.cuda.current_device()
    megahertz = nvidia_smi(index, "clocks.max.sm")
    return 1e6 * float(megahertz) if megahertz and megahertz.replace(".", "").isdigit() else None


def nvidia_smi(index: int, field: str) -> str | None:
    """One field of the driver's tool without its unit, or None where the tool is missing or knows nothing."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
