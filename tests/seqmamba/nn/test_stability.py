"""A million steps of hostile input, and parameters at their extremes: nothing overflows or drifts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba import Backbone, BackboneConfig
from seqmamba.inference import Stream
from seqmamba.nn import Mamba2Options, MixerConfig, build_mixer, map_state
from seqmamba.ops.decay import LARGEST_LOG_RATE, decay_rate

DUAL = Mamba2Options(d_state=16, head_dim=8)
STACKS: dict[str, dict[str, Any]] = {
    "mamba": {"mixer": "mamba"},
    "mamba-normed-bounded": {"mixer": "mamba", "bc_norm": "rms", "dt_limit": (1e-3, 1.0)},
    "mamba-complex": {"mixer": "mamba", "complex_state": True, "d_state": 4},
    "mamba2": {"mixer": "mamba2", "mamba2": DUAL},
    "s4": {"mixer": "s4"},
}
SLOW = ("mamba-complex", "mamba2")  # some seconds for a million steps
PERIOD = 62_500  # steps until the input repeats; no multiple of any chunk
PARTS = 10


def hostile(width: int) -> Tensor:
    """One period: quiet, deafening, alternating, constant, silent, denormal and spiked, each a part of it."""
    generator = torch.Generator().manual_seed(0)
    part = PERIOD // PARTS
    sign = torch.tensor([1.0, -1.0]).repeat(part // 2)[:, None]
    noise = torch.randn(PARTS, part, width, generator=generator)
    noise[1] *= 1e4
    noise[2] = 1e4 * sign
    noise[3] = 1e4
    noise[4] = 0
    noise[5] = 1e-40 * sign
    noise[6][torch.rand(part, generator=generator) < 0.01] = 1e4
    noise[7] = 1e30 * sign  # its square is infinite
    noise[8] = torch.finfo(torch.float32).tiny
    return noise.flatten(0, 1)[None]


def largest(state: Any) -> float:
    """The largest magnitude in a state; infinite where it holds something that is not finite."""
    found: list[float] = []

    def look(x: Tensor) -> Tensor:
        found.append(x.abs().amax().item() if x.isfinite().all() else math.inf)
        return x

    map_state(look, state)
    return max(found)


@torch.no_grad()
def drive(options: dict[str, Any], periods: int, device: str = "cpu") -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(d_model=8, n_layers=1, **options))
    stream = Stream(backbone.eval().to(device))
    x, tops, ends = hostile(8).to(device), [], []
    for _ in range(periods):
        with torch.autocast(device, torch.bfloat16):
            parts = x.split(PERIOD // PARTS, dim=1)
            tops.append(max(_feed(stream, part) for part in parts))
        ends.append(stream.state)
    assert stream.position == periods * PERIOD
    assert tops[-1] < 10
    # The same input again and again must lead to the same state again and again.
    torch.testing.assert_close(ends[-1], ends[0], atol=1e-3 * tops[0], rtol=1e-3)


def _feed(stream: Stream, x: Tensor) -> float:
    assert stream.feed(x).isfinite().all()
    return largest(stream.state)


@pytest.mark.parametrize("name", SLOW)
def test_hostile_input_leaves_a_bounded_state(name: str) -> None:
    drive(STACKS[name], periods=2)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in STACKS]
)
def test_a_million_steps_of_hostile_input(name: str) -> None:
    drive(STACKS[name], periods=16)


@pytest.mark.gpu
@pytest.mark.parametrize("name", STACKS)
def test_a_million_steps_of_hostile_input_on_a_gpu(name: str) -> None:
    drive(STACKS[name], periods=16, device="cuda")


def extreme(name: str, A_log: float, bias: float, impl: str = "auto", **options: Any) -> Any:
    torch.manual_seed(0)
    mixer = build_mixer(name, MixerConfig(d_model=8, d_state=4, scan_impl=impl, mamba2=DUAL, **options))
    with torch.no_grad():
        mixer.A_log.fill_(A_log)
        (mixer.dt_bias if name == "mamba2" else mixer.dt_proj.bias).fill_(bias)
    return mixer


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e4])
@pytest.mark.parametrize("bias", [-200.0, -50.0, 50.0])
@pytest.mark.parametrize("A_log", [-200.0, -20.0, 30.0, 60.0, 1e4])
@pytest.mark.parametrize(
    ("name", "options"),
    [("mamba", {}), ("mamba", {"complex_state": True}), ("mamba2", {})],
    ids=["mamba", "mamba-complex", "mamba2"],
)
def test_extreme_parameters_give_finite_outputs_states_and_gradients(
    name: str, options: dict[str, Any], A_log: float, bias: float, scale: float, device: str
) -> None:
    generator = torch.Generator().manual_seed(1)
    for impl in ("auto", "chunked"):
        mixer = extreme(name, A_log, bias, impl, **options).to(device)
        x = (scale * torch.randn(1, 67, 8, generator=generator)).to(device).requires_grad_()
        y, state = mixer(x, return_state=True)
        stepped, after = mixer(x[:, :1], state=state, return_state=True)
        (y.sum() + stepped.sum()).backward()
        assert max(largest(state), largest(after)) < math.inf
        for tensor in (y, stepped, x.grad, *(p.grad for p in mixer.parameters())):
            assert tensor.isfinite().all()


def test_the_decay_rate_is_exact_up_to_its_bound() -> None:
    A_log = torch.tensor([-200.0, 0.0, 3.0, LARGEST_LOG_RATE, 1e4])
    expected = -torch.exp(A_log.clamp(max=LARGEST_LOG_RATE))
    assert torch.equal(decay_rate(A_log), expected)
    assert decay_rate(A_log).isfinite().all()
    assert decay_rate(A_log.bfloat16()).dtype == torch.float32
    # The bound costs nothing: at that rate the smallest step of a trained model forgets everything.
    assert torch.exp(decay_rate(torch.tensor(LARGEST_LOG_RATE)) * 1e-6) == 0


def test_bounds_of_delta_hold_a_state_that_no_decay_holds() -> None:
    """With A at zero the state is a running sum of delta B u; bounded steps bound its growth."""
    x = torch.randn(1, 2000, 8)
    sizes = []
    for limit in (None, (0.0, 1e-3)):
        mixer = extreme("mamba", A_log=-200.0, bias=50.0, dt_limit=limit)
        sizes.append(largest(mixer(x, return_state=True)[1].scan))
    assert sizes[1] < 1e-4 * sizes[0]
