"""Options of the mamba mixer: complex states, norms of delta, B and C, bounds of delta, biases."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from published_mixers import published_mixer, run_published
from torch import Tensor
from torch.nn import functional as F

from seqmamba import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.inference import compare_modes
from seqmamba.nn import GridOptions, Mamba, MixerConfig, SelectiveSSM, build_mixer, map_state, pack, unpack

OPTIONS: list[dict[str, Any]] = [
    {"complex_state": True},
    {"bc_norm": "rms"},
    {"bc_norm": "learned"},
    {"dt_limit": (0.02, 0.3)},
    {"bias": True, "conv_bias": False},
    {"complex_state": True, "bc_norm": "learned", "dt_limit": (0.02, 0.3), "bias": True, "conv_bias": False},
]


def option_name(options: dict[str, Any]) -> str:
    return "-".join(options)


each_option = pytest.mark.parametrize("options", OPTIONS, ids=option_name)


def make(direction: str = "causal", **options: Any) -> Any:
    """A float64 mixer whose every parameter has moved from where it starts."""
    torch.manual_seed(0)
    mixer = build_mixer("mamba", MixerConfig(d_model=12, direction=direction, d_state=5, **options)).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return mixer


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def written_out(ssm: SelectiveSSM, x: Tensor, z: Tensor, config: MixerConfig) -> Tensor:
    """One direction left to right, with every option, a step at a time in PyTorch."""
    u = F.pad(x.mT, (config.d_conv - 1, 0))
    u = F.silu(F.conv1d(u, ssm.conv1d.weight, ssm.conv1d.bias, groups=x.shape[-1])).mT
    selected = ssm.x_proj(u)
    parts = list(selected.tensor_split([ssm.delta_rank, (ssm.delta_rank + selected.shape[-1]) // 2], dim=-1))
    if config.bc_norm != "none":
        parts = [p / torch.sqrt(p.square().mean(-1, keepdim=True) + config.bc_norm_eps) for p in parts]
    if config.bc_norm == "learned":
        norms = (ssm.dt_layernorm, ssm.b_layernorm, ssm.c_layernorm)
        parts = [p * norm.weight for p, norm in zip(parts, norms, strict=True)]
    low_rank, B, C = parts
    delta = F.softplus(ssm.dt_proj(low_rank))
    if config.dt_limit is not None:
        delta = delta.clamp(*config.dt_limit)
    A = -ssm.A_log.exp()
    if config.complex_state:
        A = A + 1j * ssm.A_imag
        B, C = (p[..., ::2] + 1j * p[..., 1::2] for p in (B, C))
    h = A.new_zeros(len(x), *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        h = torch.exp(step * A) * h + step * B[:, t, None] * u[:, t, :, None]
        y = (h * C[:, t, None]).sum(-1)
        outputs.append((2 * y.real if config.complex_state else y) + ssm.D * u[:, t])
    return torch.stack(outputs, dim=1) * F.silu(z)


@each_option
def test_causal_mixer_written_out(options: dict[str, Any]) -> None:
    mixer, x = make(**options), noise(2, 9, 12)
    inner, z = mixer.in_proj(x).chunk(2, dim=-1)
    expected = written_out(mixer, inner, z, MixerConfig(d_model=12, d_state=5, **options))
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(expected))


@each_option
@pytest.mark.parametrize("combine", ["add", "concat", "gate"])
def test_bidirectional_mixer_written_out(options: dict[str, Any], combine: str) -> None:
    mixer, x = make("bidirectional", combine=combine, **options), noise(2, 9, 12)
    config = MixerConfig(d_model=12, d_state=5, **options)
    inner, z, *gate = mixer.in_proj(x).split(24, dim=-1)
    forward = written_out(mixer.mamba_fwd, inner, z, config)
    reverse = written_out(mixer.mamba_rev, inner.flip(1), z.flip(1), config).flip(1)
    if combine == "add":
        y = forward + reverse
    elif combine == "concat":
        y = torch.cat((forward, reverse), dim=-1)
    else:
        g = torch.sigmoid(gate[0])
        y = g * forward + (1 - g) * reverse
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(y))


@each_option
@pytest.mark.parametrize("name", ["vision_mamba", "cross_scan"])
def test_the_other_mixers_that_select_take_the_options_too(name: str, options: dict[str, Any]) -> None:
    grid = GridOptions(width=4)
    outputs = []
    for impl in ("auto", "reference"):
        torch.manual_seed(0)
        config = MixerConfig(
            d_model=12, direction="bidirectional", d_state=5, grid=grid, scan_impl=impl, **options
        )
        mixer = build_mixer(name, config).double()
        y, _ = mixer(noise(2, 12, 12))
        outputs.append(y)
    torch.testing.assert_close(*outputs)
    y.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in mixer.parameters())


@each_option
def test_whole_chunked_and_stepwise_agree(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(d_model=12, n_layers=2, d_state=5, **options)).double()
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith("A_log"):
                parameter.sub_(2)  # a state that lives longer than a chunk
    assert compare_modes(backbone, noise(2, 41, 12)).worst < 1e-12


@each_option
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_packed_sequences_equal_separate_ones(options: dict[str, Any], direction: str) -> None:
    mixer = make(direction, **options)
    sequences = [noise(length, 12) for length in (1, 13, 2, 34)]
    packed, reset = pack(sequences)
    y, _ = mixer(packed, reset=reset)
    for output, sequence in zip(unpack(y, [len(s) for s in sequences]), sequences, strict=True):
        torch.testing.assert_close(output[None], mixer(sequence[None])[0])


@each_option
def test_gradients_flow_through_the_carried_state(options: dict[str, Any]) -> None:
    """Into a chunk and into single steps, whose operators are others."""
    mixer, x = make(**options), noise(1, 7, 12).requires_grad_()
    whole = torch.autograd.grad(mixer(x)[0][:, 4:].sum(), [x, *mixer.parameters()])
    _, state = mixer(x[:, :4], return_state=True)
    carried = torch.autograd.grad(mixer(x[:, 4:], state=state)[0].sum(), [x, *mixer.parameters()])
    torch.testing.assert_close(carried, whole)
    _, state = mixer(x[:, :4], return_state=True)
    total = torch.zeros((), dtype=x.dtype)
    for step in x[:, 4:].split(1, dim=1):
        y, state = mixer(step, state=state, return_state=True)
        total = total + y.sum()
    torch.testing.assert_close(torch.autograd.grad(total, [x, *mixer.parameters()]), whole)


@each_option
def test_bfloat16_autocast_keeps_wide_states(options: dict[str, Any]) -> None:
    mixer, x = make(**options).float(), noise(2, 25, 12).float()
    exact, _ = mixer(x)
    wide = torch.complex64 if options.get("complex_state") else torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        whole, state = mixer(x, return_state=True)
        assert [t.dtype for t in state] == [torch.float32, wide]
        _, before = mixer(x[:, :24], return_state=True)
        last, state = mixer(x[:, 24:], state=before, return_state=True)
        assert [t.dtype for t in state] == [torch.float32, wide]
    assert 0 < (whole - exact).abs().max() < 0.1 * exact.abs().max()
    torch.testing.assert_close(last, whole[:, 24:], atol=0.05, rtol=0.05)


@pytest.mark.filterwarnings("ignore")  # of transformers, about kernels that it lacks here
@pytest.mark.parametrize(
    ("family", "name", "sizes", "options"),
    [
        ("mamba", "Mamba", {}, {}),
        ("mamba", "Mamba", {"use_bias": True, "use_conv_bias": False}, {"bias": True, "conv_bias": False}),
        ("falcon_mamba", "FalconMamba", {"mixer_rms_eps": 1e-3}, {"bc_norm": "rms", "bc_norm_eps": 1e-3}),
        ("jamba", "Jamba", {"rms_norm_eps": 1e-3}, {"bc_norm": "learned", "bc_norm_eps": 1e-3}),
    ],
    ids=["mamba", "mamba-bias", "falcon_mamba", "jamba"],
)
def test_published_mixers_give_the_same(
    family: str, name: str, sizes: dict[str, Any], options: dict[str, Any]
) -> None:
    state_sizes = {"state_size": 5, "time_step_rank": 3}
    if family == "jamba":
        state_sizes = {f"mamba_{key}": value for key, value in (("d_state", 5), ("dt_rank", 3))}
        state_sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2}  # of layers that are not built
        state_sizes |= {"attn_layer_offset": 1, "attn_layer_period": 2}
    published, config = published_mixer(family, name, **state_sizes, **sizes)
    mixer = Mamba(MixerConfig(d_model=16, d_state=5, dt_rank=3, **options))
    mixer.load_state_dict(published.state_dict())
    x = torch.randn(2, 12, 16)
    expected, conv, scan = run_published(published, config, x, prefill=7)
    y, state = mixer.double()(x.double(), return_state=True)
    torch.testing.assert_close(y.float(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.conv.float(), conv[..., 1:].mT, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.scan.float(), scan, atol=1e-5, rtol=1e-5)


def test_complex_parameters_and_state() -> None:
    mixer = Mamba(MixerConfig(d_model=8, d_state=3, complex_state=True))
    A = mixer.state_matrix(mixer.A_log)
    torch.testing.assert_close(A, (-0.5 + 1j * torch.arange(3.0)).expand(16, 3))
    shapes = {name: tuple(p.shape) for name, p in mixer.named_parameters()}
    assert (shapes["A_log"], shapes["A_imag"], shapes["x_proj.weight"]) == ((16, 3), (16, 3), (13, 16))
    assert all(p.dtype == torch.float32 for p in mixer.parameters())
    assert mixer.A_imag._no_weight_decay
    assert mixer.A_imag._no_reinit
    state = mixer.init_state(2)
    assert (state.conv.dtype, state.scan.dtype) == (torch.float32, torch.complex64)
    assert mixer.double().init_state(2).scan.dtype == torch.complex128
    assert mixer.bfloat16().init_state(2).scan.dtype == torch.complex64


def test_learned_norms_have_the_published_names() -> None:
    plain = {name for name, _ in make().named_parameters()}
    learned = {name for name, _ in make(bc_norm="learned").named_parameters()}
    assert learned - plain == {f"{part}_layernorm.weight" for part in ("dt", "b", "c")}
    assert {name for name, _ in make(bc_norm="rms").named_parameters()} == plain


def test_bounds_that_never_bind_change_nothing() -> None:
    """The bias and the softplus outside the scan are those inside it."""
    x = noise(2, 9, 12)
    torch.testing.assert_close(make(dt_limit=(0.0, 1e6))(x)[0], make()(x)[0])


def test_step_sizes_stay_in_their_bounds() -> None:
    mixer = make(dt_limit=(0.02, 0.3))
    with torch.no_grad():
        mixer.dt_proj.bias.copy_(torch.linspace(-60, 60, 24))
    _, delta, *_, bias = mixer.operands(noise(2, 9, 24))
    assert bias is None
    assert (delta.min().item(), delta.max().item()) == (0.02, 0.3)


@pytest.mark.parametrize("combine", ["add", "concat", "gate"])
def test_the_output_bias_is_added_once(combine: str) -> None:
    mixer = make("bidirectional", combine=combine, bias=True)
    with torch.no_grad():
        mixer.out_proj.weight.zero_()
    expected = mixer.out_proj.bias.expand(1, 5, 12)
    torch.testing.assert_close(mixer(noise(1, 5, 12))[0], expected)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_all_options_compile_as_one_graph(direction: str) -> None:
    mixer, x = make(direction, **OPTIONS[-1]).float(), noise(2, 12, 12).float()
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], mixer(x)[0])
    if direction == "causal":
        state = map_state(Tensor.detach, mixer(x, return_state=True)[1])
        step = x[:, :1]
        expected = mixer(step, state=state, return_state=True)
        torch.testing.assert_close(compiled(step, state=state, return_state=True), expected)


@pytest.mark.parametrize("eps", [0.0, -1e-6, math.inf, "small"])
def test_a_bad_epsilon_is_named(eps: Any) -> None:
    with pytest.raises(UserError, match="bc_norm_eps: expected a number > 0, got"):
        MixerConfig(d_model=8, bc_norm_eps=eps)
