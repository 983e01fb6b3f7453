"""Operators: functions on tensors, without parameters.

Sequences are (batch, length, channels). Gradients flow through every tensor argument, initial and final
states included; states and sums are float32. `impl="auto"` takes the fastest implementation that can run; a
named one that cannot run raises. `explain` says what would run and why.
"""

from seqmamba.ops.bidirectional_scan import bidirectional_scan
from seqmamba.ops.causal_conv1d import causal_conv1d, causal_conv1d_step
from seqmamba.ops.cross_scan import cross_merge, cross_scan
from seqmamba.ops.draw import draw
from seqmamba.ops.explanation import Explanation, explain
from seqmamba.ops.in_place import updating_states_in_place
from seqmamba.ops.lti import LtiSystem, bidirectional_lti, lti, lti_discretise, lti_state_step
from seqmamba.ops.rms_norm import rms_norm
from seqmamba.ops.selective_scan import selective_scan, selective_state_step
from seqmamba.ops.ssd import ssd, ssd_state_step

__all__ = [
    "Explanation",
    "LtiSystem",
    "bidirectional_lti",
    "bidirectional_scan",
    "causal_conv1d",
    "causal_conv1d_step",
    "cross_merge",
    "cross_scan",
    "draw",
    "explain",
    "lti",
    "lti_discretise",
    "lti_state_step",
    "rms_norm",
    "selective_scan",
    "selective_state_step",
    "ssd",
    "ssd_state_step",
    "updating_states_in_place",
]
