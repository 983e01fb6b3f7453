from __future__ import annotations

import importlib
from itertools import pairwise

import pytest
import torch
from operator_cases import (
    TOLERANCE,
    assert_all_close,
    rounded,
    run_with_gradients,
    scan_arguments,
    some_resets,
)
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import selective_scan, selective_state_step

chunked = importlib.import_module("seqmamba.ops.selective_scan.chunked")
IMPLEMENTATIONS = ("reference", "chunked", "numba")
FAST_IN = [
    ("chunked", torch.float64),
    ("chunked", torch.float32),
    ("chunked", torch.bfloat16),
    ("numba", torch.float32),
    ("numba", torch.bfloat16),
    ("numba", torch.float16),
]


@pytest.mark.parametrize(("impl", "dtype"), FAST_IN)
@pytest.mark.parametrize("length", [1, 33, 95])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_and_gradients_match_the_float64_reference(
    impl: str, dtype: torch.dtype, length: int, reverse: bool, packed: bool
) -> None:
    arguments = scan_arguments(length=length)
    reset = some_resets(2, length) if packed else None
    options = {"delta_softplus": True, "reverse": reverse, "reset": reset}
    actual = run_with_gradients(selective_scan, arguments, dtype, impl=impl, **options)
    reference = run_with_gradients(
        selective_scan, rounded(arguments, dtype), torch.float64, impl="reference", **options
    )
    assert_all_close(actual, reference, TOLERANCE[dtype])
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_small_model_is_scanned_in_long_chunks(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "MOST_STEPS", 512)
    sizes = [(1, False), (64, False), (2**12, False), (2**12, True), (2**20, True)]
    assert [chunked.chunk_steps(*size) for size in sizes] == [512, 512, 32, 256, 32]
    arguments = scan_arguments(length=600)
    options = {"delta_softplus": True, "reverse": reverse, "reset": some_resets(2, 600)}
    actual, expected = (
        run_with_gradients(selective_scan, arguments, torch.float64, impl=impl, **options)
        for impl in ("chunked", "reference")
    )
    assert_all_close(actual, expected, TOLERANCE[torch.float64])


@pytest.mark.parametrize("impl", ["chunked", "numba"])
@pytest.mark.parametrize(
    ("batch", "dim", "state", "groups"),
    [(1, 1, 1, 1), (1, 70, 16, 1), (3, 130, 3, 1), (2, 34, 4, 2), (1, 6, 2, 6)],
)
def test_shapes_that_do_not_fill_a_tile(impl: str, batch: int, dim: int, state: int, groups: int) -> None:
    arguments = scan_arguments(batch, 35, dim, state, groups)
    dtype = torch.float32 if impl == "numba" else torch.float64
    actual = run_with_gradients(selective_scan, arguments, dtype, delta_softplus=True, impl=impl)
    expected = run_with_gradients(
        selective_scan, arguments, torch.float64, delta_softplus=True, impl="reference"
    )
    assert_all_close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("impl", ["chunked", "numba"])
def test_without_the_optional_arguments(impl: str) -> None:
    arguments = scan_arguments(every=False)
    actual = run_with_gradients(selective_scan, arguments, torch.float32, impl=impl)
    assert_all_close(
        actual, run_with_gradients(selective_scan, arguments, torch.float64, impl="reference"), 4e-6
    )


def test_the_reference_is_the_recurrence_of_the_paper() -> None:
    a = scan_arguments(1, 4, 1, 1, every=False)
    h, wanted = torch.zeros((), dtype=torch.float64), []
    for t in range(4):
        u, delta, B, C = a["u"][0, t, 0], a["delta"][0, t, 0], a["B"][0, t, 0], a["C"][0, t, 0]
        h = torch.exp(delta * a["A"][0, 0]) * h + delta * B * u
        wanted.append(C * h)
    y = selective_scan(**a, impl="reference")
    torch.testing.assert_close(y[0, :, 0], torch.stack(wanted), rtol=1e-12, atol=0)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_the_reference_pass_gradcheck(reverse: bool) -> None:
    arguments = {name: x.requires_grad_() for name, x in scan_arguments(1, 4, 2, 2).items()}

    def operator(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(arguments, tensors, strict=True))
        options = {"reverse": reverse, "reset": some_resets(1, 4), "return_final_state": True}
        return selective_scan(**named, delta_softplus=True, impl="reference", **options)

    assert torch.autograd.gradcheck(operator, tuple(arguments.values()))


