"""mamba-ssm and causal-conv1d behind our operators: stand-ins here, the real packages on a GPU."""

from __future__ import annotations

import sys
from typing import Any

import peer_stand_ins
import pytest
import torch
from operator_cases import (
    TOLERANCE,
    assert_all_close,
    conv_arguments,
    scan_arguments,
    some_resets,
)
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import causal_conv1d, explain, selective_scan
from seqmamba.ops.causal_conv1d import upstream as conv_upstream
from seqmamba.ops.selective_scan import upstream as scan_upstream

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Relative to the largest value; they use fast math, and sum gradients in any order.
GPU_TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def _graded(
    operator: Any, arguments: dict[str, Tensor], dtypes: dict[str, torch.dtype], device: str, **options: Any
) -> dict[str, Tensor]:
    """Outputs, and the gradient of every argument for a fixed gradient of y alone."""
    leaves = {
        name: x.to(device, dtypes.get(name, x.dtype)).clone().requires_grad_()
        for name, x in arguments.items()
    }
    y, final = operator(**leaves, **options, return_final_state=True)
    seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).to(torch.bfloat16)
    gradients = torch.autograd.grad(y, list(leaves.values()), seed.to(y.device, y.dtype))
    named = {f"gradient of {name}": grad for name, grad in zip(leaves, gradients, strict=True)}
    return {key: x.detach().cpu() for key, x in {"y": y, "final state": final, **named}.items()}


def _scan_case(length: int, groups: int, every: bool, dtype: torch.dtype, complex_state: bool) -> Any:
    arguments = scan_arguments(2, length, 8, 5, groups, every=every)
    arguments.pop("initial_state", None)
    parameters = {name: torch.float32 for name in ("A", "D", "delta_bias") if name in arguments}
    if complex_state:
        frequency = torch.linspace(0, 5, arguments["A"].numel(), dtype=torch.float64)
        arguments["A"] = torch.complex(arguments["A"], frequency.view_as(arguments["A"]))
        parameters["A"] = torch.complex64
    return arguments, dict.fromkeys(arguments, dtype) | parameters


