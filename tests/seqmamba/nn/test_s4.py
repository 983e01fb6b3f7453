from __future__ import annotations

import copy
import io
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from seqmamba import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.inference import compare_modes
from seqmamba.inference.graphs import GraphedSteps
from seqmamba.nn import MixerConfig, S4Options, build_mixer, map_state, pack, unpack
from seqmamba.nn import s4 as s4_module
from seqmamba.nn.s4 import S4
from seqmamba.nn.state import S4State

FORMS = [("diagonal", "zoh"), ("diagonal", "bilinear"), ("dplr", "zoh"), ("dplr", "bilinear")]


def make(direction: str = "causal", form: str = "diagonal", discretisation: str = "zoh", **options) -> S4:
    torch.manual_seed(0)
    s4 = S4Options(d_state=8, form=form, discretisation=discretisation, **options)
    return build_mixer("s4", MixerConfig(d_model=6, direction=direction, s4=s4)).double()


def direct(mixer: S4, x: Tensor, C: Tensor) -> Tensor:
    """One direction from left to right, written out over the whole state, without the skip."""
    A, B, C, P = (
        torch.cat((z, z.conj()), dim=-1)
        for z in (
            torch.complex(-mixer.log_A_real.exp(), mixer.A_imag),
            torch.view_as_complex(mixer.B),
            torch.view_as_complex(C),
            torch.zeros_like(mixer.A_imag) if mixer.P is None else torch.view_as_complex(mixer.P),
        )
    )
    delta = mixer.log_dt.exp()[:, None, None]
    whole = torch.diag_embed(A) - P[:, :, None] * P.conj()[:, None]
    one = torch.eye(A.shape[1], dtype=A.dtype)
    if mixer.discretisation == "zoh":
        transition = torch.matrix_exp(delta * whole)
        drive = torch.linalg.solve(whole, (transition - one) @ B[..., None])
    else:
        transition = torch.linalg.solve(one - delta / 2 * whole, one + delta / 2 * whole)
        drive = torch.linalg.solve(one - delta / 2 * whole, delta * B[..., None])
    state, outputs = torch.zeros(len(x), *B.shape, 1, dtype=B.dtype), []
    for t in range(x.shape[1]):
        state = transition @ state + drive * x[:, t, :, None, None]
        outputs.append((C[:, None] @ state)[..., 0, 0])
    y = torch.stack(outputs, dim=1)
    assert y.imag.abs().max() < 1e-12
    return y.real


@pytest.mark.parametrize(("form", "discretisation"), FORMS)
def test_causal_mixer_is_the_papers_layer(form: str, discretisation: str) -> None:
    mixer, x = make(form=form, discretisation=discretisation), torch.randn(2, 9, 6, dtype=torch.float64)
    y = direct(mixer, x, mixer.C) + mixer.D * x
    torch.testing.assert_close(mixer(x)[0], F.glu(mixer.out_proj(F.gelu(y))))


@pytest.mark.parametrize(("form", "discretisation"), FORMS)
def test_bidirectional_mixer_adds_a_flipped_run(form: str, discretisation: str) -> None:
    mixer = make("bidirectional", form, discretisation)
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    y = direct(mixer, x, mixer.C[0]) + direct(mixer, x.flip(1), mixer.C[1]).flip(1) + mixer.D * x
    torch.testing.assert_close(mixer(x)[0], F.glu(mixer.out_proj(F.gelu(y))))


