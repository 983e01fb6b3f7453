"""A grid as sequences in row and in column order, and the sum of what was made of them."""

from seqmamba.ops.cross_scan.api import cross_merge, cross_scan

__all__ = ["cross_merge", "cross_scan"]
