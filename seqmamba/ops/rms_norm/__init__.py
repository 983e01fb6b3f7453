"""Root-mean-square normalisation with the addition in front of it (Zhang and Sennrich 2019)."""

from seqmamba.ops.rms_norm.api import rms_norm

__all__ = ["rms_norm"]
