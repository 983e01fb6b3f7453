"""The Mamba functions of the package mamba-ssm, on our operators. Sequences are (batch, dim, length)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.ops import causal_conv1d, selective_scan
from seqmamba.ops.validation import check_axes, check_shape


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the selective scan, as `mamba_ssm.ops.selective_scan_interface.selective_scan_fn` does.

    Gradients flow through the last state too. Dtypes may be mixed.

    Args:
        u: (batch, dim, length).
        delta: (batch, dim, length).
        A: (dim, state), real or complex.
        B: (batch, state, length) or (batch, groups, state, length); for complex A, twice the length: real and
            imaginary parts in turn. Or (dim, state), constant in time, which takes memory as if it were not.
        C: As B.
        D: (dim,).
        z: (batch, dim, length).
        delta_bias: (dim,).
        delta_softplus: Whether delta goes through softplus, after its bias.
        return_last_state: Also return the state after the last step.

    Returns:
        y (batch, dim, length) in u's dtype, with `return_last_state` also the state (batch, dim, state).

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    return _scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, "auto")


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `selective_scan_fn` one step at a time in PyTorch."""
    return _scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, "reference")


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Run a Mamba block between its two projections, the second one included, as mamba-ssm's function does.

    Convolution with SiLU, selection, scan, gate, output projection (Mamba, https://arxiv.org/abs/2312.00752,
    figure 3). The norms of the selection are differentiated, which mamba-ssm's backward leaves out.

    Args:
        xz: (batch, 2 dim, length), the projected input and the gate.
        conv1d_weight: (dim, 1, width).
        conv1d_bias: (dim,).
        x_proj_weight: (rank + 2 state, dim), twice the state where A is complex.
        delta_proj_weight: (dim, rank).
        out_proj_weight: (out, dim).
        out_proj_bias: (out,).
        A: (dim, state).
        B: As in `selective_scan_fn`; None selects it from the input.
        C: As B.
        D: (dim,).
        delta_bias: (dim,).
        B_proj_bias: (state,), added to a selected B.
        C_proj_bias: (state,), added to a selected C.
        delta_softplus: Whether delta goes through softplus, after its bias.
        checkpoint_lvl: 0 or 1; accepted, and has no effect: nothing is recomputed here.
        b_rms_weight: (state,), normalises a selected B.
        c_rms_weight: (state,), normalises a selected C.
        dt_rms_weight: (dim,), normalises delta after its projection.
        b_c_dt_rms_eps: Added to the mean squares of these norms.

    Returns:
        (batch, length, out).

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    name = "mamba_inner_fn"
    check_axes(name, "xz", xz, ("batch", "2 dim", "length"))
    if checkpoint_lvl not in (0, 1):
        raise UserError(f"{name}: checkpoint_lvl must be 0 or 1, got {checkpoint_lvl!r}")
    (dim, n_state), rank = A.shape, delta_proj_weight.shape[1]
    selected_size = n_state * (2 if A.is_complex() else 1)
    check_shape(name, "xz", xz, {"batch": xz.shape[0], "2 dim": 2 * dim, "length": xz.shape[2]})
    check_shape(
        name, "x_proj_weight", x_proj_weight, {"rank + 2 state": rank + 2 * selected_size, "dim": dim}
    )

    x, z = xz.transpose(1, 2).chunk(2, dim=-1)
    u = cast(Tensor, causal_conv1d(x, conv1d_weight.squeeze(1), conv1d_bias, activation="silu"))
    selected = F.linear(u, x_proj_weight)
    low_rank, for_B, for_C = selected.split([rank, selected_size, selected_size], dim=-1)
    delta = _normalise(F.linear(low_rank, delta_proj_weight), dt_rms_weight, b_c_dt_rms_eps)
    if B is None:
        B = _selected(for_B, B_proj_bias, b_rms_weight, b_c_dt_rms_eps, A.is_complex())
    else:
        B = _projection(name, "B", B, A, u)
    if C is None:
        C = _selected(for_C, C_proj_bias, c_rms_weight, b_c_dt_rms_eps, A.is_complex())
    else:
        C = _projection(name, "C", C, A, u)
    B, C = _same_groups(B, C, dim)
    y = cast(Tensor, selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus=delta_softplus))
    bias = None if out_proj_bias is None else out_proj_bias.to(out_proj_weight.dtype)
    return F.linear(y, out_proj_weight, bias)


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    return_last_state: bool,
    impl: str,
) -> Tensor | tuple[Tensor, Tensor]:
    name = "selective_scan_fn"
    check_axes(name, "u", u, ("batch", "dim", "length"))
    check_axes(name, "A", A, ("dim", "state"))
    sequence = dict(zip(("batch", "dim", "length"), u.shape, strict=True))
    check_shape(name, "delta", delta, sequence)
    if z is not None:
        check_shape(name, "z", z, sequence)
        z = z.transpose(1, 2)
    u, delta = u.transpose(1, 2), delta.transpose(1, 2)
    B, C = _same_groups(_projection(name, "B", B, A, u), _projection(name, "C", C, A, u), u.shape[2])
    y, final = selective_scan(
        u,
        delta,
        A,
        B,
        C,
        D,
        z,
        delta_bias,
        delta_softplus=delta_softplus,
        return_final_state=True,
        impl=impl,
    )
    return (y.transpose(1, 2), final) if return_last_state else y.transpose(1, 2)


def _projection(name: str, argument: str, p: Tensor, A: Tensor, u: Tensor) -> Tensor:
    """A B or C in one of mamba-ssm's forms as (batch, length, groups, state), for u (batch, length, dim)."""
    (batch, length, dim), n_state = u.shape, A.shape[1]
    if p.ndim == 2:
        check_shape(name, argument, p, {"dim": dim, "state": n_state})
        return p.expand(batch, length, dim, n_state)
    p = p[:, None] if p.ndim == 3 else p
    steps, size = ("2 length", 2 * length) if A.is_complex() else ("length", length)
    groups = p.shape[1] if p.ndim == 4 else 1
    check_shape(name, argument, p, {"batch": batch, "groups": groups, "state": n_state, steps: size})
    if A.is_complex():
        p = torch.view_as_complex(_wide(p).unflatten(-1, (length, 2)).contiguous())
    return p.permute(0, 3, 1, 2)


def _same_groups(B: Tensor, C: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Where one of the two is constant in time, and so has a group a channel, spread the other's groups."""
    if B.shape[2] != C.shape[2] and dim in (B.shape[2], C.shape[2]):
        B, C = (p.repeat_interleave(dim // p.shape[2], dim=2) for p in (B, C))
    return B, C


def _selected(p: Tensor, bias: Tensor | None, weight: Tensor | None, eps: float, is_complex: bool) -> Tensor:
    """B or C selected from the input: (batch, length, 1, state)."""
    p = p if bias is None else p + bias.to(p.dtype)
    p = _normalise(p, weight, eps)[:, :, None]
    return torch.view_as_complex(_wide(p).unflatten(-1, (-1, 2)).contiguous()) if is_complex else p


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _normalise(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    if weight is None:
        return x
    wide = _wide(x)
    return F.rms_norm(wide, (x.shape[-1],), weight.to(wide.dtype), eps).to(x.dtype)
