"""A whole step of a language model as one kernel: on a GPU, and the same source through the emulator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from emulator import emulate
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.backbones.token_program import (
    MOST_MATRIX_BYTES,
    program_obstacle,
    worthwhile,
    write_program,
)
from seqmamba.errors import UserError
from seqmamba.inference import Decoder, SamplingConfig, StopRule, TokenBlock, begin
from seqmamba.inference import decoding as decoding_module
from seqmamba.nn import S4Options
from seqmamba.nn.state import map_state
from seqmamba.ops.cuda import runtime
from seqmamba.ops.token_step.cuda import SOURCE, LoadedProgram, Shape
from seqmamba.ops.token_step.program import Program

VOCABULARY = 11
SMALL = {"d_state": 4, "s4": S4Options(d_state=10)}
BACKBONES = {
    "mamba": BackboneConfig(8, 2, mixer="mamba", dt_rank=3, **SMALL),
    "s4-layer-bias": BackboneConfig(12, 2, mixer="s4+mlp", norm="layer", bias=True, **SMALL),
    "hybrid": BackboneConfig(24, 3, mixer=("mamba+mlp", "s4"), conv_bias=False, d_conv=2, **SMALL),
    "multiscale": MultiScaleConfig(
        BackboneConfig(8, 1, mixer="s4+mlp", **SMALL), pool=(2, 3), inner_mixers=("mamba", "s4+mlp")
    ),
    "multiscale-both": MultiScaleConfig(
        BackboneConfig(8, 1, mixer="mamba", norm="layer", **SMALL), pool=(3, 2), sides="both"
    ),
}


def model_of(name: str, dtype: torch.dtype = torch.float32, **options) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageModelConfig(BACKBONES[name], VOCABULARY, pad_vocab_multiple=4, **options)
    model = LanguageModel(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(("A_log", "log_A_real")):
                parameter.sub_(2)  # states that live long, so that a lost one shows
            if key.endswith(("weight", "bias", ".D")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype)


@pytest.fixture
def emulated_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let programs and decoders think that the CPU is a GPU without clusters; collects the steps launched."""
    launched = []

    def launch(source, kernel, constants, grid, threads, shared_bytes, arguments) -> None:
        launched.append(arguments[8])
        blocks = constants["CLUSTER"]  # their threads are those of one emulated block
        grid = (grid[0] // blocks, 1, 1)
        shape = grid, threads * blocks, shared_bytes * blocks
        emulate(source, kernel, constants, *shape, arguments, order=ORDER[0])

    monkeypatch.setattr(runtime, "launch", launch)
    monkeypatch.setattr(runtime, "device_properties", lambda device: runtime.DeviceProperties(1, 1, (8, 0)))
    monkeypatch.setattr("seqmamba.inference.fused_steps.cuda_obstacle", lambda *tensors: None)
    return launched


ORDER = ["forward"]  # of the emulated threads; not both: states are changed behind the emulator's back


def run_in(shape: Shape | None = None) -> Callable[[Program, Tensor, Tensor], None]:
    def run(program: Program, tokens: Tensor, logits: Tensor) -> None:
        LoadedProgram(program, len(tokens), tokens.device, shape).step(tokens, logits)

    return run


@torch.inference_mode()
def error_of_steps(
    model: LanguageModel, batch: int, steps: int, run: Callable[[Program, Tensor, Tensor], None]
) -> float:
    """Take steps both ways from a state that is not zero; the largest difference of logits and states."""
    device = model.embedding.weight.device
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (batch, 5 + steps), generator=generator).to(device)
    _, state = model(tokens[:, :5], return_state=True)
    own = map_state(lambda x: x.clone(memory_format=torch.contiguous_format), state)
    worst = 0.0
    for at in range(5, 5 + steps):
        expected, state = model(tokens[:, at : at + 1], state=state, return_state=True)
        logits = torch.full((batch, VOCABULARY), torch.nan, device=device)
        program, (_, own) = write_program(model, own)
        run(program, tokens[:, at].contiguous(), logits)
        for one, other in zip(tree_leaves((logits, own)), tree_leaves((expected[:, 0], state)), strict=True):
            if isinstance(one, Tensor):
                error = (one - other).abs().max() / (1 + other.abs().max())
                worst = max(worst, float(error.nan_to_num(torch.inf)))
            else:
                assert one == other
    return worst


