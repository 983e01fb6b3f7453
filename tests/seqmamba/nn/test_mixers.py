from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.nn import Mamba, MixerConfig, build_mixer, map_state
from seqmamba.ops import causal_conv1d, selective_scan

COMBINES = ("add", "concat", "gate")


def make(direction="causal", seed=0, **options):
    torch.manual_seed(seed)
    return build_mixer("mamba", MixerConfig(d_model=12, direction=direction, d_state=5, **options)).double()


def direct(ssm, x, z):
    """One direction left to right, written out in PyTorch."""
    pad = ssm.conv1d.kernel_size[0] - 1
    u = F.silu(F.conv1d(F.pad(x.mT, (pad, 0)), ssm.conv1d.weight, ssm.conv1d.bias, groups=x.shape[-1])).mT
    n_state = ssm.A_log.shape[1]
    low_rank, B, C = ssm.x_proj(u).split([ssm.delta_rank, n_state, n_state], dim=-1)
    delta = F.softplus(ssm.dt_proj(low_rank))
    A = -torch.exp(ssm.A_log)
    h = torch.zeros(len(x), *A.shape, dtype=x.dtype)
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        h = torch.exp(step * A) * h + step * B[:, t, None] * u[:, t, :, None]
        outputs.append((h * C[:, t, None]).sum(-1) + ssm.D * u[:, t])
    return torch.stack(outputs, dim=1) * F.silu(z)


def test_causal_mixer_is_the_papers_algorithm():
    mixer = make()
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    inner, z = mixer.in_proj(x).chunk(2, dim=-1)
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(direct(mixer, inner, z)))


@pytest.mark.parametrize("combine", COMBINES)
def test_bidirectional_mixer_is_two_scans_one_of_them_flipped(combine):
    mixer = make("bidirectional", combine=combine)
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    inner, z, *gate = mixer.in_proj(x).chunk(3 if combine == "gate" else 2, dim=-1)
    y_f = direct(mixer.mamba_fwd, inner, z)
    y_r = direct(mixer.mamba_rev, inner.flip(1), z.flip(1)).flip(1)
    if combine == "add":
        y = y_f + y_r
    elif combine == "concat":
        y = torch.cat((y_f, y_r), dim=-1)
    else:
        g = torch.sigmoid(gate[0])
        y = g * y_f + (1 - g) * y_r
    torch.testing.assert_close(mixer(x)[0], mixer.out_proj(y))


def test_parameter_names_and_shapes_are_the_published_ones():
    mixer = Mamba(MixerConfig(d_model=32, d_state=16))
    assert {name: tuple(p.shape) for name, p in mixer.named_parameters()} == {
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (34, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "A_log": (64, 16),
        "D": (64,),
        "out_proj.weight": (32, 64),
    }


def test_bidirectional_mixer_shares_its_projections():
    names = {name.rpartition(".")[0] or name for name, _ in make("bidirectional").named_parameters()}
    one_direction = {"conv1d", "x_proj", "dt_proj"}
    expected = {"in_proj", "out_proj"} | {
        f"{d}.{n}" for d in ("mamba_fwd", "mamba_rev") for n in one_direction
    }
    assert expected <= names
    assert not any(name.endswith("_proj") and name.count("in_proj") > 1 for name in names)
    assert sum("in_proj" in name for name in names) == sum("out_proj" in name for name in names) == 1


@pytest.mark.parametrize("options", [{"d_conv": 1}, {"d_conv": 2, "expand": 1}, {"dt_rank": 3}])
def test_unusual_sizes(options):
    mixer = make(**options)
    x = torch.randn(1, 5, 12, dtype=torch.float64)
    whole, _ = mixer(x)
    first, state = mixer(x[:, :2], return_state=True)
    rest, _ = mixer(x[:, 2:], state=state)
    torch.testing.assert_close(torch.cat((first, rest), dim=1), whole)


def test_initial_state_is_zero_and_float32():
    state = Mamba(MixerConfig(d_model=8, d_state=3)).init_state(2)
    assert [tuple(t.shape) for t in state] == [(2, 3, 16), (2, 16, 3)]
    assert all(t.dtype == torch.float32 and not t.any() for t in state)
    assert Mamba(MixerConfig(d_model=8)).bfloat16().init_state(1).scan.dtype == torch.float32


def test_detach_cuts_the_graph():
    mixer = make()
    _, state = mixer(torch.randn(1, 4, 12, dtype=torch.float64), return_state=True)
    assert all(t.requires_grad for t in state)
    assert not any(t.requires_grad for t in map_state(torch.Tensor.detach, state))


def test_gradient_flows_through_the_carried_state():
    mixer = make()
    x = torch.randn(1, 8, 12, dtype=torch.float64, requires_grad=True)
    _, state = mixer(x[:, :5], return_state=True)
    (carried,) = torch.autograd.grad(mixer(x[:, 5:], state=state)[0].sum(), x)
    (whole,) = torch.autograd.grad(mixer(x)[0][:, 5:].sum(), x)
    torch.testing.assert_close(carried, whole)


def test_bidirectional_mixer_refuses_a_state():
    mixer = make("bidirectional")
    with pytest.raises(UserError, match=r'bidirectional layer has no recurrent state.*direction="causal"'):
        mixer(torch.randn(1, 4, 12, dtype=torch.float64), return_state=True)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        mixer.init_state(1)


def test_unknown_mixer():
    with pytest.raises(UserError, match=r"mixer: expected one of mamba, .*, got 'hyena'"):
        build_mixer("hyena", MixerConfig(d_model=8))


def test_scan_reads_strided_projections_without_changing_the_result():
    """The halves of in_proj reach the operators as views; they must count as their contiguous copies do."""
    torch.manual_seed(0)
    u, z = torch.randn(2, 7, 20).chunk(2, dim=-1)
    weight = torch.randn(10, 4)
    torch.testing.assert_close(causal_conv1d(u, weight), causal_conv1d(u.contiguous(), weight))
    delta, A, (B, C) = torch.rand(2, 7, 10), -torch.rand(10, 3), torch.randn(2, 7, 6).chunk(2, dim=-1)
    strided = selective_scan(u, delta, A, B, C, z=z)
    dense = selective_scan(u.contiguous(), delta, A, B.contiguous(), C.contiguous(), z=z.contiguous())
    torch.testing.assert_close(strided, dense)
