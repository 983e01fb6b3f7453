"""The short causal depthwise convolution in front of the selective scan."""

from seqmamba.ops.causal_conv1d.api import causal_conv1d

__all__ = ["causal_conv1d"]