def _check_scan(
    device: str, length: int, groups: int, every: bool, dtype: torch.dtype, complex_state: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    arguments, dtypes = _scan_case(length, groups, every, dtype, complex_state)
    actual = _graded(selective_scan, arguments, dtypes, device, delta_softplus=every, impl="mamba_ssm")
    exact = {name: x.to(dtypes[name]).to(x.dtype) for name, x in arguments.items()}
    expected = _graded(selective_scan, exact, {}, "cpu", delta_softplus=every, impl="reference")
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == (torch.complex64 if complex_state else torch.float32)
    as_real = torch.view_as_real
    return tuple(  # type: ignore[return-value]
        {name: as_real(x) if x.is_complex() else x for name, x in result.items()}
        for result in (actual, expected)
    )


SCAN_CASES = [
    *[(37, 1, True, dtype, False) for dtype in DTYPES],
    (1, 1, True, torch.float32, False),
    (50, 2, True, torch.float32, False),
    (37, 8, True, torch.bfloat16, False),
    (37, 1, False, torch.float32, False),
    (37, 1, True, torch.float32, True),
    (20, 1, False, torch.float32, True),
]


@pytest.mark.parametrize(("length", "groups", "every", "dtype", "complex_state"), SCAN_CASES)
def test_the_scan_calls_mamba_ssm_rightly(
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    groups: int,
    every: bool,
    dtype: torch.dtype,
    complex_state: bool,
) -> None:
    peer_stand_ins.install_scan(monkeypatch)
    assert_all_close(*_check_scan("cpu", length, groups, every, dtype, complex_state), TOLERANCE[dtype])


def test_the_scan_takes_views_and_low_precision_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a fused projection and a model in bfloat16 hand them over; and long enough for several chunks."""
    peer_stand_ins.install_scan(monkeypatch)
    a = {name: x.bfloat16() for name, x in scan_arguments(1, 2100, 2, 2).items() if name != "initial_state"}
    a["u"], a["z"] = torch.cat([a["u"], a["z"]], dim=-1).chunk(2, dim=-1)
    a["B"] = a["B"][:, :1].expand(-1, 2100, -1)
    y, final = selective_scan(**a, delta_softplus=True, return_final_state=True, impl="mamba_ssm")
    wide = {name: x.double() for name, x in a.items()}
    wanted, last = selective_scan(**wide, delta_softplus=True, return_final_state=True, impl="chunked")
    assert_all_close({"y": y, "final": final}, {"y": wanted, "final": last}, 8e-3)
    assert not final.requires_grad


def test_the_scan_has_no_gradient_through_the_final_state(monkeypatch: pytest.MonkeyPatch) -> None:
    peer_stand_ins.install_scan(monkeypatch)
    a = {name: x.float().requires_grad_() for name, x in scan_arguments(1, 5, 2, 2, every=False).items()}
    y, final = selective_scan(**a, return_final_state=True, impl="mamba_ssm")
    with pytest.raises(UserError, match=r"no gradient through the final state.*detach the final state"):
        (y.sum() + final.sum()).backward()
    y, _ = selective_scan(**a, return_final_state=True, impl="mamba_ssm")
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(y.sum(), a["u"], create_graph=True)


def test_the_scan_says_what_mamba_ssm_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    peer_stand_ins.install_scan(monkeypatch)
    a = {name: x.float() for name, x in scan_arguments(every=False).items()}
    many = {"A": torch.zeros(6, 257), "B": torch.zeros(2, 37, 257), "C": torch.zeros(2, 37, 257)}
    for change, reason in (
        ({"initial_state": torch.zeros(2, 6, 5)}, "it starts from a zero state and initial_state is given"),
        ({"reverse": True}, "it scans from left to right and reverse is set"),
        ({"reset": some_resets(2, 37)}, "it cannot keep packed sequences apart and reset is given"),
        ({"u": a["u"].double()}, "it computes in float32 and u is torch.float64"),
        ({"D": torch.zeros(6).double()}, "it computes in float32 and D is torch.float64"),
        ({"B": a["B"].bfloat16()}, "it wants B in the dtype of u, torch.float32, and it is torch.bfloat16"),
        (many, "it takes a state of at most 256 and A has 257"),
        (
            {name: a[name].half() for name in ("u", "delta", "B", "C")} | {"A": a["A"] + 0j},
            "it wants u in float32 where A is complex, and it is torch.float16",
        ),
    ):
        with pytest.raises(UserError, match=f"impl='mamba_ssm' cannot run here: {reason}"):
            selective_scan(**(a | change), impl="mamba_ssm")
        assert str(explain(selective_scan, **(a | change))).endswith(f"cannot run: {reason}")


def test_the_limits_of_its_offsets_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_upstream, "_DEVICE", "meta")
    for (batch, length, dim, state), reason in (
        ((1, 8, 70_000, 16), "a dim of at most 65,535 and u has 70,000"),
        ((64, 2**20, 8192, 16), "in 32 bits and needs 4,294,967,296 of them"),
    ):
        example = {
            "u": torch.empty(batch, length, dim, device="meta"),
            "A": torch.empty(dim, state, device="meta"),
        }
        assert reason in explain(selective_scan, **example).verdicts["mamba_ssm"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 37])
@pytest.mark.parametrize(
    ("width", "packed", "state", "silu"),
    [
        (4, False, True, True),
        (4, True, True, True),
        (3, True, False, False),
        (2, False, False, True),
    ],
)
def test_the_convolution_calls_causal_conv1d_rightly(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    length: int,
    width: int,
    packed: bool,
    state: bool,
    silu: bool,
) -> None:
    peer_stand_ins.install_convolution(monkeypatch)
    assert_all_close(*_check_convolution("cpu", dtype, length, width, packed, state, silu), TOLERANCE[dtype])


def _check_convolution(
    device: str, dtype: torch.dtype, length: int, width: int, packed: bool, state: bool, silu: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    arguments = conv_arguments(2, length, 16, width)
    if not state:
        del arguments["initial_state"]
    reset = some_resets(2, length) if packed else None
    options: dict[str, Any] = {"activation": "silu" if silu else None}
    here = None if reset is None else reset.to(device)
    dtypes = dict.fromkeys(arguments, dtype) | {"weight": torch.float32, "bias": torch.float32}
    actual = _graded(causal_conv1d, arguments, dtypes, device, reset=here, impl="causal_conv1d", **options)
    exact = {name: x.to(dtypes[name]).double() for name, x in arguments.items()}
    expected = _graded(causal_conv1d, exact, {}, "cpu", reset=reset, impl="reference", **options)
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == torch.float32
    return actual, expected


def test_the_convolution_differentiates_its_final_state(monkeypatch: pytest.MonkeyPatch) -> None:
    peer_stand_ins.install_convolution(monkeypatch)
    results = {}
    for impl in ("causal_conv1d", "reference"):
        a = {name: x.float().requires_grad_() for name, x in conv_arguments(2, 2, 8).items()}
        _, final = causal_conv1d(**a, return_final_state=True, impl=impl)
        results[impl] = torch.autograd.grad(final.sum(), [a["x"], a["initial_state"]])
    for actual, expected in zip(*results.values(), strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_convolution_takes_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of a projection go in as they lie where their strides allow it, and a copy otherwise."""
    peer_stand_ins.install_convolution(monkeypatch)
    a = {name: x.float() for name, x in conv_arguments(2, 30, 8).items()}
    wanted = causal_conv1d(**a, impl="reference")
    for other in (8, 5):
        both = torch.cat([torch.zeros(2, 30, other), a["x"]], dim=-1)
        y = causal_conv1d(**(a | {"x": both[..., other:]}), impl="causal_conv1d")
        torch.testing.assert_close(y, wanted)
    x = a["x"].requires_grad_()
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(causal_conv1d(x, a["weight"], impl="causal_conv1d").sum(), x, create_graph=True)


def test_the_convolution_says_what_causal_conv1d_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    peer_stand_ins.install_convolution(monkeypatch)
    a = {name: x.float() for name, x in conv_arguments(2, 9, 8).items()}
    odd = {name: x.float() for name, x in conv_arguments(2, 9, 6).items()}
    wide = {name: x.float() for name, x in conv_arguments(2, 9, 8, 5).items()}
    for change, reason in (
        ({"reverse": True}, "it runs from left to right and reverse is set"),
        ({"x": a["x"].double()}, "it computes in float32 and x is torch.float64"),
        (
            {"bias": a["bias"].half()},
            "it wants bias in the dtype of weight, torch.float32, and it is torch.float16",
        ),
        (
            {"x": a["x"].half()},
            "it wants initial_state in the dtype of x, torch.float16, and it is torch.float32",
        ),
        (odd, "it takes a dim that is a multiple of 8 and x has 6"),
        (wide, "it takes a width of 2, 3 or 4 and weight has 5"),
    ):
        with pytest.raises(UserError, match=f"impl='causal_conv1d' cannot run here: {reason}"):
            causal_conv1d(**(a | change), impl="causal_conv1d")
    monkeypatch.setattr(conv_upstream, "_DEVICE", "meta")
    for shape, reason in (
        ((1, 2**22, 8), "a length of at most 4,194,240 and x has 4,194,304"),
        ((64, 2**20, 64), "counts elements in 32 bits and x has 4,294,967,296"),
    ):
        verdicts = explain(causal_conv1d, x=torch.empty(shape, device="meta")).verdicts
        assert reason in verdicts["causal_conv1d"]


@pytest.mark.parametrize(
    ("operator", "name", "extension"),
    [
        ("selective_scan", "mamba_ssm", "selective_scan_cuda"),
        ("causal_conv1d", "causal_conv1d", "causal_conv1d_cuda"),
    ],
)
def test_a_missing_or_broken_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, operator: str, name: str, extension: str
) -> None:
    explanation = explain(operator)
    assert explanation.chosen != name
    assert explanation.verdicts[name].endswith("cannot run: it runs on a GPU")
    module = {"selective_scan": scan_upstream, "causal_conv1d": conv_upstream}[operator]
    monkeypatch.setattr(module, "_DEVICE", "cpu")
    first = {"selective_scan": "u", "causal_conv1d": "x"}[operator]
    package = {"selective_scan": "mamba-ssm", "causal_conv1d": "causal-conv1d"}[operator]
    monkeypatch.setitem(sys.modules, extension, None)
    with pytest.raises(
        UserError, match=rf"{extension} of the package {package} is not installed .*pip install"
    ):
        explain(operator, impl=name, **{first: torch.zeros(1)})
    monkeypatch.delitem(sys.modules, extension)
    (tmp_path / f"{extension}.py").write_text("raise ImportError('undefined symbol: _ZN3c10')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"{extension} .* does not load: undefined symbol: _ZN3c10"):
        explain(operator, impl=name, **{first: torch.zeros(1)})


def test_auto_never_chooses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    peer_stand_ins.install_scan(monkeypatch)
    explanation = explain("selective_scan", u=torch.zeros(1))
    assert explanation.chosen == "numba"
    assert 'can run, if asked for with impl="mamba_ssm"' in explanation.verdicts["mamba_ssm"]


@pytest.fixture
def _any_algorithm() -> Any:
    """causal-conv1d and PyTorch's own sums take a slower way, or refuse, where order is asked for."""
    torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.usefixtures("_any_algorithm")
@pytest.mark.parametrize(
    ("length", "groups", "every", "dtype", "complex_state"),
    [*SCAN_CASES, (4500, 1, True, torch.float32, False)],
)
def test_the_real_mamba_ssm(
    length: int, groups: int, every: bool, dtype: torch.dtype, complex_state: bool
) -> None:
    pytest.importorskip(
        "selective_scan_cuda", reason="mamba-ssm's scan kernel is not installed", exc_type=ImportError
    )
    assert_all_close(*_check_scan("cuda", length, groups, every, dtype, complex_state), GPU_TOLERANCE[dtype])


@pytest.mark.gpu
@pytest.mark.usefixtures("_any_algorithm")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("length", "width", "packed", "state"),
    [(1, 4, False, True), (37, 4, True, True), (130, 3, True, False), (2, 2, False, True)],
)
def test_the_real_causal_conv1d(
    dtype: torch.dtype, length: int, width: int, packed: bool, state: bool
) -> None:
    pytest.importorskip("causal_conv1d_cuda", reason="causal-conv1d is not installed", exc_type=ImportError)
    both = _check_convolution("cuda", dtype, length, width, packed, state, True)
    assert_all_close(*both, GPU_TOLERANCE[dtype])
