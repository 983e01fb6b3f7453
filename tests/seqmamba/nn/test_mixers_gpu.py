"""The selective and the dual mixers on a GPU: against float64 on the CPU, and step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.nn import Mamba2Options, MixerConfig, build_mixer, map_state

pytestmark = pytest.mark.gpu

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("mamba", {}),
    "mamba-normed": ("mamba", {"bc_norm": "learned", "bias": True}),
    "mamba-bounded": ("mamba", {"bc_norm": "rms", "dt_limit": (0.01, 0.05), "conv_bias": False}),
    "mamba-complex": ("mamba", {"complex_state": True, "d_state": 8}),
    "mamba2": ("mamba2", {"mamba2": Mamba2Options(d_state=32, head_dim=16)}),
    "mamba2-groups": ("mamba2", {"mamba2": Mamba2Options(d_state=16, head_dim=16, n_groups=4)}),
    "mamba2-bounded": ("mamba2", {"mamba2": Mamba2Options(d_state=16, head_dim=16, dt_limit=(0.01, 0.05))}),
}
DIRECTIONS = [("causal", "add"), ("bidirectional", "add"), ("bidirectional", "gate")]
each_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, direction: str = "causal", combine: str = "add") -> Any:
    torch.manual_seed(0)
    name, options = KINDS[kind]
    return build_mixer(name, MixerConfig(d_model=64, direction=direction, combine=combine, **options))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (actual.cpu().to(expected.dtype) - expected).abs().max() / expected.abs().max()
    assert error < tolerance, f"relative error {error.item():.1e}"


@each_kind
@pytest.mark.parametrize(("direction", "combine"), DIRECTIONS)
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_and_gradients_are_those_of_float64(
    kind: str, direction: str, combine: str, packed: bool
) -> None:
    mixer = make(kind, direction, combine)
    x = torch.randn(2, 333, 64)
    reset = torch.rand(2, 333) < 0.02 if packed else None
    weights = torch.randn(2, 333, 64)
    found = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        mixer.to(device, dtype).zero_grad()
        leaf = x.to(device, dtype).requires_grad_()
        y, _ = mixer(leaf, reset=None if reset is None else reset.to(device))
        (y * weights.to(device, dtype)).sum().backward()
        found.append([y.detach(), leaf.grad, *(p.grad.clone() for p in mixer.parameters())])
    for actual, expected in zip(found[1], found[0], strict=True):
        assert_close(actual, expected, 2e-3)  # matrix units round the products of float32 to tf32


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_steps_continue_a_prefill(kind: str, dtype: torch.dtype) -> None:
    mixer, x = make(kind).cuda(), torch.randn(3, 24, 64, device="cuda")
    with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
        whole, final = mixer(x, return_state=True)
        first, state = mixer(x[:, :16], return_state=True)
        outputs = [first]
        for step in x[:, 16:].split(1, dim=1):
            y, state = mixer(step, state=state, return_state=True)
            outputs.append(y)
    tolerance = 2e-3 if dtype == torch.float32 else 3e-2
    assert_close(torch.cat(outputs, dim=1), whole.cpu(), tolerance)
    for stepped, wanted in zip(state, final, strict=True):
        assert stepped.dtype == wanted.dtype
        assert_close(stepped, wanted.cpu(), tolerance)


@each_kind
@torch.no_grad()
def test_a_cuda_graph_replays_a_step(kind: str) -> None:
    mixer, x = make(kind).cuda(), torch.randn(1, 1, 64, device="cuda")
    state = mixer.init_state(1)
    _, state = mixer(torch.randn(1, 5, 64, device="cuda"), state=state, return_state=True)
    wanted, after = mixer(x, state=state, return_state=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, new = mixer(x, state=state, return_state=True)
    map_state(lambda t: t.zero_(), new)
    graph.replay()
    assert torch.equal(y, wanted)
    assert all(torch.equal(a, b) for a, b in zip(new, after, strict=True))
