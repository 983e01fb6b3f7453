from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from lti_cases import LTI_TOLERANCE, cast, lti_arguments, rounded, run_lti
from operator_cases import assert_all_close, some_resets
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.nn import reset_from_lengths
from seqmamba.ops import explain, lti, lti_discretise, lti_state_step

FAST = ("fft", "chunked")
FORMS = [(False, "zoh"), (False, "bilinear"), (True, "zoh"), (True, "bilinear")]


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize(("low_rank", "discretisation"), FORMS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("length", [1, 2, 37, 64, 150])
def test_every_implementation_is_the_reference(
    impl: str, low_rank: bool, discretisation: str, reverse: bool, packed: bool, length: int
) -> None:
    arguments = lti_arguments(length=length, low_rank=low_rank)
    reset = some_resets(2, length) if packed else None
    options = {"discretisation": discretisation, "reverse": reverse, "reset": reset}
    actual = run_lti(lti, arguments, torch.float64, impl=impl, **options)
    expected = run_lti(lti, arguments, torch.float64, impl="reference", **options)
    assert_all_close(actual, expected, LTI_TOLERANCE[torch.float64])


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_dtypes_match_the_float64_reference(impl: str, low_rank: bool, dtype: torch.dtype) -> None:
    arguments = lti_arguments(length=150, low_rank=low_rank)
    actual = run_lti(lti, arguments, dtype, impl=impl)
    expected = run_lti(lti, rounded(arguments, dtype), torch.float64, impl="reference")
    assert_all_close(actual, expected, LTI_TOLERANCE[dtype])
    assert (actual["y"].dtype, actual["final state"].dtype) == (dtype, torch.complex64)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("low_rank", [False, True])
def test_gradients_of_the_reference_pass_gradcheck(reverse: bool, low_rank: bool) -> None:
    arguments = {name: x.requires_grad_() for name, x in lti_arguments(1, 4, 2, 2, low_rank=low_rank).items()}

    def operator(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(arguments, tensors, strict=True))
        return lti(**named, reverse=reverse, return_final_state=True, impl="reference")

    assert torch.autograd.gradcheck(operator, tuple(arguments.values()))


def test_the_convolution_can_be_differentiated_twice() -> None:
    arguments = lti_arguments(1, 5, 2, 2, every=False)
    leaves = [arguments[name].requires_grad_() for name in ("u", "B", "C")]

    def operator(u: Tensor, B: Tensor, C: Tensor) -> Tensor:
        return lti(u, arguments["delta"], arguments["A"], B, C, impl="fft")

    assert torch.autograd.gradgradcheck(operator, leaves)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("low_rank", [False, True])
def test_a_cut_anywhere_equals_the_whole(impl: str, reverse: bool, low_rank: bool) -> None:
    arguments = lti_arguments(length=139, low_rank=low_rank)
    u, initial = arguments.pop("u"), arguments.pop("initial_state")
    options = {"reverse": reverse, "return_final_state": True, "impl": impl}
    whole, final = lti(u, **arguments, initial_state=initial, **options)
    for cut in (1, 63, 64, 65, 138):
        parts = [u[:, :cut], u[:, cut:]]
        state, pieces = initial, []
        for part in parts[::-1] if reverse else parts:
            y, state = lti(part, **arguments, initial_state=state, **options)
            pieces.append(y)
        torch.testing.assert_close(torch.cat(pieces[::-1] if reverse else pieces, dim=1), whole)
        torch.testing.assert_close(state, final)


@pytest.mark.parametrize("impl", [*FAST, "reference"])
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_runs(impl: str, reverse: bool) -> None:
    arguments = lti_arguments(1, 170)
    u, initial = arguments.pop("u"), arguments.pop("initial_state")
    bounds = [0, 1, 30, 33, 170]
    reset = torch.zeros(1, 170, dtype=torch.bool)
    reset[0, bounds[:-1]] = True
    options = {"reverse": reverse, "impl": impl, "return_final_state": True}
    y, final = lti(u, **arguments, initial_state=initial, reset=reset, **options)
    for start, stop in pairwise(bounds):
        # what comes from outside the row enters at its open end only: the reset at 0 closes the left one
        enters = {"initial_state": initial} if reverse and stop == 170 else {}
        y_alone, final_alone = lti(u[:, start:stop], **arguments, **enters, **options)
        torch.testing.assert_close(y[:, start:stop], y_alone)
        if (start == 0) if reverse else (stop == 170):
            torch.testing.assert_close(final, final_alone)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_leaks_out_of_padding(impl: str, reverse: bool) -> None:
    arguments = lti_arguments(3, 50, every=False)
    lengths = torch.tensor([50, 7, 31])
    u = arguments.pop("u")
    poisoned = torch.where((torch.arange(50) < lengths[:, None])[..., None], u, torch.nan)
    reset = reset_from_lengths(lengths, 50)
    y = lti(poisoned, **arguments, reverse=reverse, reset=reset, impl=impl)
    for row, n in enumerate(lengths.tolist()):
        alone = lti(u[row : row + 1, :n], **arguments, reverse=reverse, impl=impl)
        torch.testing.assert_close(y[row : row + 1, :n], alone)


@pytest.mark.parametrize(("low_rank", "discretisation"), FORMS)
def test_steps_equal_the_convolution_and_carry_gradients(low_rank: bool, discretisation: str) -> None:
    a = lti_arguments(length=9, low_rank=low_rank)
    whole, final = lti(**a, discretisation=discretisation, return_final_state=True)
    system = lti_discretise(a["delta"], a["A"], a["B"], P=a.get("P"), discretisation=discretisation)
    first = a["initial_state"].requires_grad_()
    state = first
    for t in range(9):
        y, state = lti_state_step(state, a["u"][:, t], system, a["C"], a["D"])
        torch.testing.assert_close(y, whole[:, t])
    torch.testing.assert_close(state, final)
    state.abs().sum().backward()
    assert first.grad is not None
    assert first.grad.abs().min() > 0


def test_autocast_and_mixed_dtypes_leave_states_in_float32() -> None:
    a = {name: cast(x, torch.float32) for name, x in lti_arguments(length=70, low_rank=True).items()}
    a["u"] = a["u"].bfloat16()
    wanted, state = lti(**rounded(a, torch.float32), return_final_state=True, impl="reference")
    for impl in FAST:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, final = lti(**a, return_final_state=True, impl=impl)
        assert (y.dtype, final.dtype) == (torch.bfloat16, torch.complex64)
        assert_all_close({"y": y, "state": final}, {"y": wanted}, LTI_TOLERANCE[torch.bfloat16])
        assert_all_close({"state": final}, {"state": state}, LTI_TOLERANCE[torch.float32])


@pytest.mark.parametrize(("impl", "lengths"), [("fft", (37, 50)), ("chunked", (70,))])
def test_one_graph_without_breaks(impl: str, lengths: tuple[int, ...]) -> None:
    def model(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, P: Tensor) -> Tensor:
        y, final = lti(u, delta, A, B, C, P=P, discretisation="bilinear", return_final_state=True, impl=impl)
        return y.sum() + final.abs().sum()

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for length in (37, 50):
        a = [
            cast(x, torch.float32) for x in lti_arguments(length=length, low_rank=True, every=False).values()
        ]
        leaves, wanted = ([x.clone().requires_grad_() for x in a] for _ in range(2))
        value, expected = compiled(*leaves), model(*wanted)
        value.backward()
        expected.backward()
        torch.testing.assert_close(value, expected)
        for leaf, other in zip(leaves, wanted, strict=True):
            torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("operator", [lti, "bidirectional_lti"])
def test_explanation(operator: object) -> None:
    explanation = explain(operator, u=torch.zeros(1, 2, 3), A=torch.zeros(3, 2, dtype=torch.complex64))
    assert explanation.chosen == "fft"
    assert list(explanation.verdicts) == ["fft", "chunked", "reference"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.zeros(2, 37)}, r"lti: u must be \(batch, length, dim\), got shape"),
        ({"u": torch.zeros(2, 0, 6)}, "lti: u must have a length of at least 1"),
        ({"u": torch.zeros(2, 37, 5)}, "lti: A must have a row for each of the 5 channels of u, got 6"),
        ({"delta": torch.zeros(5)}, r"lti: delta must have shape \(dim=6\), got \(5,\)"),
        ({"A": torch.zeros(6, 4)}, "lti: A must be complex, got dtype torch.float32"),
        ({"B": torch.zeros(6, 3, dtype=torch.complex64)}, r"lti: B must have shape \(dim=6, state=4\)"),
        ({"C": torch.zeros(6, 4)}, "lti: C must be complex, got dtype torch.float32"),
        (
            {"P": torch.zeros(4, dtype=torch.complex64)},
            r"lti: P must have shape \(dim=6, state=4\), got \(4,\)",
        ),
        ({"D": torch.zeros(6, dtype=torch.complex64)}, "lti: D must be floating point, got dtype"),
        ({"initial_state": torch.zeros(2, 6, 4)}, "lti: initial_state must be complex"),
        ({"initial_state": torch.zeros(1, 6, 4, dtype=torch.complex64)}, "initial_state must have shape"),
        ({"reset": torch.zeros(2, 37)}, "lti: reset must be a bool mask, got dtype torch.float32"),
        (
            {"reset": torch.zeros(2, 37, dtype=torch.bool, device="meta")},
            "reset must be on cpu like u, got meta",
        ),
        ({"C": torch.zeros(6, 4, dtype=torch.complex64, device="meta")}, "C must be on cpu like u, got meta"),
        ({"discretisation": "euler"}, "discretisation must be one of zoh, bilinear, got 'euler'"),
        ({"rate": 0.0}, "lti: rate must be a positive number, got 0.0"),
        ({"impl": "numba"}, "impl must be one of auto, fft, chunked, reference, got 'numba'"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    arguments = {name: cast(x, torch.float32) for name, x in lti_arguments().items()}
    with pytest.raises(UserError, match=message):
        lti(**(arguments | change))


def test_mistakes_of_the_step_are_named() -> None:
    a = {name: cast(x, torch.float32) for name, x in lti_arguments(length=1).items()}
    system = lti_discretise(a["delta"], a["A"], a["B"])
    with pytest.raises(UserError, match=r"lti_state_step: state must have shape \(batch=2, dim=6, state=4\)"):
        lti_state_step(a["initial_state"][:1], a["u"][:, 0], system, a["C"])
    with pytest.raises(UserError, match="lti_state_step: state must be complex"):
        lti_state_step(a["initial_state"].real, a["u"][:, 0], system, a["C"])
    with pytest.raises(UserError, match=r"lti_state_step: system.drive must have shape \(dim=6, state=4\)"):
        lti_state_step(a["initial_state"], a["u"][:, 0], system._replace(drive=a["B"][:5]), a["C"])
