"""The Mamba-2 functions of the package mamba-ssm, on our operators. Sequences are (batch, length, ...)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmamba.compat.convolution import causal_conv1d_fn, sequence_starts
from seqmamba.errors import UserError
from seqmamba.ops.selective_scan.reference import compute_dtype, step_size
from seqmamba.ops.ssd import ssd
from seqmamba.ops.validation import check_axes, check_shape

_UNLIMITED = (0.0, float("inf"))


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = _UNLIMITED,
    return_final_states: bool = False,
    return_varlen_states: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Run the recurrence of Mamba-2, as mamba-ssm's `mamba_chunk_scan_combined` does.

    Args:
        x: (batch, length, heads, head_dim).
        dt: (batch, length, heads).
        A: (heads,).
        B: (batch, length, groups, state).
        C: As B.
        chunk_size: As `seqmamba.ops.ssd` takes it: the result does not depend on it.
        D: (heads,) or (heads, head_dim).
        z: As x.
        dt_bias: (heads,).
        initial_states: (batch, heads, head_dim, state); they belong to the sequence with number 0.
        seq_idx: (batch, length) integer: the number of the packed sequence of each position, one run a
            sequence.
        cu_seqlens: (sequences + 1,) integer: where each packed sequence starts, and the length; read with
            `return_varlen_states` only, by the host. Without `seq_idx` it tells the sequences apart.
        dt_softplus: Whether dt goes through softplus, after its bias.
        dt_limit: Least and greatest dt, after both.
        return_final_states: Also return the state after the last step.
        return_varlen_states: Also return the state at the end of each sequence of `cu_seqlens`, which takes
            a second run; batch must be 1.

    Returns:
        y, shaped as x, then the final states (batch, heads, head_dim, state) and the states of the sequences
        (sequences, heads, head_dim, state), where they are asked for.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    name = "mamba_chunk_scan_combined"
    check_axes(name, "x", x, ("batch", "length", "heads", "head_dim"))
    check_axes(name, "B", B, ("batch", "length", "groups", "state"))
    (batch, length, heads, _), reset = x.shape, None
    check_shape(name, "dt", dt, {"batch": batch, "length": length, "heads": heads})
    if seq_idx is not None:
        check_shape(name, "seq_idx", seq_idx, {"batch": batch, "length": length})
        reset = sequence_starts(seq_idx)
        reset[:, 0] = seq_idx[:, 0] != 0
    if return_varlen_states:
        if cu_seqlens is None or batch != 1 or initial_states is not None:
            raise UserError(
                f"{name}: return_varlen_states takes cu_seqlens, a batch of 1 and no initial_states, got "
                f"cu_seqlens={'None' if cu_seqlens is None else 'given'}, batch {batch}, "
                f"initial_states={'None' if initial_states is None else 'given'}"
            )
        reset = _starts_at(cu_seqlens, length) if reset is None else reset
    if not dt_softplus or tuple(dt_limit) != _UNLIMITED:
        dt = step_size(dt, dt_bias, dt_softplus, compute_dtype(dt, dt_bias)).clamp(*dt_limit)
        dt_bias, dt_softplus = None, False
    parameters: dict[str, Any] = {
        "delta_bias": dt_bias,
        "delta_softplus": dt_softplus,
        "chunk_size": chunk_size,
    }
    y, final = ssd(
        x,
        dt,
        A,
        B,
        C,
        D,
        z,
        **parameters,
        initial_state=initial_states,
        return_final_state=True,
        reset=reset,
    )
    results = (y, final) if return_final_states else (y,)
    if return_varlen_states and cu_seqlens is not None:
        bounds = cu_seqlens.tolist()
        states = [final.new_zeros(final.shape[1:])] * (len(bounds) - 1)
        for i, (start, stop) in enumerate(pairwise(bounds)):
            if stop > start:
                own = [p[:, start:stop] for p in (x, dt, B, C)]
                states[i] = ssd(own[0], own[1], A, own[2], own[3], **parameters, return_final_state=True)[1][
                    0
                ]
        results = (*results, torch.stack(states))
    return results if len(results) > 1 else y


def mamba_split_conv1d_scan_combined(
    zxbcdt: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    chunk_size: int,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    dt_limit: tuple[float, float] = _UNLIMITED,
    return_final_states: bool = False,
    activation: str | None = "silu",
    rmsnorm_weight: Tensor | None = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Tensor | None = None,
    outproj_bias: Tensor | None = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run a Mamba-2 block between its two projections, the second one included, as mamba-ssm's function does.

    Args:
        zxbcdt: (batch, length, 2 extra + 2 dim + 2 groups state + heads) with dim = heads head_dim: the two
            halves of a SwiGLU beside the block (extra is often 0), gate, convolved inputs, dt.
        conv1d_weight: (dim + 2 groups state, width).
        conv1d_bias: (dim + 2 groups state,).
        dt_bias: (heads,); dt goes through softplus.
        A: (heads,).
        D: (heads,), or (heads, head_dim).
        chunk_size: As in `mamba_chunk_scan_combined`, and so are the next four.
        initial_states: (batch, heads, head_dim, state), of the scan; the convolution starts from zeros.
        seq_idx: (batch, length) integer.
        dt_limit: Least and greatest dt.
        return_final_states: Also return the state of the scan after the last step.
        activation: Of the convolution: None, "silu" or "swish".
        rmsnorm_weight: (dim,), normalises the output in groups.
        rmsnorm_eps: Added to the mean squares of this norm.
        outproj_weight: (out, extra + dim).
        outproj_bias: (out,).
        headdim: Needed where D is (heads,).
        ngroups: Groups of B and C, and of the norm.
        norm_before_gate: Whether the gate multiplies the normalised output, or goes into the norm.

    Returns:
        (batch, length, extra + dim), or (batch, length, out) with `outproj_weight`; with
        `return_final_states` also the state.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    name = "mamba_split_conv1d_scan_combined"
    check_axes(name, "zxbcdt", zxbcdt, ("batch", "length", "channels"))
    if D.ndim == 1 and headdim is None:
        raise UserError(f"{name}: headdim must be given where D is (heads,), got None")
    heads, head_dim = D.shape[0], headdim if D.ndim == 1 else D.shape[1]
    dim = heads * int(head_dim or 0)
    convolved = conv1d_weight.shape[0]
    projected, extra = (convolved - dim) // 2, (zxbcdt.shape[-1] - dim - convolved - heads) // 2
    if dim + 2 * projected != convolved or projected % ngroups or projected < ngroups:
        raise UserError(
            f"{name}: conv1d_weight must have dim + 2 groups state channels with dim={dim} and "
            f"groups={ngroups}, got {convolved}"
        )
    if extra < 0 or 2 * extra + dim + convolved + heads != zxbcdt.shape[-1]:
        raise UserError(
            f"{name}: zxbcdt must have 2 extra + {dim + convolved + heads} channels, got {zxbcdt.shape[-1]}"
        )
    beside, z, xBC, dt = zxbcdt.split([2 * extra, dim, convolved, heads], dim=-1)
    xBC = xBC.transpose(1, 2)
    xBC = cast(
        Tensor,
        causal_conv1d_fn(xBC, conv1d_weight, conv1d_bias, seq_idx=seq_idx, activation=activation),
    )
    x, B, C = xBC.transpose(1, 2).split([dim, projected, projected], dim=-1)
    y, final = mamba_chunk_scan_combined(
        x.unflatten(-1, (heads, -1)),
        dt,
        A,
        B.unflatten(-1, (ngroups, -1)),
        C.unflatten(-1, (ngroups, -1)),
        chunk_size,
        D,
        z.unflatten(-1, (heads, -1)) if rmsnorm_weight is None else None,
        dt_bias,
        initial_states,
        seq_idx,
        dt_softplus=True,
        dt_limit=dt_limit,
        return_final_states=True,
    )
    y = y.flatten(-2)
    if rmsnorm_weight is not None:
        y = _gated_norm(y, z, rmsnorm_weight, rmsnorm_eps, ngroups, norm_before_gate)
    if extra:
        gate, value = beside.chunk(2, dim=-1)
        y = torch.cat([F.silu(gate) * value, y], dim=-1)
    if outproj_weight is not None:
        y = F.linear(y, outproj_weight, outproj_bias)
    return (y, final) if return_final_states else y


def _gated_norm(
    y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int, norm_before_gate: bool
) -> Tensor:
    """Normalise each group of channels to unit mean square and gate, in float32 or wider."""
    dtype = compute_dtype(y, z, weight)
    wide, gate = y.to(dtype), F.silu(z.to(dtype))
    wide = wide if norm_before_gate else wide * gate
    wide = F.rms_norm(wide.unflatten(-1, (groups, -1)), (wide.shape[-1] // groups,), eps=eps).flatten(-2)
    wide = wide * weight.to(dtype)
    return (wide * gate if norm_before_gate else wide).to(y.dtype)


def _starts_at(cu_seqlens: Tensor, length: int) -> Tensor:
    """(1, length) bool: True at the offsets of `cu_seqlens`; empty sequences at the end start nowhere."""
    starts = torch.zeros(length + 1, dtype=torch.bool, device=cu_seqlens.device)
    return starts.index_fill(0, cu_seqlens.long(), True)[None, :length]
