"""The selective scan in vectorised PyTorch, chunk by chunk: any device, any dtype, complex A included."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqmamba.ops.selective_scan.reference import (
    compute_dtype,
    finish,
    keep_previous,
    read_out,
    spread_groups,
    step_size,
    widen,
)

# Steps that are scanned together. Longer chunks mean fewer Python steps and more passes over more memory:
# they pay until the states of a chunk are this many, which fill a cache of a CPU, or keep a GPU busy.
FEWEST_STEPS, MOST_STEPS = 32, 512
CPU_ELEMENTS, GPU_ELEMENTS = 2**16, 2**20


def selective_scan_chunked(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Compute what `selective_scan_reference` does, by parallel prefix scans over `chunk_steps` steps.

    Chunks follow each other, so that memory holds the states of one chunk only; for the backward each
    chunk is recomputed from the state before it.
    """
    dtype = compute_dtype(u, delta, A, B, C, D, z, delta_bias, initial_state)
    batch, _, dim = u.shape
    x, dt, A = u.to(dtype), step_size(delta, delta_bias, delta_softplus, dtype), widen(A, dtype)
    B, C = widen(B, dtype), widen(C, dtype)
    if initial_state is None:
        state = A.new_zeros(batch, dim, A.shape[1])
    else:
        state = widen(initial_state, dtype).to(A.dtype)
    keep = None if reset is None else keep_previous(reset, reverse)
    recompute = torch.is_grad_enabled() and any(t.requires_grad for t in (x, dt, A, B, C, state))

    # split, not slicing: the gradient of a slice is a zero-filled copy of the whole sequence, for every chunk
    steps = chunk_steps(A.numel(), u.is_cuda)
    x_c, dt_c, B_c, C_c = (sequence.split(steps, dim=1) for sequence in (x, dt, B, C))
    keep_c = None if keep is None else keep.split(steps, dim=1)
    outputs: list[Tensor] = []
    for i in reversed(range(len(x_c))) if reverse else range(len(x_c)):
        chunk = (state, x_c[i], dt_c[i], A, B_c[i], C_c[i])
        kept = None if keep_c is None else keep_c[i]
        if recompute:
            y, state = checkpoint(_scan_chunk, *chunk, kept, reverse, use_reentrant=False)
        else:
            y, state = _scan_chunk(*chunk, kept, reverse)
        outputs.append(y)
    y = torch.cat(outputs[::-1] if reverse else outputs, dim=1)
    return finish(y, x, D, z, u.dtype), state


def chunk_steps(elements: int, on_a_gpu: bool) -> int:
    """Steps of a chunk where each step has so many elements; the batch is left out, which may be symbolic."""
    budget = GPU_ELEMENTS if on_a_gpu else CPU_ELEMENTS
    return min(MOST_STEPS, max(FEWEST_STEPS, budget // elements))


def _scan_chunk(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, keep: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Scan one chunk from `state`; gives C . h (batch, chunk, dim) and the state after the last step."""
    dim = x.shape[2]
    decay, inputs = torch.exp(dt[..., None] * A), (dt * x)[..., None] * spread_groups(B, dim, x.dtype)
    if keep is not None:
        # a step that is no number makes its state so by its input, but the decay of no step after a reset
        decay = torch.where((keep[..., None] & dt.isfinite())[..., None], decay, 0)
    states = _prefix_scan(decay, inputs, state, keep, reverse)
    return read_out(spread_groups(C, dim, x.dtype), states), states[:, 0 if reverse else -1]


def _prefix_scan(
    decay: Tensor, states: Tensor, initial: Tensor, keep: Tensor | None, reverse: bool
) -> Tensor:
    """All h_t = decay_t h_{t-1} + states_t from h_{-1} = initial, by recursive doubling along axis 1.

    Hillis and Steele 1986, "Data parallel algorithms". After the pass with a given stride, position t holds
    the sum over its last 2 stride steps, `decay` the product of their decays, and `keep` (batch, length)
    whether none of them starts anew: the decay is zero then, which NaN and infinity survive.
    """
    length, stride = states.shape[1], 1
    while stride < length:
        span = length - stride
        if reverse:
            near, far, edge = slice(0, span), slice(stride, length), slice(span, length)
        else:
            near, far, edge = slice(stride, length), slice(0, span), slice(0, stride)
        earlier = states[:, far]
        if keep is not None:
            earlier = _cut(earlier, keep[:, near])
            keep = _join(keep[:, edge], keep[:, near] & keep[:, far], reverse)
        states = _join(states[:, edge], states[:, near] + decay[:, near] * earlier, reverse)
        decay = _join(decay[:, edge], decay[:, near] * decay[:, far], reverse)
        stride *= 2
    before = initial[:, None]
    return states + decay * (before if keep is None else _cut(before, keep))


def _cut(states: Tensor, keep: Tensor) -> Tensor:
    return torch.where(keep[:, :, None, None], states, 0)


def _join(edge: Tensor, rest: Tensor, reverse: bool) -> Tensor:
    """Put the positions that a pass leaves alone, the first ones processed, back beside the rest."""
    return torch.cat((rest, edge) if reverse else (edge, rest), dim=1)
