from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.nn import Attention, AttentionOptions, MixerConfig, attention, build_mixer, map_state, pack
from seqmamba.nn.attention_kernels import attend, attend_in_sequences
from seqmamba.nn.attention_reach import sequence_reach, visible
from seqmamba.nn.rotary import rotary_angles, rotate

DIM, LENGTH = 24, 37
OPTIONS = {
    "all heads": {},
    "grouped": {"n_kv_heads": 2},
    "one key head": {"n_kv_heads": 1, "head_dim": 10},
    "no rotation": {"rotary": False, "head_dim": 5},
    "part rotation": {"head_dim": 10, "rotary_dim": 4},
    "window": {"window": 6},
    "grouped window": {"n_kv_heads": 2, "window": 6},
    "window of one": {"window": 1},
    "wide window": {"window": LENGTH + 5},
}
CAUSAL = {
    **OPTIONS,
    "convolution": {"d_conv": 4},
    "convolution and window": {"d_conv": 3, "window": 6, "n_kv_heads": 2, "rotary_dim": 2},
}
each_case = pytest.mark.parametrize(
    ("direction", "options"),
    [("causal", options) for options in CAUSAL.values()]
    + [("bidirectional", options) for options in OPTIONS.values()],
    ids=[*CAUSAL, *(f"bidirectional {name}" for name in OPTIONS)],
)
each_causal = pytest.mark.parametrize("options", CAUSAL.values(), ids=CAUSAL.keys())
each_direction = pytest.mark.parametrize("direction", ["causal", "bidirectional"])
LENGTHS = (1, 13, 2, 20, 1)  # of the packed sequences


def make(direction="causal", bias=True, n_heads=4, **options):
    torch.manual_seed(0)
    config = MixerConfig(
        DIM, direction=direction, bias=bias, attention=AttentionOptions(n_heads=n_heads, **options)
    )
    return build_mixer("attention", config).double()


def features(length=LENGTH, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, DIM, generator=generator, dtype=torch.float64)


def resets(*starts, length=LENGTH):
    """One row a list of starts."""
    reset = torch.zeros(len(starts), length, dtype=torch.bool)
    for row, positions in enumerate(starts):
        reset[row, list(positions)] = True
    return reset


