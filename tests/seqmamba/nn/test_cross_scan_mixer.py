"""The mixer over a grid against four loops over its cells, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scan_loop import scan_in_order
from torch import Tensor
from torch.nn import functional as F

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn import CrossScan, GridOptions, MixerConfig, build_mixer, pack, reset_from_lengths, unpack

DIM = 6


def make(width: int, dtype: torch.dtype = torch.float64, **options: Any) -> CrossScan:
    torch.manual_seed(0)
    options = {"d_state": 3, **options}
    config = MixerConfig(DIM, direction="bidirectional", grid=GridOptions(width), **options)
    mixer = build_mixer("cross_scan", config)
    assert isinstance(mixer, CrossScan)
    torch.nn.init.normal_(mixer.out_norm.bias)
    return mixer.to(dtype)


def grid(rows: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(100 * rows + width)
    return torch.randn(batch, rows * width, DIM, dtype=torch.float64, generator=generator)


def written_out(mixer: CrossScan, x: Tensor) -> Tensor:
    width, rows = mixer.width, x.shape[1] // mixer.width
    inner, z = mixer.in_proj(x).chunk(2, dim=-1)
    image = inner.mT.reshape(*inner.mT.shape[:2], rows, width)
    weight, bias = mixer.conv2d.weight, mixer.conv2d.bias
    u = F.silu(F.conv2d(image, weight, bias, padding=1, groups=inner.shape[-1])).flatten(2).mT
    by_row = list(range(rows * width))
    by_column = [r * width + c for c in range(width) for r in range(rows)]
    y = sum(
        scan_in_order(selection, u, order)
        for selection, order in (
            (mixer.rows_fwd, by_row),
            (mixer.rows_rev, by_row[::-1]),
            (mixer.columns_fwd, by_column),
            (mixer.columns_rev, by_column[::-1]),
        )
    )
    assert isinstance(y, Tensor)
    norm = mixer.out_norm
    y = F.layer_norm(y, y.shape[-1:], norm.weight, norm.bias, norm.eps)
    return mixer.out_proj(y * F.silu(z))


def with_gradients(function: Any, mixer: CrossScan, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    seed = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    return [y, *torch.autograd.grad(y, [x, *mixer.parameters()], seed)]


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 4), (4, 1), (3, 5), (6, 2)])
def test_outputs_and_gradients_are_those_of_four_loops(rows: int, width: int) -> None:
    mixer, x = make(width), grid(rows, width)
    actual = with_gradients(lambda x: mixer(x)[0], mixer, x)
    expected = with_gradients(lambda x: written_out(mixer, x), mixer, x)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("options", [{"conv_bias": False, "bias": True}, {"dt_rank": 2, "expand": 1}])
def test_unusual_sizes(options: dict[str, Any]) -> None:
    mixer, x = make(3, **options), grid(4, 3)
    torch.testing.assert_close(mixer(x)[0], written_out(mixer, x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("impl", ["auto", "chunked", "reference", "numba"])
def test_every_implementation_of_the_scan(impl: str) -> None:
    mixer, x = make(3, torch.float32, scan_impl=impl), grid(4, 3).float()
    expected = written_out(make(3), x.double()).float()
    torch.testing.assert_close(mixer(x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"complex_state": True}, {"bc_norm": "rms"}, {"bc_norm": "learned", "dt_limit": (0.01, 0.2)}]
)
def test_options_of_the_selection(options: dict[str, Any]) -> None:
    x = grid(4, 3)
    actual, expected = (make(3, scan_impl=impl, **options)(x)[0] for impl in ("auto", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    assert not torch.allclose(actual, make(3)(x)[0])


@pytest.mark.parametrize(("impl", "filling"), [("auto", torch.nan), ("reference", torch.nan)])
def test_a_padded_batch_equals_separate_grids(impl: str, filling: float) -> None:
    width = 4
    mixer = make(width, scan_impl=impl)
    rows = torch.tensor([3, 5, 1])
    separate = [grid(int(n), width, batch=1) for n in rows]
    padded = torch.full((3, 5 * width, DIM), filling, dtype=torch.float64)
    for row, x in zip(padded, separate, strict=True):
        row[: x.shape[1]] = x[0]
    y, _ = mixer(padded, reset=reset_from_lengths(rows * width, padded.shape[1]))
    for got, x in zip(y, separate, strict=True):
        torch.testing.assert_close(got[: x.shape[1]], written_out(mixer, x)[0], rtol=1e-9, atol=1e-10)


def test_packed_grids_equal_separate_ones_with_gradients() -> None:
    width, heights = 3, [2, 1, 4, 1]
    mixer = make(width)
    separate = [grid(n, width, batch=1)[0] for n in heights]
    packed, reset = pack(separate)

    def apart(x: Tensor) -> Tensor:
        return torch.cat([mixer(part[None])[0] for part in unpack(x, [n * width for n in heights])], dim=1)

    actual = with_gradients(lambda x: mixer(x, reset=reset)[0], mixer, packed)
    torch.testing.assert_close(actual, with_gradients(apart, mixer, packed), rtol=1e-9, atol=1e-10)


def test_every_cell_sees_every_other() -> None:
    mixer, x = make(4), grid(3, 4, batch=1).requires_grad_()
    y, _ = mixer(x)
    for position in range(12):
        (seen,) = torch.autograd.grad(y[0, position].sum(), x, retain_graph=True)
        assert (seen[0].abs().amax(-1) > 0).all()


@pytest.mark.parametrize("packed", [False, True])
def test_a_stack_of_it_compiles_whole(packed: bool) -> None:
    config = BackboneConfig(
        DIM, 2, mixer=("cross_scan+mlp", "cross_scan"), direction="bidirectional", grid=GridOptions(3)
    )
    backbone = Backbone(config)
    x = grid(4, 3).float().requires_grad_()
    reset = reset_from_lengths(torch.tensor([12, 6]), 12) if packed else None
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    found, expected = (f(x, reset=reset) for f in (compiled, backbone))
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_autocast_keeps_the_norm_and_the_scans_wide(device: str) -> None:
    mixer = make(8, torch.float32).to(device)
    x = grid(16, 8).float().to(device)
    reset = reset_from_lengths(torch.tensor([128, 64], device=device), 128)
    with torch.autocast(device, torch.bfloat16):
        y, _ = mixer(x, reset=reset)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())
    torch.testing.assert_close(y.float(), mixer(x, reset=reset)[0], rtol=0.05, atol=0.05)


def test_mistakes_are_named() -> None:
    mixer = make(4)
    for call, message in (
        (lambda: mixer(grid(2, 3)), "expected whole rows of grid.width=4 positions, got a length of 6"),
        (lambda: mixer(grid(2, 4), return_state=True), "bidirectional layer has no recurrent state"),
        (lambda: mixer.init_state(1), "bidirectional layer has no recurrent state"),
        (lambda: mixer(grid(2, 4), rate=2.0), "mixer cross_scan runs at the sampling rate"),
        (
            lambda: build_mixer("cross_scan", MixerConfig(DIM, direction="bidirectional")),
            "grid.width: mixer cross_scan needs the number of the grid's columns, got None",
        ),
        (
            lambda: build_mixer("cross_scan", MixerConfig(DIM, grid=GridOptions(4))),
            "mixer 'cross_scan' offers bidirectional, got 'causal'",
        ),
        (lambda: make(4, combine="concat"), "mixer cross_scan adds its directions in one .*, got 'concat'"),
    ):
        with pytest.raises(UserError, match=message):
            call()