@pytest.mark.parametrize(
    ("cluster", "rows", "order"),
    [(1, 1, "forward"), (1, 2, "backward"), (1, 4, "forward"), (4, 1, "forward"), (8, 1, "backward")],
)
@pytest.mark.parametrize("name", BACKBONES)
def test_a_program_takes_the_models_steps(
    name: str, cluster: int, rows: int, order: str, emulated_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name, head_bias=name == "hybrid", tie_embeddings=name != "mamba")
    assert program_obstacle(model) is None
    monkeypatch.setattr(f"{__name__}.ORDER", [order])
    error = error_of_steps(model, 3, 7, run_in(Shape(cluster, rows, warps=2)))
    assert emulated_gpu == [1] * 7
    assert error < 2e-6, error


def test_matrices_in_bfloat16(emulated_gpu: list[int]) -> None:
    model = model_of("hybrid", torch.bfloat16)
    assert program_obstacle(model) is None
    exact = model_of("hybrid", torch.bfloat16).float()
    batch, tokens = 2, torch.tensor([3, 7])
    with torch.inference_mode():
        state = model.init_state(batch)
        expected = exact(tokens[:, None], state=exact.init_state(batch), return_state=True)[0][:, 0]
        program, _ = write_program(model, state)
        logits = torch.full((batch, VOCABULARY), torch.nan)
        run_in(Shape(1, 2, warps=2))(program, tokens, logits)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mamba", "multiscale"])
@pytest.mark.parametrize(
    ("sampling", "stop"),
    [
        (SamplingConfig(seed=4), StopRule()),
        (SamplingConfig(seed=4, temperature=0.6), StopRule((5, 8), pad=2)),
        (SamplingConfig(temperature=0), StopRule()),
        (SamplingConfig(seed=4, top_k=6), StopRule()),
    ],
)
def test_a_decoder_draws_the_same_in_any_blocks(
    name: str,
    sampling: SamplingConfig,
    stop: StopRule,
    emulated_gpu: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(name)
    start = begin(model, torch.tensor([[1, 2, 3]]), batch_size=2)
    before = [leaf.clone() for leaf in tree_leaves(start) if isinstance(leaf, Tensor)]
    whole = Decoder(model, start, sampling, stop).advance(12)
    assert emulated_gpu == ([1] * 12 if sampling.cuts else [12])
    decoder = Decoder(model, start, sampling, stop)
    parts = [decoder.advance(n) for n in (1, 7, 4)]
    assert_joined(parts, whole)
    resumed = Decoder(model, parts[1].state, sampling, stop).advance(4)
    assert_joined([*parts[:2], resumed], whole)
    after = [leaf for leaf in tree_leaves(start) if isinstance(leaf, Tensor)]
    assert all(map(torch.equal, before, after))
    launched = len(emulated_gpu)
    monkeypatch.setattr(decoding_module, "fusion_obstacle", lambda model, batch: "none wanted")
    plain = Decoder(model, start, sampling, stop).advance(12)
    assert len(emulated_gpu) == launched
    assert torch.equal(plain.tokens, whole.tokens)
    assert torch.equal(plain.drawn, whole.drawn)
    for part in ("log_probs", "sampled_log_probs"):
        torch.testing.assert_close(getattr(plain, part), getattr(whole, part), rtol=1e-5, atol=1e-5)
    for one, other in zip(tree_leaves(plain.state), tree_leaves(whole.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def assert_joined(parts: list[TokenBlock], whole: TokenBlock) -> None:
    for name in ("tokens", "log_probs", "sampled_log_probs"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts], dim=1), getattr(whole, name))
    for one, other in zip(tree_leaves(parts[-1].state), tree_leaves(whole.state), strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_logits_that_are_not_finite_are_refused(emulated_gpu: list[int]) -> None:
    model = model_of("mamba", head_bias=True)
    with torch.no_grad():
        model.lm_head.bias[7] = torch.nan
    with pytest.raises(UserError, match="logits are not finite"):
        Decoder(model, begin(model, batch_size=2)).advance(3)
    assert emulated_gpu == [3]


def test_new_weights_reach_the_kernel(emulated_gpu: list[int]) -> None:
    model = model_of("multiscale")
    start = begin(model, torch.tensor([[1, 2, 3]]))
    decoder = Decoder(model, start)
    state = decoder.advance(5).state
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    changed, fresh = decoder.advance(6), Decoder(model, state).advance(6)
    assert torch.equal(changed.log_probs, fresh.log_probs)
    assert emulated_gpu == [5, 6, 6]


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        (BackboneConfig(64, 1, mixer="mamba2"), "it has the mixer Mamba2"),
        (BackboneConfig(8, 1, mixer="mamba", complex_state=True), "complex state"),
        (BackboneConfig(8, 1, mixer="s4", s4=S4Options(form="dplr")), "no diagonal"),
        (BackboneConfig(8, 1, direction="bidirectional"), "not causal"),
        (BackboneConfig(6, 1), "multiple of 4"),
        (BackboneConfig(1024, 8), "MiB"),
        (BackboneConfig(8, 1, mixer=("shared_attention",)), "SharedAttentionBlock"),
    ],
)
def test_models_whose_steps_are_no_program(backbone: BackboneConfig, said: str) -> None:
    with torch.device("meta"):
        model = LanguageModel(LanguageModelConfig(backbone, VOCABULARY))
    assert said in (program_obstacle(model) or "")