def turned(x, width, theta):
    """Rotate the first channels with complex numbers: x (batch, length, heads, dim)."""
    half = width // 2
    frequency = torch.tensor([theta ** (-2 * i / width) for i in range(half)], dtype=torch.float64)
    angle = torch.arange(x.shape[1])[:, None, None] * frequency
    y = torch.complex(x[..., :half], x[..., half:width]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((y.real, y.imag, x[..., width:]), dim=-1)


def convolved(mixer, x, reset):
    """The causal convolution, one tap at a time; a tap in another sequence counts nothing."""
    if mixer.conv1d is None:
        return x
    sequence = torch.zeros(x.shape[:2]) if reset is None else reset.cumsum(1)
    y = mixer.conv1d.bias.expand_as(x)
    for back, tap in enumerate(mixer.conv1d.weight[:, 0].T.flip(0)):
        earlier = F.pad(x, (0, 0, back, 0))[:, : x.shape[1]]
        same = F.pad(sequence, (back, 0), value=-1)[:, : x.shape[1]] == sequence
        y = y + tap * earlier * same[..., None]
    return y


def direct(mixer, x, reset=None):
    """Attention as its definition reads, one query at a time."""
    batch, length, _ = x.shape
    q, k, v = convolved(mixer, mixer.in_proj(x), reset).split(
        [n * mixer.head_dim for n in (mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads)], dim=-1
    )
    q, k, v = (y.unflatten(-1, (-1, mixer.head_dim)) for y in (q, k, v))
    q, k = (turned(y, mixer.rotary_dim, mixer.theta) for y in (q, k))
    sequence = torch.zeros(batch, length) if reset is None else reset.cumsum(1)
    y = torch.zeros_like(q)
    for b in range(batch):
        for t in range(length):
            seen = [
                s
                for s in range(t + 1 if mixer.causal else length)
                if sequence[b, s] == sequence[b, t] and (mixer.window is None or abs(t - s) < mixer.window)
            ]
            for h in range(mixer.n_heads):
                group = h // (mixer.n_heads // mixer.n_kv_heads)
                scores = k[b, seen, group] @ q[b, t, h] / math.sqrt(mixer.head_dim)
                y[b, t, h] = torch.softmax(scores, dim=0) @ v[b, seen, group]
    return mixer.out_proj(y.flatten(2))


def run(mixer, x, cuts, reset=None, state=None):
    """In chunks that start at the cuts."""
    outputs = []
    edges = [0, *cuts, x.shape[1]]
    for left, right in pairwise(edges):
        part = None if reset is None else reset[:, left:right]
        y, state = mixer(x[:, left:right], reset=part, state=state, return_state=True)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def close(got, expected, tolerance=1e-12):
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


@each_case
def test_is_the_definition(direction, options):
    mixer, x = make(direction, **options), features()
    close(mixer(x)[0], direct(mixer, x))


@each_case
@pytest.mark.parametrize("longest_mask", [0, LENGTH], ids=["by sequence", "by mask"])
def test_packed_is_the_definition(direction, options, longest_mask, monkeypatch):
    monkeypatch.setitem(attention._LONGEST_MASK, "cpu", longest_mask)
    mixer, x = make(direction, **options), features()
    reset = resets((5, 6, 30), (0, 36))
    close(mixer(x, reset=reset)[0], direct(mixer, x, reset))


@each_case
def test_packed_sequences_equal_separate_ones(direction, options):
    mixer = make(direction, **options)
    sequences = list(features(sum(LENGTHS), batch=1)[0].split(LENGTHS))
    packed, reset = pack(sequences)
    close(mixer(packed, reset=reset)[0], torch.cat([mixer(s[None])[0] for s in sequences], dim=1))


@pytest.mark.parametrize("start", ["nothing", "initial state"])
@pytest.mark.parametrize("cuts", [range(1, LENGTH), [1, 2, 20], [7, 30], [36]], ids=str)
@each_causal
def test_chunks_and_steps_equal_the_whole(options, cuts, start):
    mixer, x = make(**options), features()
    whole, final = mixer(x, return_state=True)
    chunked, carried = run(mixer, x, cuts, state=mixer.init_state(2) if start == "initial state" else None)
    close(chunked, whole)
    torch.testing.assert_close(carried, final)


@pytest.mark.parametrize("cuts", [range(1, LENGTH), [5, 6, 20], [4, 31], [30, 36]], ids=str)
@each_causal
def test_packed_chunks_equal_the_packed_whole(options, cuts):
    """Resets before, on and after the cuts; the rows restart at different positions."""
    mixer, x, reset = make(**options), features(), resets((5, 6, 30), (20,))
    whole, final = mixer(x, reset=reset, return_state=True)
    chunked, carried = run(mixer, x, cuts, reset)
    close(chunked, whole)
    torch.testing.assert_close(carried, final)
    assert carried.position.tolist() == [7, 17]


@each_causal
def test_a_stream_goes_on_after_a_reset_without_one(options):
    """What a reset hid stays hidden although later chunks have none."""
    mixer, x, reset = make(**options), features(), resets((9,), (3, 11))
    _, state = mixer(x[:, :14], reset=reset[:, :14], return_state=True)
    rest, _ = run(mixer, x[:, 14:], [1, 2, 9], state=state)
    close(rest, direct(mixer, x, reset)[:, 14:])


def test_a_lost_cache_would_show():
    mixer, x = make(), features()
    assert (mixer(x[:, 20:])[0] - mixer(x)[0][:, 20:]).abs().max() > 1e-2


@each_causal
def test_gradients_are_those_of_the_definition_through_a_carried_cache_too(options):
    mixer, x = make(**options), features(length=11).requires_grad_()
    weights = features(length=11, seed=2)
    leaves = [x, *mixer.parameters()]
    for y in (mixer(x)[0], run(mixer, x, [4, 5])[0]):
        got = torch.autograd.grad((y * weights).sum(), leaves)
        expected = torch.autograd.grad((direct(mixer, x) * weights).sum(), leaves)
        for one, other in zip(got, expected, strict=True):
            close(one, other, 1e-10)


@each_direction
def test_long_packed_rows_need_no_mask_and_equal_the_masked(direction):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 300, n, 8, generator=generator, requires_grad=True) for n in (4, 2, 2))
    reset = torch.rand(2, 300, generator=generator) < 0.05
    causal = direction == "causal"
    steps = torch.arange(300)
    mask = visible(steps[:, None] - steps, sequence_reach(reset, 0, causal), None)
    masked = attend(q, k, v, mask)
    split = attend_in_sequences(q, k, v, reset, causal)
    close(split, masked, 1e-5)
    for one, other in zip(
        *(torch.autograd.grad(y.square().sum(), (q, k, v)) for y in (split, masked)), strict=True
    ):
        close(one, other, 1e-5)


