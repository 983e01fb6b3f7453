from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from operator_cases import TOLERANCE, assert_all_close, rounded, run_with_gradients, some_resets
from ssd_cases import ssd_arguments, steps_of
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import explain, selective_scan, ssd, ssd_state_step

IMPLEMENTATIONS = ("reference", "chunked")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "chunk_size"), [(1, 256), (37, 8), (37, 37), (64, 16)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_chunks_match_the_float64_reference(
    dtype: torch.dtype, length: int, chunk_size: int, reverse: bool, packed: bool
) -> None:
    arguments = ssd_arguments(length=length)
    reset = some_resets(2, length) if packed else None
    options = {"delta_softplus": True, "reverse": reverse, "reset": reset}
    actual = run_with_gradients(ssd, arguments, dtype, impl="chunked", chunk_size=chunk_size, **options)
    expected = run_with_gradients(ssd, rounded(arguments, dtype), torch.float64, impl="reference", **options)
    assert_all_close(actual, expected, TOLERANCE[dtype])
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize(
    ("batch", "heads", "head_dim", "state", "groups"), [(1, 1, 1, 1, 1), (3, 6, 2, 7, 3), (1, 4, 9, 16, 4)]
)
@pytest.mark.parametrize("wide_skip", [False, True])
def test_shapes_and_both_kinds_of_skip(
    batch: int, heads: int, head_dim: int, state: int, groups: int, wide_skip: bool
) -> None:
    arguments = ssd_arguments(batch, 21, heads, head_dim, state, groups, wide_skip=wide_skip)
    actual = run_with_gradients(ssd, arguments, torch.float64, delta_softplus=True, chunk_size=8)
    expected = run_with_gradients(ssd, arguments, torch.float64, delta_softplus=True, impl="reference")
    assert_all_close(actual, expected, TOLERANCE[torch.float64])


def test_without_the_optional_arguments_and_the_group_axis() -> None:
    arguments = ssd_arguments(groups=1, every=False)
    expected = run_with_gradients(ssd, arguments, torch.float64, impl="reference")
    arguments |= {"B": arguments["B"][:, :, 0], "C": arguments["C"][:, :, 0]}
    actual = run_with_gradients(ssd, arguments, torch.float64, chunk_size=16)
    expected |= {f"gradient of {name}": expected[f"gradient of {name}"][:, :, 0] for name in "BC"}
    assert_all_close(actual, expected, TOLERANCE[torch.float64])


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_the_selective_scan_with_one_decay_a_head(impl: str, reverse: bool) -> None:
    arguments = ssd_arguments(groups=1)
    reset = some_resets(2, 37)
    y, final = ssd(
        **arguments, delta_softplus=True, reverse=reverse, reset=reset, return_final_state=True, impl=impl
    )
    heads, head_dim, n_state = 4, 5, 3
    scan = {
        "u": arguments["x"].flatten(2),
        "delta": arguments["delta"].repeat_interleave(head_dim, dim=2),
        "A": arguments["A"].repeat_interleave(head_dim)[:, None].expand(-1, n_state),
        "B": arguments["B"][:, :, 0],
        "C": arguments["C"][:, :, 0],
        "D": arguments["D"].flatten(),
        "z": arguments["z"].flatten(2),
        "delta_bias": arguments["delta_bias"].repeat_interleave(head_dim),
        "initial_state": arguments["initial_state"].flatten(1, 2),
    }
    wanted, state = selective_scan(
        **scan, delta_softplus=True, reverse=reverse, reset=reset, return_final_state=True, impl="reference"
    )
    torch.testing.assert_close(y.flatten(2), wanted)
    torch.testing.assert_close(final, state.view(2, heads, head_dim, n_state))


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_the_reference_pass_gradcheck(reverse: bool) -> None:
    arguments = {name: x.requires_grad_() for name, x in ssd_arguments(1, 4, 2, 2, 2, 1).items()}

    def operator(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(arguments, tensors, strict=True))
        options = {"reverse": reverse, "reset": some_resets(1, 4), "return_final_state": True}
        return ssd(**named, delta_softplus=True, impl="reference", **options)

    assert torch.autograd.gradcheck(operator, tuple(arguments.values()))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_runs(impl: str, reverse: bool) -> None:
    arguments = ssd_arguments(1, 70)
    initial = arguments.pop("initial_state")
    bounds = [0, 1, 30, 33, 70]
    reset = torch.zeros(1, 70, dtype=torch.bool)
    reset[0, bounds[:-1]] = True
    options = {"delta_softplus": True, "reverse": reverse, "impl": impl, "return_final_state": True}
    y, final = ssd(**arguments, initial_state=initial, reset=reset, chunk_size=16, **options)
    for start, stop in pairwise(bounds):
        # what comes from outside the row enters at its open end only: the reset at 0 closes the left one
        enters = {"initial_state": initial} if reverse and stop == 70 else {}
        y_alone, final_alone = ssd(**steps_of(arguments, slice(start, stop)), **enters, **options)
        torch.testing.assert_close(y[:, start:stop], y_alone)
        if (start == 0) if reverse else (stop == 70):
            torch.testing.assert_close(final, final_alone)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_leaks_out_of_padding(impl: str, reverse: bool) -> None:
    arguments = ssd_arguments(2, 40)
    del arguments["initial_state"]
    padded = {name: x.clone() for name, x in arguments.items()}
    for name in ("x", "B", "C", "z"):
        padded[name][:, 21:] = 1e30
    padded["delta"][:, 21:] = 300.0
    reset = (torch.arange(40) == 21).expand(2, -1)
    options = {"delta_softplus": True, "reverse": reverse, "impl": impl}
    y = ssd(**padded, reset=reset, chunk_size=16, **options)
    torch.testing.assert_close(y[:, :21], ssd(**steps_of(arguments, slice(0, 21)), **options))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cut_anywhere_equals_the_whole(reverse: bool) -> None:
    arguments = ssd_arguments(length=67)
    initial = arguments.pop("initial_state")
    options = {"delta_softplus": True, "reverse": reverse, "chunk_size": 32, "return_final_state": True}
    whole, final = ssd(**arguments, initial_state=initial, **options)
    for cut in (1, 31, 32, 33, 66):
        parts = [slice(0, cut), slice(cut, 67)]
        state, pieces = initial, []
        for part in reversed(parts) if reverse else parts:
            y, state = ssd(**steps_of(arguments, part), initial_state=state, **options)
            pieces.append(y)
        torch.testing.assert_close(torch.cat(pieces[::-1] if reverse else pieces, dim=1), whole)
        torch.testing.assert_close(state, final)


def test_steps_equal_the_scan_and_carry_gradients() -> None:
    arguments = ssd_arguments(length=9, wide_skip=False)
    whole, final = ssd(**arguments, delta_softplus=True, return_final_state=True, impl="reference")
    first = arguments.pop("initial_state").requires_grad_()
    state, shared = first, ("A", "D", "delta_bias")
    for t in range(9):
        step = {name: x if name in shared else x[:, t] for name, x in arguments.items()}
        y, state = ssd_state_step(state, **step, delta_softplus=True)
        torch.testing.assert_close(y, whole[:, t])
    torch.testing.assert_close(state, final)
    state.sum().backward()
    assert first.grad is not None


def test_mixed_dtypes_and_strided_views_under_autocast() -> None:
    a = {name: x.float() for name, x in ssd_arguments(groups=1).items()}
    x, z = torch.cat([a["x"], a["z"]], dim=-1).to(torch.bfloat16).chunk(2, dim=-1)
    given = a | {"x": x, "z": z, "B": a["B"][:1].expand(2, -1, -1, -1)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, final = ssd(**given, delta_softplus=True, return_final_state=True)
    wanted, state = ssd(
        **{name: x.double() for name, x in given.items()}, delta_softplus=True, return_final_state=True
    )
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    assert_all_close({"y": y}, {"y": wanted}, TOLERANCE[torch.bfloat16])
    assert_all_close({"state": final}, {"state": state}, TOLERANCE[torch.float32])


def test_extreme_steps_stay_finite() -> None:
    """Decays of exactly zero and one, and steps far beyond both ends of softplus and exp."""
    arguments = ssd_arguments(1, 40)
    arguments["delta"][:, ::3] = -60.0
    arguments["delta"][:, 1::3] = 300.0
    actual = run_with_gradients(ssd, arguments, torch.float32, delta_softplus=True)
    expected = run_with_gradients(ssd, arguments, torch.float64, delta_softplus=True, impl="reference")
    assert_all_close(actual, expected, TOLERANCE[torch.float32])


def test_one_graph_serves_every_length() -> None:
    def model(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        y, final = ssd(x, delta, A, B, C, z=x, delta_softplus=True, return_final_state=True)
        return y.sum() + final.sum()

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (37, 50):
        a = [x.float() for x in ssd_arguments(length=length, every=False).values()]
        leaves, wanted = ([x.clone().requires_grad_() for x in a] for _ in range(2))
        value, expected = compiled(*leaves), model(*wanted)
        value.backward()
        expected.backward()
        torch.testing.assert_close(value, expected)
        for leaf, other in zip(leaves, wanted, strict=True):
            torch.testing.assert_close(leaf.grad, other.grad)


def test_the_step_compiles() -> None:
    a = {name: x.float() for name, x in ssd_arguments(length=1).items()}
    state, shared = a.pop("initial_state"), ("A", "D", "delta_bias")
    step = {name: x if name in shared else x[:, 0] for name, x in a.items()}
    compiled = torch.compile(ssd_state_step, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(compiled(state, **step), ssd_state_step(state, **step), strict=True):
        torch.testing.assert_close(actual, expected)


def test_explanation() -> None:
    explanation = explain(ssd)
    assert explanation.chosen == "chunked"
    assert list(explanation.verdicts) == ["triton", "chunked", "reference"]
    assert "cannot run: it runs on an NVIDIA GPU" in explanation.verdicts["triton"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": torch.zeros(2, 36, 4)}, r"delta must have shape \(batch=2, length=37, heads=4\), got"),
        ({"A": torch.zeros(4, 3)}, r"A must have shape \(heads=4\), got \(4, 3\)"),
        ({"x": torch.zeros(2, 37, 20)}, r"x must be \(batch, length, heads, head_dim\), got shape"),
        ({"x": torch.zeros(2, 0, 4, 5)}, "x must have a length of at least 1"),
        ({"B": torch.zeros(2, 37, 3, 3), "C": torch.zeros(2, 37, 3, 3)}, "must divide heads=4, got 3"),
        ({"C": torch.zeros(2, 37, 2, 5)}, "C must have shape"),
        ({"D": torch.zeros(5)}, r"D must have shape \(heads=4\), got \(5,\)"),
        ({"D": torch.zeros(4, 6)}, r"D must have shape \(heads=4, head_dim=5\), got \(4, 6\)"),
        ({"initial_state": torch.zeros(2, 4, 3, 5)}, "initial_state must have shape"),
        (
            {"x": torch.zeros(2, 37, 4, 5, dtype=torch.int64)},
            "x must be floating point, got dtype torch.int64",
        ),
        ({"A": torch.zeros(4, dtype=torch.complex64)}, "A must be floating point, got dtype torch.complex64"),
        ({"reset": torch.zeros(2, 37)}, "reset must be a bool mask, got dtype torch.float32"),
        ({"z": torch.zeros(2, 37, 4, 5, device="meta")}, "z must be on cpu like x, got meta"),
        (
            {"reset": torch.zeros(2, 37, dtype=torch.bool, device="meta")},
            "reset must be on cpu like x, got meta",
        ),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"impl": "cuda"}, "impl must be one of auto, triton, chunked, reference, got 'cuda'"),
        ({"impl": "triton"}, "cannot run here: it runs on an NVIDIA GPU and the tensors are on cpu"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    arguments = {name: x.float() for name, x in ssd_arguments().items()}
    with pytest.raises(UserError, match=message):
        ssd(**(arguments | change))


def test_mistakes_of_the_step_are_named() -> None:
    a = {name: x.float() for name, x in ssd_arguments(length=1).items()}
    state = a.pop("initial_state")
    step = {name: x if name in ("A", "D", "delta_bias") else x[:, 0] for name, x in a.items()}
    with pytest.raises(UserError, match=r"ssd_state_step: state must have shape \(batch=2, heads=4"):
        ssd_state_step(state[..., :2], **step)
    with pytest.raises(UserError, match="ssd_state_step: the groups of B and C must divide heads=4, got 3"):
        ssd_state_step(state, **(step | {"B": torch.zeros(2, 3, 3), "C": torch.zeros(2, 3, 3)}))


def test_the_gpu_tests_pass_in_tritons_interpreter() -> None:
    """Triton reads the variable when it is imported: these tests need a process of their own."""
    pytest.importorskip("triton")
    tests = Path(__file__).with_name("test_ssd_gpu.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", str(tests)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stdout + done.stderr
