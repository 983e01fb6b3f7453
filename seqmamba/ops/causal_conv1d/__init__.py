"""The short causal depthwise convolution in front of the selective scan."""

from seqmamba.ops.causal_conv1d.api import causal_conv1d
from seqmamba.ops.causal_conv1d.step import causal_conv1d_step

__all__ = ["causal_conv1d", "causal_conv1d_step"]