def test_a_long_packed_row_runs_in_memory_that_fits():
    """A mask of all pairs would have 2^34 entries."""
    torch.manual_seed(0)
    mixer = Attention(MixerConfig(8, attention=AttentionOptions(n_heads=1)))
    x, reset = torch.randn(1, 2**17, 8), torch.zeros(1, 2**17, dtype=torch.bool)
    reset[:, ::512] = True
    with torch.no_grad():
        y, _ = mixer(x, reset=reset)
        last, _ = mixer(x[:, -512:])
    close(y[:, -512:], last, 1e-5)


def test_a_long_window_costs_length_times_window():
    torch.manual_seed(0)
    mixer = Attention(MixerConfig(8, attention=AttentionOptions(n_heads=1, window=64)))
    x = torch.randn(1, 2**17, 8)
    with torch.no_grad():
        y, state = mixer(x, return_state=True)
        last, _ = mixer(x[:, -500:])
    close(y[:, -400:], last[:, -400:], 1e-5)
    assert state.keys.untyped_storage().nbytes() == 63 * 8 * 4  # the state keeps nothing else alive


def test_a_window_bounds_the_cache_and_no_window_lets_it_grow():
    x = features(length=20)
    for window, sizes in ((6, {5}), (None, set(range(1, 21)))):
        mixer = make(window=window)
        state, seen = mixer.init_state(2), set()
        for t in range(20):
            _, state = mixer(x[:, t : t + 1], state=state, return_state=True)
            seen.add(state.keys.shape[1])
        assert seen == sizes
        assert state.position.tolist() == [20, 20]


def test_rows_of_a_state_can_be_selected_and_go_on_alone():
    mixer, x, reset = make(window=6), features(batch=3), resets((5,), (), (9, 11))
    _, state = mixer(x[:, :12], reset=reset[:, :12], return_state=True)
    rows = torch.tensor([2, 0])
    y, _ = mixer(x[rows, 12:], state=map_state(lambda t: t[rows], state))
    close(y, direct(mixer, x, reset)[rows, 12:])


def test_right_at_positions_of_millions():
    """Scores depend on distances only, wherever the sequence is."""
    q, k = torch.randn(2, 1, 1, 2, 64, generator=torch.Generator().manual_seed(0)).unbind(0)
    scores = []
    for start in (0, 3_000_000, 2**40):
        a, b = (rotary_angles(torch.tensor([[start + step]]), 64, 1e4) for step in (17, 5))
        scores.append((rotate(q, a) * rotate(k, b)).sum(-1))
    close(scores[1], scores[0], 2e-5)
    close(scores[2], scores[0], 2e-3)  # float64 itself has 12 digits left


def test_a_window_far_along_gives_what_it_gives_at_the_start():
    mixer, x = make(window=5).float(), features().float()
    _, near = mixer(x[:, :9], return_state=True)
    # the keys of the same features at positions that are five million later
    angles = rotary_angles(torch.tensor([[5_000_000]]), mixer.head_dim, mixer.theta)
    far = near._replace(keys=rotate(near.keys, angles), position=near.position + 5_000_000)
    close(run(mixer, x[:, 9:], [1, 2, 8], state=far)[0], run(mixer, x[:, 9:], [1, 2, 8], state=near)[0], 1e-5)


