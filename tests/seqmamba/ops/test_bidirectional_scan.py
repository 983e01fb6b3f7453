"""`bidirectional_scan` against two scans in float64: fused on a GPU or the emulator, and as two calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_cases import TOLERANCE, assert_all_close, scan_arguments, some_resets
from scan_cases import GRADIENTS, Machine
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import bidirectional_scan, selective_scan

FLOAT, BFLOAT, HALF = torch.float32, torch.bfloat16, torch.float16
PAIRS = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def both_directions(
    length: int, dim: int, state: int, groups: int = 1, *, every: bool = True
) -> dict[str, Any]:
    """All arguments of `bidirectional_scan` in float64."""
    forward = scan_arguments(2, length, dim, state, groups, every=every)
    forward.pop("initial_state", None)
    generator = torch.Generator().manual_seed(5)
    shuffled = {
        name: x.flatten()[torch.randperm(x.numel(), generator=generator)].view(x.shape)
        for name, x in forward.items()
    }
    pairs = {name: (forward[name], shuffled[name]) for name in PAIRS if name in forward}
    return pairs | ({"z": forward["z"]} if "z" in forward else {})


def cast(arguments: dict[str, Any], dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
    return {
        name: x.to(device, dtype) if isinstance(x, Tensor) else tuple(y.to(device, dtype) for y in x)
        for name, x in arguments.items()
    }


def by_two_scans(z: Tensor | None = None, reset: Tensor | None = None, **pairs: Any) -> Tensor:
    """The definition."""
    options = {"z": z, "reset": reset, "delta_softplus": pairs.pop("delta_softplus"), "impl": "chunked"}
    forward, reverse = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
    return selective_scan(**forward, **options) + selective_scan(**reverse, **options, reverse=True)


def with_gradients(operator: Any, arguments: dict[str, Any], **options: Any) -> dict[str, Tensor]:
    leaves = {
        name: x.clone().requires_grad_()
        if isinstance(x, Tensor)
        else tuple(y.clone().requires_grad_() for y in x)
        for name, x in arguments.items()
    }
    flat = {
        f"gradient of {name}{i}": leaf
        for name, x in leaves.items()
        for i, leaf in enumerate((x,) if isinstance(x, Tensor) else x)
    }
    y = operator(**leaves, **options)
    seed = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    found = torch.autograd.grad(y, list(flat.values()), seed.to(BFLOAT).to(y))
    return {"y": y.detach().cpu(), **{name: x.cpu() for name, x in zip(flat, found, strict=True)}}


def compare(machine: Machine, arguments: dict[str, Any], dtype: torch.dtype, **options: Any) -> None:
    impl = options.pop("impl", "cuda")
    rounded = cast(cast(arguments, dtype), torch.float64)
    expected = with_gradients(by_two_scans, rounded, **options)
    if options.get("reset") is not None:
        options["reset"] = options["reset"].to(machine.device)
    given = cast(arguments, dtype, machine.device)
    actual = with_gradients(bidirectional_scan, given, impl=impl, **options)
    # two roundings: the second scan adds to what the first has written
    assert_all_close(actual, {"y": expected.pop("y")}, 2 * TOLERANCE[dtype])
    assert_all_close(actual, expected, 1.5 * GRADIENTS[dtype])
    assert actual["y"].dtype == dtype


@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT, HALF])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("length", "multiprocessors"), [(1, 1), (25, 1), (97, 1), (500, 4)])
def test_outputs_and_gradients_match_two_scans(
    machine: Machine, dtype: torch.dtype, packed: bool, length: int, multiprocessors: int
) -> None:
    machine.multiprocessors = multiprocessors
    reset = some_resets(2, length) if packed else None
    compare(machine, both_directions(length, 34, 4), dtype, delta_softplus=True, reset=reset)


@pytest.mark.parametrize(
    ("dtype", "dim", "state", "groups"), [(FLOAT, 51, 5, 3), (BFLOAT, 130, 16, 1), (HALF, 3, 9, 1)]
)
def test_shapes_that_do_not_fill_a_tile(
    machine: Machine, dtype: torch.dtype, dim: int, state: int, groups: int
) -> None:
    machine.multiprocessors = 4
    compare(machine, both_directions(389, dim, state, groups), dtype, delta_softplus=True)


@pytest.mark.parametrize("without", [("z",), ("D",), ("delta_bias",), ("z", "D", "delta_bias")])
def test_without_optional_arguments(machine: Machine, without: tuple[str, ...]) -> None:
    arguments = {name: x for name, x in both_directions(97, 34, 4).items() if name not in without}
    compare(machine, arguments, FLOAT, delta_softplus=True)
    mixed = both_directions(97, 34, 4)
    y = bidirectional_scan(
        **cast({name: x for name, x in mixed.items() if name != "D"}, FLOAT, machine.device),
        D=(None, mixed["D"][1].to(machine.device, FLOAT)),
        delta_softplus=True,
        impl="cuda",
    )
    mixed["D"] = (torch.zeros_like(mixed["D"][0]), mixed["D"][1])
    assert_all_close({"y": y.cpu()}, {"y": by_two_scans(**mixed, delta_softplus=True)}, TOLERANCE[FLOAT])


@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT, HALF])
def test_a_gate_that_is_shut(machine: Machine, dtype: torch.dtype) -> None:
    arguments = both_directions(97, 34, 4)
    for step, gate in enumerate((0.0, -0.0, 1e-8, -1e-3, -30.0, -88.0, -200.0, 60.0)):
        arguments["z"][:, step::11] = gate
    compare(machine, arguments, dtype, delta_softplus=True)


def test_each_direction_in_its_own_dtype(machine: Machine) -> None:
    low = cast(cast(both_directions(97, 34, 4), BFLOAT), FLOAT)
    expected = with_gradients(by_two_scans, cast(low, torch.float64), delta_softplus=True)
    given = cast(low, FLOAT, machine.device)
    for name in ("u", "delta", "B"):
        given[name] = (given[name][0].to(BFLOAT), given[name][1])
    actual = with_gradients(bidirectional_scan, given, delta_softplus=True, impl="cuda")
    assert_all_close(actual, expected, GRADIENTS[BFLOAT])
    assert actual["y"].dtype == actual["gradient of u0"].dtype == BFLOAT
    assert actual["gradient of u1"].dtype == actual["gradient of z0"].dtype == FLOAT


def test_directions_that_cancel(machine: Machine) -> None:
    """Their sum is nearly nothing; the gradient of the gate must not come from what rounding leaves of it."""
    arguments = both_directions(97, 34, 4)
    for name in ("u", "delta", "A", "B", "C", "delta_bias"):
        arguments[name] = (arguments[name][0],) * 2
    arguments["D"] = (
        torch.full((34,), 3.0, dtype=torch.float64),
        torch.full((34,), -3.0, dtype=torch.float64),
    )
    for dtype in (FLOAT, BFLOAT):
        compare(machine, arguments, dtype, delta_softplus=True)


@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT])
def test_without_gradients_outputs_are_the_same(machine: Machine, dtype: torch.dtype) -> None:
    arguments = cast(both_directions(97, 34, 4), dtype, machine.device)
    y = bidirectional_scan(**arguments, delta_softplus=True, impl="cuda")
    assert torch.equal(
        y.cpu(), with_gradients(bidirectional_scan, arguments, delta_softplus=True, impl="cuda")["y"]
    )


@pytest.mark.parametrize("every", [False, True])
def test_the_registered_operators_pass_opcheck(machine: Machine, every: bool) -> None:
    given = cast(both_directions(37, 34, 4, every=every), FLOAT, machine.device)
    given |= {name: tuple(x[:, :, None] for x in given[name]) for name in ("B", "C")}
    directions = [[given.get(name, (None, None))[i] for name in PAIRS] for i in (0, 1)]
    rest = (given.get("z"), some_resets(2, 37).to(machine.device) if every else None, True)
    forward = torch.ops.seqmamba.bidirectional_scan_forward
    torch.library.opcheck(forward, (*directions, *rest, True))
    torch.library.opcheck(forward, (*directions, *rest, False))
    y, *saved = forward(*directions, *rest, True)
    backward = torch.ops.seqmamba.bidirectional_scan_backward
    torch.library.opcheck(backward, (y.clone(), y, *saved, *directions, *rest))


@pytest.mark.parametrize("packed", [False, True])
def test_two_calls_on_the_cpu(packed: bool) -> None:
    reset = some_resets(2, 37) if packed else None
    for impl in ("auto", "separate"):
        arguments = both_directions(37, 6, 5)
        compare(Machine("cpu"), arguments, FLOAT, delta_softplus=True, reset=reset, impl=impl)
    arguments = both_directions(37, 6, 5, every=False)
    compare(Machine("cpu"), arguments, torch.float64, delta_softplus=False, reset=reset, impl="separate")


def test_mistakes_are_named() -> None:
    arguments = cast(both_directions(37, 6, 5), FLOAT)
    u, A = arguments["u"], arguments["A"]
    for change, message in (
        ({"u": u[0]}, r"u must be a pair \(forward, reverse\) of tensors, got Tensor"),
        ({"D": u[0][0, 0]}, "D must be a pair"),
        ({"A": A[:1]}, "A must be a pair"),
        ({"delta": (u[0], u[0][:, 1:])}, r"delta must have shape \(batch=2, length=37, dim=6\)"),
        ({"impl": "cuda"}, "it runs on an NVIDIA GPU and the tensors are on cpu"),
        ({"impl": "chunked"}, "impl must be one of auto, cuda, separate, got 'chunked'"),
        ({"reset": torch.zeros(2, 37)}, "reset must be a bool mask"),
        (
            {name: (arguments[name][0], arguments[name][1][:, 1:]) for name in ("u", "delta", "B", "C")}
            | {"z": None},
            "same shapes in both directions",
        ),
    ):
        with pytest.raises(UserError, match=message):
            bidirectional_scan(**(arguments | change))


def test_more_states_than_a_kernel_holds(machine: Machine) -> None:
    arguments = cast(both_directions(37, 6, 17), FLOAT, machine.device)
    with pytest.raises(UserError, match="it holds up to 16 states and A has 17"):
        bidirectional_scan(**arguments, impl="cuda")
    compare(machine, both_directions(37, 6, 17), FLOAT, delta_softplus=True, impl="auto")