def test_only_whole_models_in_one_dtype() -> None:
    model = model_of("mamba")
    assert program_obstacle(model.backbone) == "it is no language model"
    model.lm_head = torch.nn.Linear(8, VOCABULARY, dtype=torch.bfloat16)
    assert "neither all float32 nor all bfloat16" in (program_obstacle(model) or "")
    assert "neither" in (program_obstacle(model_of("mamba", torch.float64)) or "")
    with pytest.raises(UserError, match="matrix_dtype: expected float32 or bfloat16"):
        Program(torch.float16)
    assert MOST_MATRIX_BYTES < 50 * 2**20  # the second-level cache of an H100


def test_many_sequences_are_left_to_operators_with_matrix_units() -> None:
    single, half = model_of("mamba"), model_of("mamba", torch.bfloat16)
    weights = sum(parameter.numel() for parameter in half.parameters())
    assert worthwhile(half, int(3e7) // weights)
    assert not worthwhile(half, int(3e7) // weights + 1)
    assert worthwhile(single, 1024)


@pytest.mark.parametrize(
    ("batch", "cluster", "rows"),
    [(1, 8, 1), (16, 8, 1), (17, 4, 1), (64, 2, 1), (128, 1, 1), (129, 1, 2), (1024, 1, 8), (5000, 1, 8)],
)
def test_how_a_batch_is_spread(batch: int, cluster: int, rows: int) -> None:
    shape = Shape.of(batch)
    assert (shape.cluster, shape.rows) == (cluster, rows)
    assert Shape.of(batch, clusters=False).cluster == 1


@pytest.mark.parametrize(
    ("cluster", "rows", "weights"), [(1, 1, 0), (8, 1, 0), (2, 1, 1), (1, 8, 0), (1, 8, 1)]
)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_it_compiles_without_spilling(architecture: str, cluster: int, rows: int, weights: int) -> None:
    if cluster > 1 and architecture == "sm_80":
        pytest.skip("no clusters")
    program = Program(torch.bfloat16 if weights else torch.float32)
    warps = Shape.of(1024 if rows == 8 else 1).warps
    constants = Shape(cluster, rows, warps).constants(program)
    resources = runtime.compile_source(SOURCE, constants, architecture).kernels["run_program"]
    assert resources.spill_bytes == 0
    assert resources.registers * 32 * warps <= 65536


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 3, 17, 100, 130, 300, 1030])
@pytest.mark.parametrize("name", BACKBONES)
def test_steps_on_a_gpu(name: str, batch: int) -> None:
    model = model_of(name).cuda()

    error = error_of_steps(model, batch, 7, run_in())
    assert error < 1e-5, error


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mamba", "multiscale-both"])
@pytest.mark.parametrize("sampling", [SamplingConfig(), SamplingConfig(top_k=9)])
def test_what_is_drawn_on_a_gpu(name: str, dtype: torch.dtype, sampling: SamplingConfig) -> None:
    model = model_of(name, dtype).cuda()
    start = begin(model, torch.tensor([[1, 2, 3]]), batch_size=5)
    whole, single = Decoder(model, start, sampling, graph=True), Decoder(model, start, sampling, graph=False)
    one = whole.advance(600)
    assert whole.graphed == sampling.cuts
    assert_joined([single.advance(n) for n in (1, 7, 592)], one)
    expected = model.float()(torch.cat([torch.tensor([[1, 2, 3]]).expand(5, -1).cuda(), one.tokens], dim=1))
    log_probs = expected[:, 2:-1].log_softmax(-1).gather(-1, one.tokens[..., None])[..., 0]
    torch.testing.assert_close(one.log_probs.float(), log_probs, rtol=0, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 40, 200, 1030])
def test_kernels_of_every_shape_draw_alike(batch: int) -> None:
    model = model_of("multiscale").cuda()
    start = begin(model, torch.tensor([[1, 2, 3]]), batch_size=batch)
    stop = StopRule((5,), pad=2)
    drawn = Decoder(model, start, stop=stop).advance(50)
    alone = Decoder(model, start.select(slice(0, 1)), stop=stop).advance(50)
    assert torch.equal(drawn.tokens[:1], alone.tokens)
    assert torch.equal(drawn.drawn[:1], alone.drawn)