@pytest.mark.parametrize("complex_projections", [False, True])
def test_complex_state_matrix(complex_projections: bool) -> None:
    arguments = scan_arguments(2, 35, 4, 3)
    arguments["A"] = torch.complex(arguments["A"], 5 * torch.randn(4, 3, dtype=torch.float64))
    arguments["initial_state"] = arguments["initial_state"].to(torch.complex128)
    if complex_projections:
        arguments["B"], arguments["C"] = arguments["B"] * (1 + 2j), arguments["C"] * (1 - 1j)

    def both(impl: str) -> tuple[dict[str, Tensor], Tensor]:
        leaves = {name: x.clone().requires_grad_() for name, x in arguments.items()}
        y, final = selective_scan(**leaves, delta_softplus=True, return_final_state=True, impl=impl)
        (y.sum() + final.abs().sum()).backward()
        grads = {name: torch.view_as_real(x.grad + 0j) for name, x in leaves.items()}
        return {"y": y.detach(), "final": torch.view_as_real(final.detach()), **grads}, y

    actual, y = both("auto")
    assert_all_close(actual, both("reference")[0], 1e-10)
    assert not y.is_complex()
    # a conjugate pair of real-coefficient states is what 2 Re stands for
    if not complex_projections:
        pair = {"A": arguments["A"].conj(), "initial_state": arguments["initial_state"].conj()}
        torch.testing.assert_close(y, selective_scan(**(arguments | pair), delta_softplus=True, impl="auto"))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_runs(impl: str, reverse: bool) -> None:
    arguments = {name: x.float() for name, x in scan_arguments(1, 70, 5, 3).items()}
    initial = arguments.pop("initial_state")
    bounds = [0, 1, 30, 33, 70]
    reset = torch.zeros(1, 70, dtype=torch.bool)
    reset[0, bounds[:-1]] = True
    options = {"delta_softplus": True, "reverse": reverse, "impl": impl, "return_final_state": True}
    y, final = selective_scan(**arguments, initial_state=initial, reset=reset, **options)
    for start, stop in pairwise(bounds):
        alone = {name: x[:, start:stop] if x.ndim == 3 else x for name, x in arguments.items()}
        # what comes from outside the row enters at its open end only: the reset at 0 closes the left one
        enters = {"initial_state": initial} if reverse and stop == 70 else {}
        y_alone, final_alone = selective_scan(**alone, **enters, **options)
        torch.testing.assert_close(y[:, start:stop], y_alone, rtol=1e-5, atol=1e-6)
        if (start == 0) if reverse else (stop == 70):
            torch.testing.assert_close(final, final_alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
def test_a_reset_cuts_off_what_is_no_number(impl: str, reverse: bool, garbage: float) -> None:
    """A state of NaN times a decay of zero is NaN: it must be dropped, in the gradients too."""
    length, bad, good = 70, slice(33, 70), slice(0, 33)  # in a chunk and over its border
    if not reverse:
        bad, good = slice(0, 37), slice(37, 70)
    arguments = {name: x.float() for name, x in scan_arguments(1, length, 5, 3).items()}
    del arguments["initial_state"]
    spoilt = {name: x.clone().requires_grad_() for name, x in arguments.items()}
    with torch.no_grad():
        for name in ("u", "delta", "B", "C", "z"):
            spoilt[name][:, bad] = garbage
    reset = torch.zeros(1, length, dtype=torch.bool)
    reset[0, max(good.start, bad.start)] = True
    options = {"delta_softplus": True, "reverse": reverse, "impl": impl}
    y = selective_scan(**spoilt, reset=reset, **options)[:, good]
    alone = {name: (x[:, good] if x.ndim == 3 else x).requires_grad_() for name, x in arguments.items()}
    y_alone = selective_scan(**alone, **options)
    torch.testing.assert_close(y, y_alone, rtol=1e-5, atol=1e-6)
    sequences = ("u", "delta", "B", "C", "z")
    actual = torch.autograd.grad(y.square().sum(), [spoilt[name] for name in sequences])
    expected = torch.autograd.grad(y_alone.square().sum(), [alone[name] for name in sequences])
    for got, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(got[:, good], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cut_anywhere_equals_the_whole(impl: str, reverse: bool) -> None:
    length = 67
    arguments = {name: x.float() for name, x in scan_arguments(2, length, 5, 3).items()}
    initial = arguments.pop("initial_state")
    options = {"delta_softplus": True, "reverse": reverse, "impl": impl, "return_final_state": True}
    whole, final = selective_scan(**arguments, initial_state=initial, **options)
    for cut in (1, 31, 32, 33, 66):
        parts = [slice(0, cut), slice(cut, length)]
        state, pieces = initial, []
        for part in reversed(parts) if reverse else parts:
            piece = {name: x[:, part] if x.ndim == 3 else x for name, x in arguments.items()}
            y, state = selective_scan(**piece, initial_state=state, **options)
            pieces.append(y)
        y = torch.cat(pieces[::-1] if reverse else pieces, dim=1)
        torch.testing.assert_close(y, whole, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state, final, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_reverse_equals_flipping(impl: str) -> None:
    arguments = {name: x.float() for name, x in scan_arguments().items()}
    flipped = {
        name: x.flip(1) if x.ndim == 3 and name != "initial_state" else x for name, x in arguments.items()
    }
    options = {"delta_softplus": True, "impl": impl, "return_final_state": True}
    y, final = selective_scan(**arguments, reverse=True, **options)
    y_flipped, final_flipped = selective_scan(**flipped, **options)
    torch.testing.assert_close(y, y_flipped.flip(1))
    torch.testing.assert_close(final, final_flipped)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_causality(impl: str) -> None:
    arguments = {name: x.float() for name, x in scan_arguments(1, 40, 3, 2).items()}
    changed = arguments | {name: arguments[name].clone() for name in ("u", "delta", "B", "C", "z")}
    for name in ("u", "delta", "B", "C", "z"):
        changed[name][:, 20] += 1
    y, y_changed = (selective_scan(**x, delta_softplus=True, impl=impl) for x in (arguments, changed))
    assert torch.equal(y[:, :20], y_changed[:, :20])
    assert (y[:, 20:] != y_changed[:, 20:]).any()


@pytest.mark.parametrize("groups", [1, 2])
def test_steps_equal_the_scan(groups: int) -> None:
    arguments = scan_arguments(2, 9, 4, 3, groups)
    whole, final = selective_scan(**arguments, delta_softplus=True, return_final_state=True, impl="reference")
    state = arguments.pop("initial_state")
    for t in range(9):
        step = {name: x[:, t] if x.ndim >= 3 else x for name, x in arguments.items()}
        y, state = selective_state_step(state, **step, delta_softplus=True)
        torch.testing.assert_close(y, whole[:, t])
    torch.testing.assert_close(state, final)


@pytest.mark.parametrize("impl", ["chunked", "numba"])
def test_mixed_dtypes_and_layouts(impl: str) -> None:
    """As autocast and a fused projection hand them over: low precision, strided and broadcast views."""
    a = scan_arguments(2, 35, 8, 4)
    xz = torch.cat([a["u"], a["z"]], dim=-1).to(torch.bfloat16)
    u, z = xz.chunk(2, dim=-1)
    B = a["B"][:1].float().expand(2, -1, -1)
    given = dict(a, u=u, z=z, B=B, delta=a["delta"].float().transpose(1, 2).contiguous().transpose(1, 2))
    given = {name: x.float() if x.dtype == torch.float64 else x for name, x in given.items()}
    y = selective_scan(**given, delta_softplus=True, impl=impl)
    wanted = selective_scan(
        **{name: x.double() for name, x in given.items()}, delta_softplus=True, impl="reference"
    )
    assert y.dtype == torch.bfloat16
    assert_all_close({"y": y}, {"y": wanted}, TOLERANCE[torch.bfloat16])


def test_extreme_steps_stay_finite() -> None:
    """Decays of exactly zero and one, and steps far beyond both ends of softplus and exp."""
    arguments = scan_arguments(1, 40, 4, 3)
    arguments["delta"][:, ::3] = -60.0
    arguments["delta"][:, 1::3] = 300.0
    options = {"delta_softplus": True, "reset": None}
    actual = run_with_gradients(selective_scan, arguments, torch.float32, impl="numba", **options)
    expected = run_with_gradients(selective_scan, arguments, torch.float64, impl="reference", **options)
    assert_all_close(actual, expected, 4e-6)


def test_numba_leaves_the_denormals_of_the_caller_alone() -> None:
    arguments = {name: x.float().requires_grad_() for name, x in scan_arguments().items()}
    selective_scan(**arguments, delta_softplus=True, impl="numba").sum().backward()
    assert torch.tensor([1e-40]) * torch.tensor([2.0]) > 0


def test_numba_results_do_not_depend_on_the_number_of_threads() -> None:
    arguments = scan_arguments(3, 70, 130, 4)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            results.append(
                run_with_gradients(
                    selective_scan, arguments, torch.float32, delta_softplus=True, impl="numba"
                )
            )
    finally:
        torch.set_num_threads(threads)
    for name, first in results[0].items():
        assert all(torch.equal(first, other[name]) for other in results[1:]), name


def test_numba_saves_one_state_a_segment_and_none_without_gradients() -> None:
    a = {name: x.float() for name, x in scan_arguments(2, 100, 6, 5).items()}
    operands = [a[name] for name in ("u", "delta", "A")] + [a[name][:, :, None] for name in ("B", "C")]
    rest = (a["D"], a["z"], a["delta_bias"], a["initial_state"], None, True, False)
    assert torch.ops.seqmamba.selective_scan_forward(*operands, *rest, True)[2].shape == (2 * 4 * 5 * 6,)
    assert torch.ops.seqmamba.selective_scan_forward(*operands, *rest, False)[2].numel() == 0


def test_a_second_derivative_of_numba_is_refused_and_of_chunked_works() -> None:
    arguments = {name: x.float().requires_grad_() for name, x in scan_arguments(1, 5, 2, 2).items()}
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(
            selective_scan(**arguments, impl="numba").sum(), arguments["u"], create_graph=True
        )
    (first,) = torch.autograd.grad(
        selective_scan(**arguments, impl="chunked").sum(), arguments["z"], create_graph=True
    )
    assert torch.autograd.grad(first.sum(), arguments["z"])[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"delta": torch.zeros(2, 36, 6)},
            r"delta must have shape \(batch=2, length=37, dim=6\), got \(2, 36, 6\)",
        ),
        ({"A": torch.zeros(7, 5)}, r"A must have shape \(dim=6, state=5\), got \(7, 5\)"),
        ({"u": torch.zeros(2, 0, 6)}, "u must have a length of at least 1"),
        ({"u": torch.zeros(2, 37)}, r"u must be \(batch, length, dim\), got shape \(2, 37\)"),
        ({"B": torch.zeros(2, 37, 4, 5), "C": torch.zeros(2, 37, 4, 5)}, "must divide dim=6, got 4"),
        ({"C": torch.zeros(2, 37, 2, 5)}, "C must have shape"),
        ({"D": torch.zeros(5)}, r"D must have shape \(dim=6\), got \(5,\)"),
        ({"u": torch.zeros(2, 37, 6, dtype=torch.int64)}, "u must be floating point, got dtype torch.int64"),
        ({"B": torch.zeros(2, 37, 5, dtype=torch.complex64)}, "B must be floating point"),
        ({"reset": torch.zeros(2, 37)}, "reset must be a bool mask, got dtype torch.float32"),
        ({"z": torch.zeros(2, 37, 6, device="meta")}, "z must be on cpu like u, got meta"),
        ({"impl": "cuda"}, "cannot run here: it runs on an NVIDIA GPU and the tensors are on cpu"),
        (
            {"impl": "triton"},
            "impl must be one of auto, cuda, numba, chunked, reference, mamba_ssm, got 'triton'",
        ),
        (
            {"u": torch.zeros(2, 37, 6, dtype=torch.float64), "impl": "numba"},
            "cannot run here: it computes in float32",
        ),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    arguments = {name: x.float() for name, x in scan_arguments().items()}
    with pytest.raises(UserError, match=message):
        selective_scan(**(arguments | change))
