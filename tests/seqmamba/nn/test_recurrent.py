from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from seqmamba.errors import UserError
from seqmamba.nn import GRUState, LSTMState, MixerConfig, build_mixer, pack
from seqmamba.ops.packed_sequences import sequence_bounds

DIM, LENGTH = 6, 23
KINDS = [
    {"direction": "causal"},
    {"direction": "bidirectional", "combine": "add"},
    {"direction": "bidirectional", "combine": "concat"},
    {"direction": "bidirectional", "combine": "gate"},
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))
each_name = pytest.mark.parametrize("name", ["lstm", "gru"])
LENGTHS = (1, 9, 2, 10, 1)  # of the packed sequences


def make(name, **options):
    torch.manual_seed(0)
    return build_mixer(name, MixerConfig(DIM, bias=True, **options)).double()


def features(length=LENGTH, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, DIM, generator=generator, dtype=torch.float64)


def resets(*starts, length=LENGTH):
    """One row a list of starts."""
    reset = torch.zeros(len(starts), length, dtype=torch.bool)
    for row, positions in enumerate(starts):
        reset[row, list(positions)] = True
    return reset


def lstm_step(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = (x @ w_ih.T + h @ w_hh.T + b_ih + b_hh).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(x, state, w_ih, w_hh, b_ih, b_hh):
    (h,) = state
    (r, z, n), (hr, hz, hn) = (x @ w_ih.T + b_ih).chunk(3, -1), (h @ w_hh.T + b_hh).chunk(3, -1)
    z = torch.sigmoid(z + hz)
    return ((1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * h,)


def scan(mixer, x, reset, suffix=""):
    """One direction, step by step: the outputs (batch, length, units)."""
    weights = [getattr(mixer.rnn, f"{part}_l0{suffix}") for part in ("weight_ih", "weight_hh")]
    weights += [getattr(mixer.rnn, f"{part}_l0{suffix}") for part in ("bias_ih", "bias_hh")]
    step = lstm_step if isinstance(mixer.rnn, nn.LSTM) else gru_step
    state = tuple(x.new_zeros(len(x), mixer.rnn.hidden_size) for _ in mixer.state_type._fields)
    outputs = []
    for t in range(x.shape[1]):
        if reset is not None:
            state = tuple(part * ~reset[:, t, None] for part in state)
        state = step(x[:, t], state, *weights)
        outputs.append(state[0])
    return torch.stack(outputs, dim=1)


def direct(mixer, x, reset=None):
    """The layer as its equations read; right to left, a reset forbids the step before it."""
    y = scan(mixer, x, reset)
    if not mixer.causal:
        flipped = None if reset is None else reset.roll(-1, 1).flip(1)
        reverse = scan(mixer, x.flip(1), flipped, "_reverse").flip(1)
        if mixer.combine == "add":
            y = y + reverse
        elif mixer.combine == "concat":
            y = torch.cat((y, reverse), dim=-1)
        else:
            gate = torch.sigmoid(mixer.gate_proj(x))
            y = gate * y + (1 - gate) * reverse
    return mixer.out_proj(y)


def run(mixer, x, cuts, reset=None, state=None):
    """In chunks that start at the cuts."""
    outputs = []
    for left, right in pairwise([0, *cuts, x.shape[1]]):
        part = None if reset is None else reset[:, left:right]
        y, state = mixer(x[:, left:right], reset=part, state=state, return_state=True)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


@each_name
@each_kind
def test_is_the_definition_plain_and_packed(name, kind):
    mixer, x = make(name, **kind), features()
    close(mixer(x)[0], direct(mixer, x))
    for reset in (resets((5, 6, 22), (0, 13)), resets((), (1,)), resets(range(LENGTH), ())):
        close(mixer(x, reset=reset)[0], direct(mixer, x, reset))


@each_name
@each_kind
def test_packed_sequences_equal_separate_ones(name, kind):
    mixer = make(name, **kind)
    sequences = list(features(sum(LENGTHS), batch=1)[0].split(LENGTHS))
    packed, reset = pack(sequences)
    close(mixer(packed, reset=reset)[0], torch.cat([mixer(s[None])[0] for s in sequences], dim=1))


@each_name
@pytest.mark.parametrize("cuts", [range(1, LENGTH), [1, 2, 20], [5, 6, 7], [4, 22]], ids=str)
@pytest.mark.parametrize("starts", [None, ((5, 6, 22), (0, 13)), ((), (6,))], ids=str)
def test_chunks_and_steps_equal_the_whole(name, cuts, starts):
    mixer, x = make(name), features()
    reset = None if starts is None else resets(*starts)
    whole, final = mixer(x, reset=reset, return_state=True)
    chunked, carried = run(mixer, x, cuts, reset, mixer.init_state(2))
    close(chunked, whole)
    torch.testing.assert_close(carried, final)


@each_name
def test_a_lost_state_would_show(name):
    mixer, x = make(name), features()
    assert (mixer(x[:, 12:])[0] - mixer(x)[0][:, 12:]).abs().max() > 1e-3


@each_name
@each_kind
def test_gradients_are_those_of_the_definition(name, kind):
    mixer, x, reset = make(name, **kind), features().requires_grad_(), resets((5, 6, 22), (0, 13))
    weights, leaves = features(seed=2), [x, *mixer.parameters()]
    runs = [mixer(x, reset=reset)[0]]
    if kind["direction"] == "causal":
        runs.append(run(mixer, x, [3, 4, 13], reset)[0])  # through the carried state
    expected = torch.autograd.grad((direct(mixer, x, reset) * weights).sum(), leaves)
    for y in runs:
        for one, other in zip(torch.autograd.grad((y * weights).sum(), leaves), expected, strict=True):
            close(one, other, 1e-10)


@each_name
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_state_dtypes_follow_the_model_but_are_never_narrow(name, dtype):
    mixer, x = make(name).to(dtype), features().to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    y, state = mixer(x, state=mixer.init_state(2), return_state=True)
    assert y.dtype == dtype
    assert {part.dtype for part in (*state, *mixer.init_state(2))} == {wide}
    assert type(state) is (LSTMState if name == "lstm" else GRUState)


@each_name
def test_autocast_leaves_the_recurrence_and_its_state_exact(name):
    mixer, x = make(name).float(), features().float()
    _, expected = mixer(x, return_state=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = mixer(x, return_state=True)
        stepped, _ = run(mixer, x, range(1, LENGTH))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(state, expected)
    close(stepped, y, 1e-2)
    y.float().sum().backward()
    assert {p.grad.dtype for p in mixer.parameters()} == {torch.float32}


def test_forget_gates_start_open():
    mixer = build_mixer("lstm", MixerConfig(DIM, direction="bidirectional"))
    forget = slice(12, 24)
    for suffix in ("", "_reverse"):
        bias = getattr(mixer.rnn, f"bias_ih_l0{suffix}") + getattr(mixer.rnn, f"bias_hh_l0{suffix}")
        assert torch.equal(bias[forget], torch.ones(12))
        assert bias[:12].abs().max() < 1
        assert getattr(mixer.rnn, f"bias_ih_l0{suffix}")._no_weight_decay


def test_outer_code_can_tell_which_biases_to_leave():
    mixer = build_mixer("lstm", MixerConfig(DIM))
    kept = {name for name, p in mixer.named_parameters() if getattr(p, "_no_reinit", False)}
    assert kept == {"rnn.bias_ih_l0", "rnn.bias_hh_l0"}


# torch.compile looks at the output of the layer that it left out
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@each_name
def test_a_compiled_model_runs_it_between_graphs(name):
    mixer, x, reset = make(name), features(), resets((5,), (6, 7))
    compiled = torch.compile(mixer, backend="aot_eager")
    for options in ({}, {"reset": reset}):
        results = []
        for call in (mixer, compiled):
            leaf = x.clone().requires_grad_()
            y, _ = call(leaf, **options)
            results.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *mixer.parameters()])])
        torch.testing.assert_close(*results)
    torch.compiler.reset()


