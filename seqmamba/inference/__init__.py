"""Running causal models with a carried state."""

from seqmamba.backbones.state import BackboneState
from seqmamba.inference.modes import ModeReport, compare_modes, run_chunked, run_stepwise, run_whole
from seqmamba.inference.stream import Stream

__all__ = [
    "BackboneState",
    "ModeReport",
    "Stream",
    "compare_modes",
    "run_chunked",
    "run_stepwise",
    "run_whole",
]
