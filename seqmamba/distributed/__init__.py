"""Sequence (context) parallel: ranks hold consecutive pieces of sequences, and compute as one process would.

`ContextGroup` names the ranks. The operators here are those of `seqmamba.ops` with one argument more,
`context`; layers hand it on, see `seqmamba.nn.context.spread_context`.
"""

from seqmamba.distributed.collectives import gather, total
from seqmamba.distributed.convolution import causal_conv1d
from seqmamba.distributed.dual import ssd
from seqmamba.distributed.group import ContextGroup, is_distributed, mean_over_processes
from seqmamba.distributed.pieces import Piece, gather_pieces, mirror_pieces, own_piece, piece_bounds
from seqmamba.distributed.scan import bidirectional_scan, selective_scan
from seqmamba.distributed.time_invariant import bidirectional_lti, lti

__all__ = [
    "ContextGroup",
    "Piece",
    "bidirectional_lti",
    "bidirectional_scan",
    "causal_conv1d",
    "gather",
    "gather_pieces",
    "is_distributed",
    "lti",
    "mean_over_processes",
    "mirror_pieces",
    "own_piece",
    "piece_bounds",
    "selective_scan",
    "ssd",
    "total",
]