def test_rate_stretches_the_positions_in_every_mode():
    mixer, x = make(), features()
    whole, _ = mixer(x, rate=2.0)
    assert (whole - mixer(x)[0]).abs().max() > 1e-2
    # every second position of a sequence twice as long
    twice = mixer.in_proj(x.repeat_interleave(2, dim=1))
    q, k, v = mixer._heads(twice, torch.arange(2 * LENGTH)[None], 1.0)
    y = attend(q[:, ::2], k[:, ::2], v[:, ::2], causal=True)
    close(whole, mixer.out_proj(y.flatten(2)))
    state = None
    for t in range(LENGTH):
        y, state = mixer(x[:, t : t + 1], state=state, return_state=True, rate=2.0)
        close(y, whole[:, t : t + 1])


@pytest.mark.parametrize("options", [{"window": 4}, {"d_conv": 4}], ids=str)
def test_what_counts_steps_refuses_another_rate(options):
    with pytest.raises(UserError, match="rate: mixer attention with a window or a convolution runs at the"):
        make(**options)(features(), rate=0.5)


def test_states_are_float32_and_exact_under_autocast():
    mixer, x = make(window=6, n_kv_heads=2, d_conv=4).float(), features().float()
    expected, _ = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, _ = mixer(x)
        stepped, state = run(mixer, x, range(1, LENGTH))
    assert whole.dtype == torch.bfloat16
    assert (state.keys.dtype, state.values.dtype) == (torch.float32, torch.float32)
    assert state.position.dtype == torch.int64
    close(stepped, whole, 2e-2)
    close(whole.float(), expected, 3e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_state_dtypes_follow_the_model_but_are_never_narrow(dtype):
    mixer = make(d_conv=4).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    for state in (mixer.init_state(2), mixer(features().to(dtype), return_state=True)[1]):
        assert state.keys.dtype == state.values.dtype == state.conv.dtype == wide
    assert mixer(features().to(dtype), state=mixer.init_state(2), return_state=True)[0].dtype == dtype


@pytest.mark.parametrize("window", [None, 5])
def test_compiles_as_one_graph_whole_packed_and_chunked(window):
    mixer = make(window=window, n_kv_heads=2, d_conv=4)

    def two_chunks(x, reset):
        first, state = mixer(x[:, :20], reset=reset[:, :20], return_state=True)
        second, state = mixer(x[:, 20:], state=state, return_state=True)
        last, _ = mixer(x[:, :1], state=state)
        return torch.cat((first, second, last, mixer(x)[0]), dim=1)

    x, reset = features(), resets((5, 6, 30), (20,))
    compiled = torch.compile(two_chunks, backend="aot_eager", fullgraph=True)
    results = []
    for call in (two_chunks, compiled):
        leaf = x.clone().requires_grad_()
        y = call(leaf, reset)
        results.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *mixer.parameters()])])
    torch.testing.assert_close(*results)
    torch.compiler.reset()


def test_a_step_with_a_window_is_one_graph_for_all_positions():
    mixer, x = make(window=5, d_conv=4).float(), features(length=12).float()
    state = mixer.init_state(2)
    step = torch.compile(
        lambda x, state: mixer(x, state=state, return_state=True), backend="aot_eager", fullgraph=True
    )
    outputs = []
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for t in range(12):
            y, state = step(x[:, t : t + 1].clone(), state)
            outputs.append(y)
    close(torch.cat(outputs, dim=1), mixer(x)[0], 1e-6)
    torch.compiler.reset()