def test_sequence_bounds_read_row_after_row():
    first, lengths = sequence_bounds(resets((2,), (0, 3), length=4))
    assert first.tolist() == [0, 2, 4, 7]
    assert lengths.tolist() == [2, 2, 3, 1]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            lambda: make("gru", direction="bidirectional").init_state(1),
            "bidirectional layer has no",
        ),
        (
            lambda: make("lstm", direction="bidirectional")(features(), return_state=True),
            "bidirectional layer has no recurrent state",
        ),
        (
            lambda: make("lstm")(features(), state=make("lstm").init_state(3)),
            "state: expected a batch of 2, got 3",
        ),
        (lambda: make("gru")(features(), rate=2.0), "rate: mixer gru runs at the sampling rate"),
    ],
)
def test_bad_arguments_are_named(attempt, message):
    with pytest.raises(UserError, match=message):
        attempt()


@pytest.mark.gpu
@each_name
@each_kind
@pytest.mark.parametrize("autocast", [False, True])
def test_gpu_gives_the_definition(name, kind, autocast, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    mixer, x, reset = make(name, **kind), features(), resets((5, 6, 22), (0, 13))
    expected, packed = direct(mixer, x), direct(mixer, x, reset)
    mixer, x, reset = mixer.float().cuda(), x.float().cuda(), reset.cuda()
    tolerance = 3e-2 if autocast else 1e-5
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        close(mixer(x)[0].double().cpu(), expected, tolerance)
        y, _ = mixer(x, reset=reset)
        close(y.double().cpu(), packed, tolerance)
        y.float().sum().backward()
        assert {p.grad.dtype for p in mixer.parameters()} == {torch.float32}
        if kind["direction"] == "causal":
            stepped, state = run(mixer, x, range(1, LENGTH))
            close(stepped.double().cpu(), expected, tolerance)
            assert {part.dtype for part in state} == {torch.float32}
