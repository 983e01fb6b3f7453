from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn import pack, reset_from_lengths, unpack

KINDS = [
    {"direction": "causal"},
    {"direction": "bidirectional", "combine": "add"},
    {"direction": "bidirectional", "combine": "concat"},
    {"direction": "bidirectional", "combine": "gate"},
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))


def make(seed=0, d_model=16, n_layers=3, **options):
    torch.manual_seed(seed)
    return Backbone(BackboneConfig(d_model=d_model, n_layers=n_layers, d_state=8, **options))


def loosen(backbone):
    """Make the state long-lived and the branches strong, so that a leak cannot hide in rounding."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith("A_log"):
                parameter.sub_(3)
            if name.endswith("out_proj.weight"):
                parameter.mul_(3)
    return backbone


@each_kind
@pytest.mark.parametrize("impl", ["reference", "chunked", "numba"])
def test_implementations_agree(kind, impl):
    x = torch.randn(2, 33, 16)
    double = make(**kind).double()(x.double())
    torch.testing.assert_close(make(scan_impl=impl, **kind)(x).double(), double, atol=1e-5, rtol=1e-5)


@each_kind
def test_packed_sequences_equal_separate_ones(kind):
    backbone = loosen(make(**kind))
    sequences = [torch.randn(length, 16) for length in (1, 13, 2, 40, 3)]
    packed, reset = pack(sequences)
    outputs = unpack(backbone(packed, reset=reset), [len(s) for s in sequences])
    for output, sequence in zip(outputs, sequences, strict=True):
        torch.testing.assert_close(output[None], backbone(sequence[None]), atol=1e-5, rtol=0)


@each_kind
def test_packing_without_a_reset_would_show(kind):
    backbone = loosen(make(**kind))
    first, second = torch.randn(13, 16), torch.randn(9, 16)
    packed, _ = pack([first, second])
    gap = backbone(packed)[0, :] - torch.cat([backbone(first[None])[0], backbone(second[None])[0]])
    assert gap.abs().max() > 1e-2


@each_kind
def test_right_padding_never_matters(kind):
    backbone = loosen(make(**kind))
    lengths = torch.tensor([1, 17, 30, 29])
    x = torch.randn(4, 30, 16)
    reset = reset_from_lengths(lengths, 30)
    for row, length in enumerate(lengths):
        x[row, length:] *= 100  # whatever the padding holds
    padded = backbone(x, reset=reset)
    for row, length in enumerate(lengths):
        alone = backbone(x[row : row + 1, :length])
        torch.testing.assert_close(padded[row : row + 1, :length], alone, atol=1e-5, rtol=0)


def test_gradients_do_not_come_from_the_padding():
    backbone = make(direction="bidirectional")
    x = torch.randn(1, 12, 16, requires_grad=True)
    backbone(x, reset=reset_from_lengths(torch.tensor([7]), 12))[:, :7].square().sum().backward()
    assert x.grad[:, 7:].abs().max() == 0
    assert x.grad[:, :7].abs().min() > 0


def test_causal_backbone_sees_no_future():
    backbone = loosen(make())
    x = torch.randn(1, 20, 16, requires_grad=True)
    for t in (0, 9, 19):
        (gradient,) = torch.autograd.grad(backbone(x)[0, t].sum(), x)
        assert gradient[0, t + 1 :].abs().sum() == 0
        assert (gradient[0, : t + 1].abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("combine", ["add", "concat", "gate"])
def test_bidirectional_backbone_sees_everything(combine):
    backbone = loosen(make(direction="bidirectional", combine=combine))
    x = torch.randn(1, 20, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone(x)[0, 9].sum(), x)
    assert (gradient[0].abs().amax(dim=1) > 0).all()


@each_kind
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_reach_every_parameter(kind, checkpointed):
    backbone = make(checkpoint_activations=checkpointed, **kind)
    x = torch.randn(2, 15, 16, requires_grad=True)
    backbone(x).square().sum().backward()
    assert x.grad.isfinite().all()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@each_kind
def test_checkpointing_changes_nothing(kind):
    x = torch.randn(2, 15, 16)
    gradients = []
    for checkpointed in (False, True):
        backbone = make(checkpoint_activations=checkpointed, dropout=0.3, **kind)
        torch.manual_seed(1)
        backbone(x).square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    torch.testing.assert_close(*gradients)


def test_initial_values_are_the_papers():
    """Nothing outside the layers touches them: what Mamba prescribes is what the backbone has."""
    backbone = make(d_model=128, n_layers=4, direction="bidirectional", dt_min=1e-3, dt_max=0.1)
    biases = []
    for name, parameter in backbone.named_parameters():
        if name.endswith("A_log"):
            torch.testing.assert_close(-parameter.exp(), -torch.arange(1.0, 9.0).expand(256, 8))
        elif name.endswith((".D", "norm.weight", "norm_f.weight")):
            assert torch.equal(parameter, torch.ones_like(parameter))
        elif name.endswith("dt_proj.bias"):
            biases.append(parameter.detach())
        elif name.endswith("out_proj.weight"):  # kaiming-uniform bound 1 / sqrt(fan_in), over sqrt(n_layers)
            assert parameter.abs().max().item() == pytest.approx(256**-0.5 / 2, rel=1e-2)
    position = (F.softplus(torch.cat(biases)).log() - math.log(1e-3)) / math.log(100)
    assert position.min() > -1e-3
    assert position.max() < 1 + 1e-3
    assert position.mean().item() == pytest.approx(0.5, abs=0.03)
    assert position.std().item() == pytest.approx(12**-0.5, abs=0.02)


def test_parameters_without_weight_decay():
    names = {
        n for n, p in make(direction="bidirectional").named_parameters() if hasattr(p, "_no_weight_decay")
    }
    expected = ("A_log", ".D", "dt_proj.bias", "norm.weight", "norm_f.weight")
    assert names == {n for n, _ in make(direction="bidirectional").named_parameters() if n.endswith(expected)}
    assert len(names) == 3 * (2 * 3 + 1) + 1


@each_kind
def test_bfloat16_autocast_keeps_parameters_states_and_residual_in_float32(kind):
    backbone = make(**kind)
    x = torch.randn(2, 25, 16)
    exact = backbone(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = backbone(x)
    assert y.dtype == torch.float32
    assert 0 < (y - exact).abs().max() < 0.1  # bf16 has been used, and only bf16 rounding is left
    y.square().sum().backward()
    assert all(
        p.dtype == p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in backbone.parameters()
    )


def test_bfloat16_autocast_carries_float32_states():
    backbone = make()
    x = torch.randn(2, 25, 16)
    with torch.autocast("cpu", torch.bfloat16):
        whole = backbone(x)
        first, state = backbone(x[:, :11], return_state=True)
        second, state = backbone(x[:, 11:], state=state, return_state=True)
    assert all(t.dtype == torch.float32 for layer in state.layers for t in layer)
    # bf16 GEMMs may round differently at other sizes
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, atol=0.05, rtol=0)


def test_narrow_input_and_narrow_model():
    y = make()(torch.randn(1, 5, 16, dtype=torch.bfloat16))
    assert y.dtype == torch.float32
    assert make().bfloat16()(torch.randn(1, 5, 16)).dtype == torch.bfloat16
    assert make().double()(torch.randn(1, 5, 16).double()).dtype == torch.float64


def test_residual_stream_is_float32_in_a_narrow_model():
    backbone = make().bfloat16()
    seen = []
    for layer in backbone.layers:
        layer.register_forward_hook(
            lambda _, inputs, outputs: seen.extend((inputs[0].dtype, outputs[0].dtype))
        )
    backbone(torch.randn(1, 5, 16).bfloat16())
    assert seen == [torch.float32] * 6


@pytest.mark.parametrize("length", [1, 2, 3])
def test_shorter_than_the_convolution(length):
    for kind in KINDS:
        assert make(**kind)(torch.randn(2, length, 16)).isfinite().all()


def test_dropout_only_in_training():
    backbone = make(dropout=0.5)
    x = torch.randn(1, 9, 16)
    assert not torch.equal(backbone(x), backbone(x))
    backbone.eval()
    assert torch.equal(backbone(x), backbone(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda b: b(torch.randn(5, 16)),
            r"x: expected floating \(batch, length >= 1, 16\), got .* \(5, 16\)",
        ),
        (lambda b: b(torch.randn(1, 5, 8)), r"x: expected .*\(1, 5, 8\)"),
        (lambda b: b(torch.randn(1, 0, 16)), r"x: expected .*\(1, 0, 16\)"),
        (lambda b: b(torch.ones(1, 5, 16, dtype=torch.long)), "x: expected floating.*int64"),
        (
            lambda b: b(torch.randn(1, 5, 16), reset=torch.zeros(1, 5)),
            r"reset: expected bool \(1, 5\).*float32",
        ),
        (lambda b: b(torch.randn(1, 5, 16), reset=torch.zeros(1, 4).bool()), r"reset: .*\(1, 4\)"),
        (
            lambda b: b(torch.randn(1, 5, 16), state=make(n_layers=2).init_state(1)),
            "state: expected 3 layers, got 2",
        ),
        (lambda b: b(torch.randn(1, 5, 16), state=b.init_state(2)), "initial_state"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call(make())


def test_bidirectional_backbone_refuses_a_state():
    backbone = make(direction="bidirectional")
    for attempt in (
        lambda: backbone.init_state(1),
        lambda: backbone(torch.randn(1, 4, 16), return_state=True),
        lambda: backbone(torch.randn(1, 4, 16), state=make().init_state(1)),
    ):
        with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
            attempt()


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_compiles_as_one_graph(direction):
    """Capture, fake tensors and autograd; no code generation, which needs a C++ compiler and a minute."""
    backbone = make(n_layers=1, direction=direction)
    compiled = torch.compile(backbone, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 12, 16)
    reset = reset_from_lengths(torch.tensor([12, 5]), 12)
    gradients = []
    for call in (backbone, compiled):
        backbone.zero_grad()
        y = call(x, reset=reset)
        y.square().sum().backward()
        gradients.append([y.detach(), *(p.grad.clone() for p in backbone.parameters())])
    torch.testing.assert_close(*gradients)