def test_parameter_names_and_shapes():
    mixer = make(n_kv_heads=2)
    assert {name: tuple(p.shape) for name, p in mixer.named_parameters()} == {
        "in_proj.weight": (24 + 2 * 12, 24),
        "in_proj.bias": (48,),
        "out_proj.weight": (24, 24),
        "out_proj.bias": (24,),
    }
    assert {name for name, _ in make(bias=False).named_parameters()} == {"in_proj.weight", "out_proj.weight"}
    convolution = make(d_conv=4).conv1d
    assert {name: tuple(p.shape) for name, p in convolution.named_parameters()} == {
        "weight": (72, 1, 4),
        "bias": (72,),
    }


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: AttentionOptions(d_conv=-1), "attention.d_conv: expected a whole number >= 0, got -1"),
        (lambda: AttentionOptions(rotary_dim=0), "attention.rotary_dim: expected a whole number >= 1, got 0"),
        (
            lambda: AttentionOptions(n_kv_heads=3),
            "attention.n_kv_heads: expected a divisor of n_heads",
        ),
        (lambda: make(n_heads=5), "attention.n_heads: expected a divisor of the 24 channels, got 5"),
        (lambda: make(head_dim=5), "attention.rotary_dim: expected an even number of at most head_dim = 5"),
        (
            lambda: make(rotary_dim=8),
            "attention.rotary_dim: expected an even .* head_dim = 6 channels, got 8",
        ),
        (
            lambda: make("bidirectional", d_conv=4),
            "attention.d_conv: expected 0 in a bidirectional layer, got 4",
        ),
        (lambda: make("bidirectional").init_state(1), "bidirectional layer has no recurrent state"),
        (lambda: make("bidirectional")(features(), return_state=True), "bidirectional layer has no"),
        (lambda: make()(features(), state=make().init_state(3)), "state: expected a batch of 2, got 3"),
        (
            lambda: make(window=4)(features(), state=make(window=5).init_state(2)),
            "state: expected a cache of window - 1 = 3, got 4",
        ),
    ],
)
def test_bad_arguments_are_named(attempt, message):
    with pytest.raises(UserError, match=message):
        attempt()


@pytest.mark.gpu
@each_causal
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_gives_the_definition_in_every_mode(options, dtype):
    mixer, x, reset = make(**options), features(), resets((5, 6, 30), (20,))
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    expected, packed = direct(mixer, x), direct(mixer, x, reset)
    mixer, x, reset = mixer.to("cuda", dtype), x.to("cuda", dtype), reset.cuda()
    with torch.no_grad():
        close(mixer(x)[0].double().cpu(), expected, tolerance)
        close(run(mixer, x, [7, 30])[0].double().cpu(), expected, tolerance)
        close(run(mixer, x, range(1, LENGTH))[0].double().cpu(), expected, tolerance)
        close(run(mixer, x, [5, 6, 20], reset)[0].double().cpu(), packed, tolerance)


@pytest.mark.gpu
def test_gpu_trains_in_chunks_behind_a_long_cache():
    """The causal mask that ends with the keys, in the flash kernel, with its gradients."""
    mixer = make(n_kv_heads=2, head_dim=16).cuda().bfloat16()
    x = features(length=300).cuda().bfloat16().requires_grad_()
    weights = torch.randn(2, 300, DIM, device="cuda")
    gradients = [
        torch.autograd.grad((y * weights).sum(), [x, *mixer.parameters()])
        for y in (mixer(x)[0], run(mixer, x, [100, 260])[0])
    ]
    for one, other in zip(*gradients, strict=True):
        close(one.float(), other.float(), 2e-2 * other.abs().max().item())


@pytest.mark.gpu
def test_gpu_uses_the_flash_kernel_whenever_there_is_no_mask():
    mixer = make(n_kv_heads=2, head_dim=16).cuda().bfloat16()
    x = features(length=64).cuda().bfloat16()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION), torch.no_grad():
        whole, _ = mixer(x)
        chunked, _ = run(mixer, x, [30, 31])
    close(chunked, whole, 2e-2)


@pytest.mark.gpu
def test_gpu_step_with_a_window_can_be_captured():
    mixer, x = make(window=5).cuda().float(), features(length=12).cuda().float()
    static_x, state = x[:, :1].clone(), mixer.init_state(2)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        mixer(static_x, state=state, return_state=True)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        static_y, new = mixer(static_x, state=state, return_state=True)
        for old, fresh in zip(state[:3], new[:3], strict=True):
            old.copy_(fresh)
    outputs = []
    for t in range(12):
        static_x.copy_(x[:, t : t + 1])
        graph.replay()
        outputs.append(static_y.clone())
    close(torch.cat(outputs, dim=1), mixer(x)[0], 1e-4)