@pytest.mark.parametrize(("form", "discretisation"), FORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_all_modes_of_a_backbone_agree(
    form: str, discretisation: str, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    s4 = S4Options(form=form, discretisation=discretisation)
    backbone = Backbone(BackboneConfig(d_model=8, n_layers=2, mixer="s4", s4=s4)).to(dtype)
    report = compare_modes(backbone, torch.randn(2, 301, 8, dtype=dtype), cuts=[1, 2, 100, 164, 299])
    assert report.worst < tolerance * report.scale


def test_hybrids_with_mamba_agree_too() -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(d_model=8, n_layers=2, mixer=("s4", "mamba"))).double()
    report = compare_modes(backbone, torch.randn(2, 40, 8, dtype=torch.float64))
    assert report.worst < 1e-10 * report.scale


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
@pytest.mark.parametrize("impl", ["chunked", "reference"])
def test_the_implementation_asked_for_runs(
    direction: str, impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer, x = make(direction), torch.randn(2, 70, 6, dtype=torch.float64)
    expected = mixer(x)[0]
    mixer.impl = impl
    monkeypatch.setattr(torch.fft, "rfft", None)
    torch.testing.assert_close(mixer(x)[0], expected)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_packed_sequences_equal_separate_runs(direction: str) -> None:
    mixer = make(direction)
    sequences = [torch.randn(n, 6, dtype=torch.float64) for n in (5, 1, 17, 8)]
    packed, reset = pack(sequences)
    outputs = unpack(mixer(packed, reset=reset)[0], [len(s) for s in sequences])
    for sequence, y in zip(sequences, outputs, strict=True):
        torch.testing.assert_close(y, mixer(sequence[None])[0][0])


def test_gradient_flows_through_the_carried_state() -> None:
    mixer = make()
    x = torch.randn(1, 8, 6, dtype=torch.float64, requires_grad=True)
    for cut in (5, 7):  # a chunk and a step
        _, state = mixer(x[:, :cut], return_state=True)
        (carried,) = torch.autograd.grad(mixer(x[:, cut:], state=state)[0].sum(), x)
        (whole,) = torch.autograd.grad(mixer(x)[0][:, cut:].sum(), x)
        torch.testing.assert_close(carried, whole)


def test_half_the_sampling_rate_decimates_the_output() -> None:
    torch.manual_seed(0)
    mixer = S4(MixerConfig(d_model=4, dt_max=0.02, s4=S4Options(d_state=16))).double()
    t = torch.arange(1, 3001, dtype=torch.float64)[:, None]
    slow = torch.sin(t / torch.tensor([60.0, 90.0, 150.0, 300.0]))[None]
    full = mixer(slow)[0][:, 1::2]
    aware, unaware = (mixer(slow[:, 1::2], rate=rate)[0] for rate in (2.0, 1.0))
    assert (aware - full).abs().max() < 0.05 * full.abs().max()
    assert (unaware - full).abs().max() > 0.3 * full.abs().max()
    _, state = mixer(slow[:, 1:-2:2], rate=2.0, return_state=True)
    with torch.no_grad():  # a step keeps its rate apart from that of the step before
        mixer(slow[:, -1:], state=state)
        torch.testing.assert_close(mixer(slow[:, -1:], state=state, rate=2.0)[0], aware[:, -1:])


def test_parameters_are_real_and_named_as_published() -> None:
    shapes = {name: tuple(p.shape) for name, p in make("bidirectional", "dplr").named_parameters()}
    assert shapes == {
        "log_dt": (6,),
        "log_A_real": (6, 4),
        "A_imag": (6, 4),
        "B": (6, 4, 2),
        "P": (6, 4, 2),
        "C": (2, 6, 4, 2),
        "D": (6,),
        "out_proj.weight": (12, 6),
    }
    assert "P" not in dict(make().named_parameters())
    mixer, other = make(form="dplr"), make(form="dplr", discretisation="bilinear")
    other.load_state_dict(load(save(mixer.state_dict())))
    assert torch.equal(other.C, mixer.C)


@pytest.mark.parametrize("init", ["legs", "lin", "inv"])
def test_initial_values(init: str) -> None:
    torch.manual_seed(0)
    mixer = S4(MixerConfig(d_model=500, dt_min=1e-3, dt_max=0.1, s4=S4Options(init=init)))
    assert (mixer.log_A_real.exp() - 0.5).abs().max() < 1e-6
    delta = mixer.log_dt.exp()
    assert delta.min() >= 0.999e-3
    assert delta.max() <= 0.1001
    assert mixer.log_dt.std().item() == pytest.approx(4.605 / 12**0.5, rel=0.05)  # uniform
    assert torch.view_as_complex(mixer.C).abs().square().mean().item() == pytest.approx(1, rel=0.02)


def test_marks() -> None:
    mixer = make(form="dplr", lr=2e-4)
    slow = {name for name, p in mixer.named_parameters() if getattr(p, "_max_lr", None) == 2e-4}
    exempt = {name for name, p in mixer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    kept = {name for name, p in mixer.named_parameters() if getattr(p, "_no_reinit", False)}
    assert slow == {"log_dt", "log_A_real", "A_imag", "B", "P"}
    assert exempt == slow | {"D"}
    assert kept == exempt | {"C"}
    assert not any(hasattr(p, "_max_lr") for p in make(lr=None).parameters())


def test_initial_state_is_zero_and_complex64() -> None:
    mixer = S4(MixerConfig(d_model=6, s4=S4Options(d_state=8)))
    state = mixer.init_state(3)
    assert (tuple(state.hidden.shape), state.hidden.dtype) == ((3, 6, 4), torch.complex64)
    assert not state.hidden.any()
    assert copy.deepcopy(mixer).bfloat16().init_state(1).hidden.dtype == torch.complex64
    _, new = mixer(torch.randn(3, 5, 6), return_state=True)
    assert isinstance(map_state(Tensor.detach, new), S4State)


@pytest.mark.parametrize("change", ["in place", "read-out", "loaded", "cast", "swapped"])
def test_steps_follow_changed_weights(change: str) -> None:
    mixer, x = make(), torch.randn(2, 1, 6, dtype=torch.float64)
    other = make(form="diagonal", init="lin")
    with torch.no_grad():
        state = S4State(torch.randn(2, 6, 4, dtype=torch.complex128))
        before = mixer(x, state=state)[0]
        if change == "in place":
            mixer.log_dt.add_(0.5)
        elif change == "read-out":
            mixer.C.mul_(2)
        elif change == "loaded":
            mixer.load_state_dict(other.state_dict())
        elif change == "cast":
            mixer.bfloat16().double()
        else:  # behind the back of the version counter, as averages of weights are swapped in
            mixer.A_imag.data.mul_(2)
            mixer.eval()
        after, state_after = mixer(x, state=state, return_state=True)
        whole = torch.cat((x, x), dim=1)
        torch.testing.assert_close(mixer(whole, state=state)[0][:, :1], after)
    assert not torch.equal(before, after)
    assert not state_after.hidden.requires_grad


@pytest.mark.parametrize("form", ["diagonal", "dplr"])
def test_steps_derive_from_the_weights_once(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a bfloat16 model, where even C needs a kernel to become complex."""
    mixer, x = make(form=form).bfloat16(), torch.randn(2, 1, 6, dtype=torch.bfloat16)
    with torch.no_grad():
        expected, state = mixer(x, state=mixer.init_state(2), return_state=True)
        for name in ("_complex", "lti_discretise", "at_least_float32"):
            monkeypatch.setattr(s4_module, name, None)
        assert torch.equal(mixer(x, state=S4State(torch.zeros_like(state.hidden)))[0], expected)


def test_what_is_kept_for_steps_does_not_go_into_copies_and_files() -> None:
    mixer, x = make().eval(), torch.randn(1, 1, 6, dtype=torch.float64)
    with torch.no_grad():
        expected, _ = mixer(x, state=mixer.init_state(1))
        file = io.BytesIO()
        torch.save(mixer, file)
        file.seek(0)
        for other in (copy.deepcopy(mixer), torch.load(file, weights_only=False)):
            torch.testing.assert_close(other(x, state=other.init_state(1))[0], expected)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_autocast_keeps_the_state_space_in_float32(direction: str) -> None:
    torch.manual_seed(0)
    mixer = S4(MixerConfig(d_model=16, direction=direction))
    x = torch.randn(2, 200, 16)
    expected = mixer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x)[0]
        assert y.dtype == torch.bfloat16
        if direction == "causal":
            exact = mixer.float()(x, return_state=True)[1]
            assert exact.hidden.dtype == torch.complex64
    assert (y.float() - expected).abs().max() < 0.02 * expected.abs().max()
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in mixer.parameters())


def test_it_learns_another_layers_dynamics() -> None:
    """Gradient descent on the parameters of the system alone finds those of a teacher."""
    torch.manual_seed(0)
    options = S4Options(form="dplr", discretisation="bilinear", d_state=8)
    student, teacher = (S4(MixerConfig(d_model=4, dt_min=0.01, s4=options)) for _ in range(2))
    student.out_proj.load_state_dict(teacher.out_proj.state_dict())
    optimiser = torch.optim.Adam([p for p in student.parameters() if p.shape != (8, 4)], lr=2e-2)
    x = torch.randn(8, 64, 4)
    target = teacher(x)[0].detach()
    losses = []
    for _ in range(60):
        loss = (student(x)[0] - target).square().mean() / target.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_it_compiles_as_one_graph(direction: str) -> None:
    torch.compiler.reset()
    mixer = make(direction)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 33, 6, dtype=torch.float64)
    torch.testing.assert_close(compiled(x)[0], mixer(x)[0])
    if direction == "causal":
        state = mixer.init_state(2)
        with torch.no_grad():
            actual, expected = (f(x[:, :1], state=state, return_state=True) for f in (compiled, mixer))
        torch.testing.assert_close(actual, expected)


CHECKED = """
from dataclasses import replace

import torch
from jaxtyping import TypeCheckError, install_import_hook

with install_import_hook(["seqmamba.nn", "seqmamba.ops.lti"], "beartype.beartype"):
    from seqmamba.nn import MixerConfig, S4Options, build_mixer
    from seqmamba.ops import lti

x = torch.randn(2, 5, 6)
dplr = S4Options(8, form="dplr")
for options in (S4Options(8), dplr, replace(dplr, discretisation="bilinear")):
    build_mixer("s4", MixerConfig(6, direction="bidirectional", s4=options))(x)
    mixer = build_mixer("s4", MixerConfig(6, s4=options))
    reset = torch.ones(2, 5, dtype=torch.bool)
    y, state = mixer(x, state=mixer.init_state(2), return_state=True, reset=reset)
    mixer(y[:, :1], state=state, return_state=True)
half = torch.zeros(6, 4, dtype=torch.complex64)
try:
    lti(x, torch.ones(6), half, half, half[:, :3])
except TypeCheckError:
    print("refused")
"""


def test_signatures_hold_at_run_time() -> None:
    done = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"]


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"combine: mixer s4 adds its directions in one .*, got 'concat'"):
        build_mixer("s4", MixerConfig(d_model=6, direction="bidirectional", combine="concat"))
    with pytest.raises(UserError, match="scan_impl: mixer s4 offers auto, chunked, reference, got 'numba'"):
        build_mixer("s4", MixerConfig(d_model=6, scan_impl="numba"))
    mixer, x = make("bidirectional"), torch.randn(1, 4, 6, dtype=torch.float64)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        mixer(x, return_state=True)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        mixer.init_state(1)
    with pytest.raises(UserError, match="rate must be a positive number, got -1"):
        make()(x, rate=-1)


@pytest.mark.gpu
@pytest.mark.parametrize(("form", "discretisation"), FORMS)
def test_a_graph_of_steps_is_the_steps(form: str, discretisation: str) -> None:
    options = S4Options(d_state=8, form=form, discretisation=discretisation)
    mixer = S4(MixerConfig(d_model=6, s4=options)).cuda().requires_grad_(False)
    x, state = torch.randn(2, 1, 6, device="cuda"), mixer.init_state(2)
    graphed = GraphedSteps(lambda state, x: mixer(x, state=state, return_state=True), state)
    for _ in range(3):
        expected, state = mixer(x, state=state, return_state=True)
        torch.testing.assert_close(graphed(x), expected)
