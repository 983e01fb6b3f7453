"""Running causal models with a carried state."""

from seqmamba.backbones.state import BackboneState
from seqmamba.inference.decoding import Decoder, Generation, TokenBlock
from seqmamba.inference.generation import begin, generate, generate_blocks
from seqmamba.inference.graphs import GraphedSteps
from seqmamba.inference.model import CausalModel, TokenModel, step_period
from seqmamba.inference.modes import ModeReport, compare_modes, run_chunked, run_stepwise, run_whole
from seqmamba.inference.prefill import prefill
from seqmamba.inference.sampling import SamplingConfig, draw
from seqmamba.inference.state_files import load_state, save_state
from seqmamba.inference.stopping import StopRule
from seqmamba.inference.stream import Stream
from seqmamba.ops.draw import Draws

__all__ = [
    "BackboneState",
    "CausalModel",
    "Decoder",
    "Draws",
    "Generation",
    "GraphedSteps",
    "ModeReport",
    "SamplingConfig",
    "StopRule",
    "Stream",
    "TokenBlock",
    "TokenModel",
    "begin",
    "compare_modes",
    "draw",
    "generate",
    "generate_blocks",
    "load_state",
    "prefill",
    "run_chunked",
    "run_stepwise",
    "run_whole",
    "save_state",
    "step_period",
]
