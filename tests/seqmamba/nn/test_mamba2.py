"""The Mamba-2 mixers against their definition, the published code and themselves in other modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from published_mixers import published_mixer, run_published
from torch import Tensor
from torch.nn import functional as F

from seqmamba import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.inference import compare_modes
from seqmamba.nn import (
    Mamba2,
    Mamba2Options,
    Mamba2State,
    MixerConfig,
    RMSNorm,
    build_mixer,
    map_state,
    pack,
    unpack,
)
from seqmamba.nn.dual import StateSpaceDual

SMALL = {"d_state": 5, "head_dim": 3, "chunk_size": 4}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"mamba2": {"n_groups": 4}},
    {"mamba2": {"n_groups": 2, "norm_groups": 1}},
    {"mamba2": {"dt_limit": (0.02, 0.3)}},
    {"bias": True, "conv_bias": False},
]
each_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=["plain", "groups", "one-norm", "dt_limit", "bias"]
)


def config(direction: str = "causal", **options: Any) -> MixerConfig:
    dual = Mamba2Options(**SMALL | options.pop("mamba2", {}))
    return MixerConfig(d_model=12, direction=direction, mamba2=dual, **options)


def make(direction: str = "causal", **options: Any) -> Any:
    """A float64 mixer whose every parameter has moved from where it starts."""
    torch.manual_seed(0)
    mixer = build_mixer("mamba2", config(direction, **options)).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return mixer


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def written_out(dual: StateSpaceDual, projected: Tensor, options: Mamba2Options) -> Tensor:
    """One direction left to right, a step and a head at a time in PyTorch."""
    heads, P, N, G = len(dual.D), options.head_dim, options.d_state, options.n_groups
    z, inner, delta = projected.split([heads * P, heads * P + 2 * G * N, heads], dim=-1)
    padded = F.pad(inner.mT, (dual.conv1d.kernel_size[0] - 1, 0))
    inner = F.silu(F.conv1d(padded, dual.conv1d.weight, dual.conv1d.bias, groups=inner.shape[-1])).mT
    delta = F.softplus(delta + dual.dt_bias)
    if options.dt_limit is not None:
        delta = delta.clamp(*options.dt_limit)
    outputs = []
    for head in range(heads):
        group = head * G // heads
        x = inner[..., head * P : (head + 1) * P]
        B = inner[..., heads * P + group * N :][..., :N]
        C = inner[..., heads * P + (G + group) * N :][..., :N]
        h, ys = torch.zeros(len(x), P, N, dtype=x.dtype), []
        for t in range(x.shape[1]):
            step = delta[:, t, head, None, None]
            h = torch.exp(-step * dual.A_log[head].exp()) * h + step * x[:, t, :, None] * B[:, t, None]
            ys.append((h * C[:, t, None]).sum(-1) + dual.D[head] * x[:, t])
        outputs.append(torch.stack(ys, dim=1))
    y = torch.cat(outputs, dim=-1) * F.silu(z)
    runs = y.unflatten(-1, (options.norm_groups or G, -1))
    runs = runs / torch.sqrt(runs.square().mean(-1, keepdim=True) + options.norm_eps)
    return runs.flatten(-2) * dual.norm.weight


@each_option
def test_causal_mixer_written_out(options: dict[str, Any]) -> None:
    mixer, x = make(**options), noise(2, 9, 12)
    expected = mixer.out_proj(written_out(mixer, mixer.in_proj(x), config(**options).mamba2))
    torch.testing.assert_close(mixer(x)[0], expected)


@each_option
@pytest.mark.parametrize("combine", ["add", "concat", "gate"])
def test_bidirectional_mixer_written_out(options: dict[str, Any], combine: str) -> None:
    mixer, x = make("bidirectional", combine=combine, **options), noise(2, 9, 12)
    dual = config(**options).mamba2
    projected = mixer.in_proj(x)
    if combine == "gate":
        projected, gate = projected.split([projected.shape[-1] - 24, 24], dim=-1)
    forward = written_out(mixer.mamba_fwd, projected, dual)
    reverse = written_out(mixer.mamba_rev, projected.flip(1), dual).flip(1)
    if combine == "add":
        y = forward + reverse
    elif combine == "concat":
        y = torch.cat((forward, reverse), dim=-1)
    else:
        g = torch.sigmoid(gate)
        y = g * forward + (1 - g) * reverse
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(y))


@pytest.mark.filterwarnings("ignore")  # of transformers, about kernels that it lacks here
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ({"n_groups": 1}, {}),
        ({"n_groups": 2, "layer_norm_epsilon": 1e-3}, {"mamba2": {"n_groups": 2, "norm_eps": 1e-3}}),
        ({"n_groups": 1, "use_bias": True, "use_conv_bias": False}, {"bias": True, "conv_bias": False}),
    ],
    ids=["plain", "groups", "bias"],
)
@pytest.mark.parametrize("prefill", [12, 7])
def test_the_published_mixer_gives_the_same(
    sizes: dict[str, Any], options: dict[str, Any], prefill: int
) -> None:
    every = {"state_size": 5, "num_heads": 8, "head_dim": 3, "chunk_size": 4, "hidden_size": 12}
    published, published_config = published_mixer("mamba2", "Mamba2", **every | sizes)
    mixer = Mamba2(config(**options))
    mixer.load_state_dict(published.state_dict())
    x = torch.randn(2, 12, 12)
    expected, conv, scan = run_published(published, published_config, x, prefill)
    y, state = mixer.double()(x.double(), return_state=True)
    torch.testing.assert_close(y.float(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.conv.float(), conv[..., 1:].mT, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.scan.float(), scan, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_published_bounds_of_delta_are_ours() -> None:
    """In whole sequences only: the published step by step code has no bounds."""
    limit = (0.5, 0.8)
    every = {"state_size": 5, "num_heads": 8, "head_dim": 3, "n_groups": 1, "hidden_size": 12}
    published, _ = published_mixer("mamba2", "Mamba2", time_step_limit=limit, **every)
    mixer = Mamba2(config(mamba2={"dt_limit": limit}))
    mixer.load_state_dict(published.state_dict())
    x = torch.randn(2, 12, 12)
    torch.testing.assert_close(mixer(x)[0], published(x), atol=1e-5, rtol=1e-5)


def test_parameter_names_and_shapes_are_the_published_ones() -> None:
    mixer = Mamba2(MixerConfig(d_model=64, mamba2=Mamba2Options(d_state=16, head_dim=32, n_groups=2)))
    assert {name: tuple(p.shape) for name, p in mixer.named_parameters()} == {
        "in_proj.weight": (128 + 128 + 2 * 2 * 16 + 4, 64),
        "conv1d.weight": (192, 1, 4),
        "conv1d.bias": (192,),
        "dt_bias": (4,),
        "A_log": (4,),
        "D": (4,),
        "norm.weight": (128,),
        "out_proj.weight": (64, 128),
    }


def test_initial_values_and_marks() -> None:
    torch.manual_seed(0)
    options = Mamba2Options(d_state=4, head_dim=1, A_min=2.0, A_max=5.0)
    mixer = Mamba2(MixerConfig(d_model=2000, mamba2=options, dt_min=0.01, dt_max=0.02))
    rates, delta = mixer.A_log.exp().sort().values, F.softplus(mixer.dt_bias)
    uniform = torch.linspace(2, 5, len(rates))
    assert (rates - uniform).abs().max() < 0.1  # 3 times the Kolmogorov-Smirnov distance at its 1 % level
    assert 0.01 * (1 - 1e-4) <= delta.min() < 0.0101 < 0.0198 < delta.max() <= 0.02 * (1 + 1e-4)
    assert torch.equal(mixer.D, torch.ones(4000))
    exempt = {name for name, p in mixer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    kept = {name for name, p in mixer.named_parameters() if getattr(p, "_no_reinit", False)}
    assert exempt == kept == {"A_log", "D", "dt_bias", "norm.weight"}


def test_directions_share_their_projections_only() -> None:
    names = {name for name, _ in make("bidirectional").named_parameters()}
    own = {"conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D", "norm.weight"}
    both = {f"{direction}.{name}" for direction in ("mamba_fwd", "mamba_rev") for name in own}
    assert names == both | {"in_proj.weight", "out_proj.weight"}


def test_the_output_bias_is_added_once() -> None:
    mixer = make("bidirectional", bias=True)
    with torch.no_grad():
        mixer.out_proj.weight.zero_()
    torch.testing.assert_close(mixer(noise(1, 5, 12))[0], mixer.out_proj.bias.expand(1, 5, 12))


@each_option
def test_whole_chunked_and_stepwise_agree(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    dual = Mamba2Options(**SMALL | {"A_min": 0.05, "A_max": 0.5} | options.get("mamba2", {}))
    rest = {name: value for name, value in options.items() if name != "mamba2"}
    stack = BackboneConfig(d_model=12, n_layers=2, mixer="mamba2", mamba2=dual, **rest)
    assert compare_modes(Backbone(stack).double(), noise(2, 41, 12)).worst < 1e-12


@each_option
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_packed_sequences_equal_separate_ones(options: dict[str, Any], direction: str) -> None:
    mixer = make(direction, **options)
    sequences = [noise(length, 12) for length in (1, 13, 2, 34)]
    packed, reset = pack(sequences)
    y, _ = mixer(packed, reset=reset)
    for output, sequence in zip(unpack(y, [len(s) for s in sequences]), sequences, strict=True):
        torch.testing.assert_close(output[None], mixer(sequence[None])[0])


def test_a_reset_starts_a_chunk_and_a_step_afresh() -> None:
    mixer, x = make(), noise(1, 9, 12)
    _, state = mixer(x[:, :4], return_state=True)
    reset = torch.ones(1, 1, dtype=torch.bool)
    dropped, after = mixer(x[:, 4:5], reset=reset, state=state, return_state=True)
    fresh, wanted = mixer(x[:, 4:5], return_state=True)
    torch.testing.assert_close(dropped, fresh)
    torch.testing.assert_close(after, wanted)


@each_option
def test_gradients_flow_through_the_carried_state(options: dict[str, Any]) -> None:
    """Into a chunk and into single steps, whose operators are others."""
    mixer, x = make(**options), noise(1, 7, 12).requires_grad_()
    whole = torch.autograd.grad(mixer(x)[0][:, 4:].sum(), [x, *mixer.parameters()])
    _, state = mixer(x[:, :4], return_state=True)
    carried = torch.autograd.grad(mixer(x[:, 4:], state=state)[0].sum(), [x, *mixer.parameters()])
    torch.testing.assert_close(carried, whole)
    total = torch.zeros((), dtype=x.dtype)
    _, state = mixer(x[:, :4], return_state=True)
    for step in x[:, 4:].split(1, dim=1):
        y, state = mixer(step, state=state, return_state=True)
        total = total + y.sum()
    torch.testing.assert_close(torch.autograd.grad(total, [x, *mixer.parameters()]), whole)


def test_state_is_zero_and_float32() -> None:
    state = Mamba2(config()).bfloat16().init_state(2)
    assert isinstance(state, Mamba2State)
    assert [tuple(t.shape) for t in state] == [(2, 3, 24 + 10), (2, 8, 3, 5)]
    assert all(t.dtype == torch.float32 and not t.any() for t in state)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_named_implementations_agree(direction: str, impl: str) -> None:
    x = noise(2, 11, 12)
    torch.testing.assert_close(make(direction, scan_impl=impl)(x)[0], make(direction)(x)[0])


def test_bfloat16_autocast_keeps_parameters_and_states_in_float32() -> None:
    mixer, x = make().float(), noise(2, 25, 12).float()
    exact, _ = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        whole, state = mixer(x, return_state=True)
        last, stepped = mixer(x[:, 24:], state=mixer(x[:, :24], return_state=True)[1], return_state=True)
    assert {t.dtype for t in (*state, *stepped)} == {torch.float32}
    assert 0 < (whole - exact).abs().max() < 0.1 * exact.abs().max()
    torch.testing.assert_close(last, whole[:, 24:], atol=0.05, rtol=0.05)
    whole.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in mixer.parameters())


def test_a_narrow_model_keeps_wide_states() -> None:
    mixer, x = make().bfloat16(), noise(2, 9, 12).bfloat16()
    whole, final = mixer(x, return_state=True)
    first, state = mixer(x[:, :8], return_state=True)
    last, state = mixer(x[:, 8:], state=state, return_state=True)
    assert whole.dtype == last.dtype == torch.bfloat16
    assert {t.dtype for t in (*final, *state)} == {torch.float32}
    torch.testing.assert_close(torch.cat((first, last), dim=1), whole, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_compiles_as_one_graph(direction: str) -> None:
    mixer, x = make(direction, **OPTIONS[1]).float(), noise(2, 12, 12).float()
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True)
    gradients = []
    for call in (mixer, compiled):
        mixer.zero_grad()
        y, _ = call(x)
        y.square().sum().backward()
        gradients.append([y.detach(), *(p.grad.clone() for p in mixer.parameters())])
    torch.testing.assert_close(*gradients)
    if direction == "causal":
        state = map_state(Tensor.detach, mixer(x, return_state=True)[1])
        expected = mixer(x[:, :1], state=state, return_state=True)
        torch.testing.assert_close(compiled(x[:, :1], state=state, return_state=True), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_grouped_norm(dtype: torch.dtype) -> None:
    norm = RMSNorm(6, eps=1e-3, groups=3).to(dtype)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 6).to(dtype)
    runs = x.double().unflatten(-1, (3, 2))
    expected = (runs / torch.sqrt(runs.square().mean(-1, keepdim=True) + 1e-3)).flatten(-2) * norm.weight
    assert norm(x).dtype == dtype
    torch.testing.assert_close(norm(x), expected.to(dtype))
    assert norm(x, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mamba2": {"head_dim": 7}},
            "mamba2.head_dim: expected a divisor of .* = 24, got 7",
        ),
        ({"mamba2": {"n_groups": 3}}, "mamba2.n_groups: expected a divisor of the 8 heads, got 3"),
        ({"mamba2": {"norm_groups": 5}}, "mamba2.norm_groups: expected a divisor of .* = 24, got 5"),
        ({"mamba2": {"norm_groups": 0}}, "mamba2.norm_groups: expected a whole number >= 1, got 0"),
        ({"mamba2": {"norm_eps": 0}}, "mamba2.norm_eps: expected a number > 0, got 0"),
        ({"mamba2": {"chunk_size": 0}}, "mamba2.chunk_size: expected a whole number >= 1, got 0"),
        ({"scan_impl": "numba"}, "scan_impl: mixer mamba2 offers auto, chunked, reference, got 'numba'"),
    ],
)
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_sizes_that_do_not_fit_are_named(direction: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(direction, **options)


def test_calls_that_do_not_fit_are_named() -> None:
    x = noise(1, 4, 12)
    with pytest.raises(UserError, match="rate: mixer mamba2 runs at the sampling rate it was trained at"):
        make()(x, rate=2.0)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        make("bidirectional")(x, return_state=True)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        make("bidirectional").init_state(1)
