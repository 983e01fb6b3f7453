"""The state space dual operator as matrix products, chunk by chunk, in PyTorch: any device, any dtype."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqmamba.ops.selective_scan.reference import compute_dtype, finish, keep_previous, step_size
from seqmamba.ops.ssd.reference import first_state, per_channel


def ssd_chunked(
    x: Tensor,
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
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Compute what `ssd_reference` does by the block decomposition of the Mamba-2 paper, section 6.

    Chunks of `chunk_size` steps follow each other, so that memory holds the scores of one chunk only; for the
    backward each chunk is recomputed from the state before it.
    """
    # autocast would round the operands of the products, and with them the states
    with torch.autocast(x.device.type, enabled=False):
        dtype = compute_dtype(x, delta, A, B, C, D, z, delta_bias, initial_state)
        wide, dt = x.to(dtype), step_size(delta, delta_bias, delta_softplus, dtype)
        log_decay, scaled = dt * A.to(dtype), dt[..., None] * wide
        state = first_state(initial_state, wide, B.shape[-1])
        tensors = (scaled, log_decay, B.to(dtype), C.to(dtype))
        recompute = torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, state))

        # split, not slicing: the gradient of a slice is a zero-filled copy of the sequence, for every chunk
        chunks = list(zip(*(tensor.split(chunk_size, dim=1) for tensor in tensors), strict=True))
        keep = None if reset is None else keep_previous(reset, reverse).split(chunk_size, dim=1)
        outputs: list[Tensor] = []
        for i in reversed(range(len(chunks))) if reverse else range(len(chunks)):
            arguments = (state, *chunks[i], None if keep is None else keep[i], reverse)
            if recompute:
                y, state = checkpoint(_run_chunk, *arguments, use_reentrant=False)
            else:
                y, state = _run_chunk(*arguments)
            outputs.append(y)
        y = torch.cat(outputs[::-1] if reverse else outputs, dim=1)
        return finish(y, wide, per_channel(D), z, x.dtype), state


def _run_chunk(
    state: Tensor, x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, keep: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """One chunk from `state`: C . h (batch, chunk, heads, head_dim) and the state after the last step.

    `x` is already multiplied by delta. Decays between two steps are exponentials of differences of running
    sums, in float64 because the sums grow with the chunk while the differences that count are small.
    """
    (batch, length, heads, head_dim), (groups, n_state) = x.shape, B.shape[2:]
    axes = (batch, groups, heads // groups)
    accurate = torch.float32 if x.device.type == "mps" else torch.float64  # the former has no float64
    sums = log_decay.to(accurate).flip(1) if reverse else log_decay.to(accurate)
    start = torch.zeros_like(sums[:, :1])
    sums = torch.cat([start, sums.cumsum(1)], dim=1).movedim(
        1, 2
    )  # (batch, heads, 1 + chunk): first is entry
    runs = _run_numbers(keep, batch, length, reverse, x.device)
    if reverse:
        # positions of the chunk come back into storage order; the entry stays in front
        order = torch.arange(length, 0, -1, device=x.device)
        order = torch.cat([order.new_zeros(1), order])
        sums, runs = sums[:, :, order], runs[:, order]
    entry, inside, last = sums[..., :1], sums[..., 1:], sums[..., 1 if reverse else -1 :][..., :1]
    run_in, run_last = runs[:, 1:], runs[:, 1 if reverse else -1 :][:, :1]

    earlier = torch.ones(length, length, dtype=torch.bool, device=x.device)
    earlier = earlier.triu() if reverse else earlier.tril()
    reached = earlier & (run_in[:, :, None] == run_in[:, None, :])
    between = _decay(inside[..., :, None] - inside[..., None, :], reached[:, None], x.dtype)
    from_entry = _decay(inside - entry, (run_in == 0)[:, None], x.dtype)
    to_end = _decay(last - inside, (run_in == run_last)[:, None], x.dtype)
    through = _decay(last - entry, (run_last == 0)[:, None], x.dtype)

    B, C = B.movedim(1, 2)[:, :, None], C.movedim(1, 2)[:, :, None]  # (batch, groups, 1, chunk, state)
    values = x.movedim(1, 2).reshape(*axes, length, head_dim)
    entered = state.reshape(*axes, head_dim, n_state)
    scores = (C @ B.mT) * between.reshape(*axes, length, length)
    y = scores @ values + (C @ entered.mT) * from_entry.reshape(*axes, length, 1)
    new = (values * to_end.reshape(*axes, length, 1)).mT @ B + entered * through.reshape(*axes, 1, 1)
    return y.reshape(batch, heads, length, head_dim).movedim(2, 1), new.reshape(state.shape)


def _run_numbers(keep: Tensor | None, batch: int, length: int, reverse: bool, device: torch.device) -> Tensor:
    """(batch, 1 + chunk): how many resets lie between the entry and each step, in the order of processing."""
    if keep is None:
        return torch.zeros(batch, 1 + length, dtype=torch.int64, device=device)
    dropped = ~(keep.flip(1) if reverse else keep)
    return torch.nn.functional.pad(dropped.to(torch.int64).cumsum(1), (1, 0))


def _decay(exponent: Tensor, reached: Tensor, dtype: torch.dtype) -> Tensor:
    """exp(exponent) where `reached`, zero elsewhere: masked before exp, which could overflow there."""
    return torch.exp(exponent.to(dtype).masked_fill(~reached, float("-inf")))
