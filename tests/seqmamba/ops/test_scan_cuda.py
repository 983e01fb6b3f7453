"""The CUDA kernels of the selective scan: on a GPU, and the same sources on the CPU through the emulator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from emulator import emulate
from operator_cases import assert_all_close, scan_arguments, some_resets
from scan_cases import GRADIENTS, Machine, compare, scan_of_views

from seqmamba.ops import selective_scan
from seqmamba.ops.cuda import runtime

FLOAT, BFLOAT, HALF = torch.float32, torch.bfloat16, torch.float16


@dataclass(frozen=True)
class Case:
    """What a kernel is compiled for: each is a second or two of compiler, so they share out the options."""

    dtype: torch.dtype
    state: int
    dim: int
    groups: int = 1
    reverse: bool = False
    packed: bool = False
    softplus: bool = True
    without: str = ""
    views: bool = False

    def __str__(self) -> str:
        flags = [name for name in ("reverse", "packed", "softplus", "views") if getattr(self, name)]
        shape = f"{str(self.dtype)[6:]}-N{self.state}-dim{self.dim}-groups{self.groups}"
        return "-".join([shape, *flags, *(f"no {name}" for name in self.without.split())])


CASES = [
    Case(FLOAT, 16, 64, views=True),
    Case(FLOAT, 5, 51, reverse=True, packed=True),
    Case(FLOAT, 1, 1, packed=True, softplus=False, without="z D"),
    Case(FLOAT, 4, 130, groups=2, reverse=True, softplus=False, without="delta_bias"),
    Case(FLOAT, 12, 3, groups=3, packed=True, without="initial_state", views=True),
    Case(BFLOAT, 16, 64, reverse=True, packed=True, views=True),
    Case(BFLOAT, 8, 130, views=True),
    Case(BFLOAT, 2, 51, packed=True, softplus=False, without="z D delta_bias initial_state"),
    Case(BFLOAT, 9, 34, groups=2, reverse=True),
    Case(HALF, 16, 130, packed=True),
    Case(HALF, 4, 51, groups=3, reverse=True, views=True),
    Case(HALF, 9, 1, softplus=False, without="z"),
]
# (batch, length, multiprocessors): whole sequences around the steps that are staged and saved; segments
LENGTHS = [(2, 1, 1), (1, 2, 1), (2, 23, 1), (1, 24, 1), (1, 25, 1), (2, 97, 1), (1, 600, 4), (2, 389, 6)]


@pytest.mark.parametrize(("batch", "length", "multiprocessors"), LENGTHS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_match_float64(
    machine: Machine, case: Case, batch: int, length: int, multiprocessors: int
) -> None:
    machine.multiprocessors = multiprocessors
    arguments = scan_arguments(batch, length, case.dim, case.state, case.groups)
    arguments = {name: x for name, x in arguments.items() if name not in case.without.split()}
    if not case.softplus:
        arguments["delta"] = arguments["delta"].abs() * 0.1
        arguments.pop("delta_bias", None)
    compare(
        machine,
        arguments,
        case.dtype,
        operator=scan_of_views if case.views else selective_scan,
        delta_softplus=case.softplus,
        reverse=case.reverse,
        reset=some_resets(batch, length) if case.packed else None,
    )


@pytest.mark.parametrize(
    ("dtype", "dim", "state", "groups", "reverse", "packed"),
    [
        (FLOAT, 6, 17, 1, True, True),
        (FLOAT, 6, 40, 2, False, False),
        (BFLOAT, 3, 40, 1, False, True),
        (FLOAT, 2, 256, 1, False, False),
    ],
)
def test_more_states_than_a_kernel_holds(
    machine: Machine, dtype: torch.dtype, dim: int, state: int, groups: int, reverse: bool, packed: bool
) -> None:
    machine.multiprocessors = 4
    reset = some_resets(1, 500) if packed else None
    arguments = scan_arguments(1, 500, dim, state, groups)
    compare(machine, arguments, dtype, delta_softplus=True, reverse=reverse, reset=reset)


# Every entry of A alike, or a row of states. Weights become negligible within few steps, within a segment, at
# the end of one, or never; those of positive entries grow.
DECAYS = {
    "none": [0.0],
    "slow": [-1e-3],
    "fast": [-40.0],
    "of a segment": [-0.8, -0.8, -0.3, -0.3, -0.2, -0.2, -0.15, -0.1, -0.5],
    "fast beside slow": [-60.0, -8.0, -0.7, -0.07, -0.3, -0.2, -0.02, -1e-4, 0.0],
    "growing": [0.04, -30.0, 0.0, 0.01],
}


@pytest.mark.parametrize(("dtype", "reverse"), [(FLOAT, False), (BFLOAT, True)])
@pytest.mark.parametrize("decay", DECAYS)
def test_what_decays_between_segments(
    machine: Machine, decay: str, reverse: bool, dtype: torch.dtype
) -> None:
    machine.multiprocessors = 8
    arguments = scan_arguments(1, 1800, 34, 9)
    row = DECAYS[decay]
    arguments["A"] = torch.tensor(row * 9, dtype=torch.float64)[:9].repeat(34, 1)
    if decay == "fast beside slow":
        arguments["A"][::3] = arguments["A"][::3].flip(1)  # no warp's channels agree on which states are slow
    compare(machine, arguments, dtype, delta_softplus=True, reverse=reverse)


@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT, HALF])
@pytest.mark.parametrize("multiprocessors", [1, 4])
def test_a_gate_that_is_shut(machine: Machine, dtype: torch.dtype, multiprocessors: int) -> None:
    """Gates of exactly zero, which still have a gradient, and so far below that nothing is left of y."""
    machine.multiprocessors = multiprocessors
    arguments = scan_arguments(1, 500, 34, 4)
    for step, gate in enumerate((0.0, -0.0, 1e-8, -1e-3, -30.0, -88.0, -200.0, 60.0)):
        arguments["z"][:, step::11] = gate
    compare(machine, arguments, dtype, delta_softplus=True)


@pytest.mark.parametrize("multiprocessors", [1, 4])
def test_extreme_steps_stay_finite(machine: Machine, multiprocessors: int) -> None:
    """Decays of exactly zero and one, and steps far beyond both ends of softplus and exp."""
    machine.multiprocessors = multiprocessors
    arguments = scan_arguments(1, 500, 34, 4)
    arguments["delta"][:, ::3] = -60.0
    arguments["delta"][:, 1::3] = 300.0
    compare(machine, arguments, FLOAT, delta_softplus=True)


@pytest.mark.parametrize("reset", [[0], [-1], [191, 192, 193], [24, 25, 215, 216], list(range(500))])
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_that_start_where_a_kernel_cuts(
    machine: Machine, reset: list[int], reverse: bool
) -> None:
    machine.multiprocessors = 4
    mask = torch.zeros(2, 500, dtype=torch.bool)
    mask[1, reset] = True
    compare(machine, scan_arguments(2, 500, 34, 4), FLOAT, delta_softplus=True, reverse=reverse, reset=mask)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cut_anywhere_equals_the_whole(machine: Machine, reverse: bool) -> None:
    length = 500
    given = machine.hold({name: x.float() for name, x in scan_arguments(1, length, 34, 4).items()})
    initial = given.pop("initial_state")
    options = {"delta_softplus": True, "reverse": reverse, "impl": "cuda", "return_final_state": True}
    whole, final = selective_scan(**given, initial_state=initial, **options)
    machine.multiprocessors = 4
    for cut in (1, 23, 24, 25, 250, 499):
        parts = list(pairwise((0, cut, length)))
        state, pieces = initial, []
        for start, stop in reversed(parts) if reverse else parts:
            piece = {name: x[:, start:stop] if x.ndim == 3 else x for name, x in given.items()}
            y, state = selective_scan(**piece, initial_state=state, **options)
            pieces.append(y)
        y = torch.cat(pieces[::-1] if reverse else pieces, dim=1)
        torch.testing.assert_close(y, whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state, final, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("multiprocessors", [1, 4])
def test_a_gradient_of_one_output_only(machine: Machine, output: int, multiprocessors: int) -> None:
    machine.multiprocessors = multiprocessors
    arguments = scan_arguments(1, 500, 34, 4)
    gradients = []
    for given, impl in (
        (machine.hold({n: x.float() for n, x in arguments.items()}), "cuda"),
        (arguments, "chunked"),
    ):
        leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
        chosen = selective_scan(**leaves, delta_softplus=True, return_final_state=True, impl=impl)[output]
        found = torch.autograd.grad(chosen.sum(), list(leaves.values()), materialize_grads=True)
        gradients.append({name: x.cpu() for name, x in zip(leaves, found, strict=True)})
    assert_all_close(*gradients, GRADIENTS[FLOAT])


@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT])
def test_without_gradients_nothing_is_saved_and_outputs_are_the_same(
    machine: Machine, dtype: torch.dtype
) -> None:
    machine.multiprocessors = 4
    a: dict[str, Any] = machine.hold({name: x.to(dtype) for name, x in scan_arguments(1, 500, 34, 4).items()})
    options = {"delta_softplus": True, "impl": "cuda", "return_final_state": True}
    with_graph = selective_scan(**{name: x.clone().requires_grad_() for name, x in a.items()}, **options)
    for without, other in zip(selective_scan(**a, **options), with_graph, strict=True):
        assert torch.equal(without, other)
    operands = [a[name] for name in ("u", "delta", "A")] + [a[name][:, :, None] for name in ("B", "C")]
    rest = (a["D"], a["z"], a["delta_bias"], a["initial_state"], None, True, False)
    saved = [torch.ops.seqmamba.selective_scan_forward(*operands, *rest, save)[2] for save in (False, True)]
    assert saved[0].numel() == 0
    assert saved[1].isfinite().all()
    assert saved[1].dtype == dtype


def test_mixed_dtypes_and_layouts(machine: Machine) -> None:
    """As autocast and a fused projection hand them over: low precision, strided and broadcast views."""
    machine.multiprocessors = 4
    arguments = {name: x.float() for name, x in scan_arguments(2, 500, 34, 4).items()}
    arguments |= {name: arguments[name].to(BFLOAT) for name in ("u", "z", "D")}
    arguments["B"] = arguments["B"][:1]

    def operator(**given: Any) -> Any:
        given["B"] = given["B"].expand(2, -1, -1)
        given["delta"] = given["delta"].transpose(1, 2).contiguous().transpose(1, 2)
        return scan_of_views(**given, delta_softplus=True, return_final_state=True)

    results = []
    for given, impl in (
        (machine.hold(arguments), "cuda"),
        ({n: x.double() for n, x in arguments.items()}, "chunked"),
    ):
        leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
        y, final = operator(**leaves, impl=impl)
        found = torch.autograd.grad(y.double().square().sum() + final.double().sum(), list(leaves.values()))
        results.append({"y": y, "final state": final, **dict(zip(leaves, found, strict=True))})
    actual = {name: x.detach().cpu() for name, x in results[0].items()}
    assert_all_close(actual, results[1], GRADIENTS[BFLOAT])
    assert [actual[name].dtype for name in arguments] == [x.dtype for x in arguments.values()]
    assert (actual["y"].dtype, actual["final state"].dtype) == (BFLOAT, FLOAT)


@pytest.mark.parametrize(
    ("dtype", "state", "dim", "reverse"),
    [(FLOAT, 16, 64, False), (BFLOAT, 9, 130, True), (HALF, 4, 51, True)],
)
def test_no_barrier_is_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, state: int, dim: int, reverse: bool
) -> None:
    """Warps in ascending and descending order, copies as late and as early as allowed: the same bits."""
    if machine.device == "cuda":
        pytest.skip("a GPU runs its warps in the order it wants")
    monkeypatch.setattr(runtime, "launch", partial(emulate, order="both"))
    machine.multiprocessors = 4
    reset = some_resets(1, 500)
    compare(
        machine, scan_arguments(1, 500, dim, state), dtype, delta_softplus=True, reverse=reverse, reset=reset
    )
