"""Attention of rotated heads by `torch.nn.functional.scaled_dot_product_attention`, in memory that fits.

Heads are (batch, length, heads, head_dim); query head h reads key and value head ``h // (heads / kv_heads)``.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from seqmamba.nn.attention_reach import Reach, visible
from seqmamba.ops.packed_sequences import sequence_bounds

_SMALLEST_BLOCK = 128  # queries: small windows share a block, since kernels work on tiles of this size

Heads = Float[Tensor, "batch length heads head_dim"]
KeyHeads = Float[Tensor, "batch keys kv_heads head_dim"]


def attend(
    q: Heads,
    k: KeyHeads,
    v: KeyHeads,
    mask: Bool[Tensor, "rows 1 length keys"] | None = None,
    causal: bool = False,
) -> Heads:
    """Let each query average the values, by default all of them.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: True where a query sees a key.
        causal: Without a mask: whether the queries are the last of the keys' positions and see none ahead.
    """
    (batch, length, heads, dim), kv_heads = q.shape, k.shape[2]
    if length == 1:  # sees all: the heads of a group are as many queries to one head, and nothing is copied
        q = q.reshape(batch, kv_heads, heads // kv_heads, dim)
        y = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), mask)
        return y.reshape(batch, 1, heads, dim)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    # Only the flash kernel takes groups; what it does not run would compute all weights in plain PyTorch.
    grouped = heads != kv_heads and mask is None and q.dtype in (torch.bfloat16, torch.float16)
    if heads != kv_heads and not grouped:
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    bias = mask
    if causal and k.shape[2] != length:
        causal = False
        bias = _ends_together(length, k.shape[2], q.device)
    y = F.scaled_dot_product_attention(q, k, v, bias, is_causal=causal, enable_gqa=grouped)
    return y.transpose(1, 2)


def _ends_together(length: int, keys: int, device: torch.device) -> Tensor:
    """The causal mask of queries at the end of the keys, which kernels apply without it being built."""
    if torch.compiler.is_compiling():  # which cannot trace that type of tensor
        return torch.ones(length, keys, dtype=torch.bool, device=device).tril(keys - length)
    from torch.nn.attention.bias import causal_lower_right  # loads the compiler: 150 MB and 3 s of imports

    return causal_lower_right(length, keys)


def attend_in_sequences(
    q: Heads,
    k: KeyHeads,
    v: KeyHeads,
    reset: Bool[Tensor, "batch total"],
    causal: bool,
    own: slice | None = None,
) -> Heads:
    """Attend inside each packed sequence, all those of equal length at once: no mask, but a look at `reset`.

    Args:
        q: Queries of some of the positions.
        k: Keys of all positions, or if causal of those up to the last query.
        v: Values of the same positions as the keys.
        reset: True where a new sequence starts, in all positions.
        causal: Whether nothing ahead is seen.
        own: Positions of the queries; None: all.
    """
    n_queries, n_keys, total = q.shape[1], k.shape[1], reset.shape[1]
    own = slice(0, total) if own is None else own
    first, lengths = sequence_bounds(reset)
    row, start = first // total, first % total
    stop = start + lengths
    asking, asked = start.clamp(min=own.start), stop.clamp(max=own.stop)
    sizes = torch.stack((asked - asking, (asked if causal else stop) - start), dim=1)
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    rows, outputs = [], []
    for queries, keys in sizes[sizes[:, 0] > 0].unique(dim=0).tolist():
        here = (sizes[:, 0] == queries) & (sizes[:, 1] == keys)
        at = (row * n_queries + asking - own.start)[here, None] + torch.arange(queries, device=q.device)
        seen = (row * n_keys + start)[here, None] + torch.arange(keys, device=q.device)
        rows.append(at.flatten())
        outputs.append(attend(q[at], k[seen], v[seen], causal=causal).flatten(0, 1))
    y = torch.empty_like(q).index_copy(0, torch.cat(rows), torch.cat(outputs))
    return y.unflatten(0, (len(reset), n_queries))


def attend_in_window(q: Heads, k: KeyHeads, v: KeyHeads, reach: Reach, window: int) -> Heads:
    """Attend inside a sliding window, in time and memory that grow with ``length * window``.

    The queries are cut into blocks; each meets only the keys that its window can hold.

    Args:
        q: Queries.
        k: Keys, of the ``window - 1`` positions before the first query too; if one sees ahead, then also of
            ``window - 1`` positions after the last.
        v: Values of the same positions.
        reach: Of the queries.
        window: Positions that one sees to a side, itself included.
    """
    batch, length, heads, dim = q.shape
    block = min(length, max(window, _SMALLEST_BLOCK))
    n_blocks = -(-length // block)
    missing = n_blocks * block - length
    span = block + k.shape[1] - length
    q = F.pad(q, (0, 0, 0, 0, 0, missing)).reshape(batch * n_blocks, block, heads, dim)
    k, v = (
        F.pad(x, (0, 0, 0, 0, 0, missing)).unfold(1, span, block).movedim(-1, 2).flatten(0, 1) for x in (k, v)
    )
    # Padded queries see themselves only: of nothing at all the average would be NaN.
    padded = Reach(*(F.pad(x.expand(batch, length), (0, missing)).reshape(-1, block) for x in reach))
    steps = torch.arange(span, device=q.device)
    mask = visible(steps[:block, None] + (window - 1) - steps, padded, window)
    return attend(q, k, v, mask).reshape(batch, n_blocks * block, heads, dim)[:, :length]
