"""The two selective scans of a bidirectional block, added and gated."""

from seqmamba.ops.bidirectional_scan.api import bidirectional_scan

__all__ = ["bidirectional_scan"]
