"""The drawing kernel against PyTorch in float64; `inference/test_sampling.py` tests that against NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from triton_cases import (
    DEVICE,
    INTERPRETED,
    TRITON,
    implement_on_the_cpu,
    lift_obstacles,
    on_a_gpu_only,
)

from seqmamba.errors import UserError
from seqmamba.ops import draw, explain
from seqmamba.ops.draw import Draws, api

TEMPERATURES = [0.0, 1.0, 0.7, 3.0]
ALMOST_ONE = 1 - 2**-53
each_temperature = pytest.mark.parametrize("temperature", TEMPERATURES)
each_impl = pytest.mark.parametrize("impl", ["reference", TRITON])
# numpy's, in the interpreter: what the GPU computes in silence
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


@pytest.fixture(scope="module", autouse=True)
def _kernels_of_a_gpu() -> Iterator[None]:
    """Interpreted, the kernel serves CPU tensors, in small blocks."""
    if not INTERPRETED:
        yield
        return
    from seqmamba.ops.draw import triton_gpu

    library = implement_on_the_cpu(draw=triton_gpu.launch)
    with pytest.MonkeyPatch.context() as patch:
        lift_obstacles(patch, api)
        patch.setattr(triton_gpu, "LARGEST_BLOCK", 16)
        yield
    del library


def logits_of(rows: int, vocabulary: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def numbers_of(rows: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(logits: Tensor, numbers: Tensor, temperature: float, impl: str = "triton") -> Draws:
    """Draw where the implementation runs; the result comes to the CPU."""
    device = DEVICE if impl == "triton" else "cpu"
    draws = draw(logits.to(device), numbers.to(device), temperature, impl=impl)
    assert [x.dtype for x in draws] == [torch.int64, torch.float32, torch.float32]
    return Draws(*(x.cpu() for x in draws))


def assert_same(actual: Draws, expected: Draws) -> None:
    assert actual.tokens.tolist() == expected.tokens.tolist()
    for x, wanted in zip(actual[1:], expected[1:], strict=True):
        torch.testing.assert_close(x, wanted, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.gpu
@each_temperature
@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [
        (1, torch.float32),
        (2, torch.bfloat16),
        (5, torch.float32),
        (16, torch.float16),
        (17, torch.bfloat16),
        (100, torch.float32),
        (101, torch.float64),
        (257, torch.bfloat16),
    ],
)
def test_matches_the_reference(temperature: float, vocabulary: int, dtype: torch.dtype) -> None:
    logits, numbers = logits_of(6, vocabulary).to(dtype), numbers_of(6)
    assert_same(run(logits, numbers, temperature), run(logits, numbers, temperature, "reference"))


def hostile_rows(vocabulary: int) -> Tensor:
    """All equal, one dominating, forbidden tokens, huge ones, ties, and differences that underflow."""
    rows = torch.zeros(9, vocabulary)
    rows[1, vocabulary // 2] = 1e4
    rows[2] = logits_of(1, vocabulary)[0]
    rows[2, ::2] = -math.inf
    rows[3] = -math.inf
    rows[3, -1] = -3.0
    rows[4] = torch.finfo(torch.float32).max
    rows[5] = torch.finfo(torch.float32).min
    rows[5, 1] = torch.finfo(torch.float32).max
    rows[6] = torch.arange(vocabulary) % 3
    rows[7] = torch.linspace(-1000, 1000, vocabulary)
    rows[8, vocabulary - 3 :] = -800.0
    return rows


@each_impl
@each_temperature
@pytest.mark.parametrize(
    ("number", "vocabulary"), [(0.0, 40), (1e-300, 3), (0.5, 40), (ALMOST_ONE, 3), (ALMOST_ONE, 40)]
)
def test_hostile_logits(impl: str, temperature: float, number: float, vocabulary: int) -> None:
    rows = hostile_rows(vocabulary)
    numbers = torch.full((len(rows),), number, dtype=torch.float64)
    draws = run(rows, numbers, temperature, impl)
    assert_same(draws, run(rows, numbers, temperature, "reference"))
    exact = rows.double().log_softmax(dim=-1).gather(-1, draws.tokens[:, None])[:, 0]
    torch.testing.assert_close(draws.log_probs, exact.float(), rtol=1e-6, atol=1e-7)
    scaled = (rows.double() / temperature if temperature else rows.double()).softmax(dim=-1)
    assert (scaled.gather(-1, draws.tokens[:, None]) > 0).all()
    assert draws.sampled_log_probs.isfinite().all()


@each_impl
@each_temperature
@pytest.mark.parametrize("place", [0, 18, 39])
@pytest.mark.parametrize("values", [(math.nan,), (math.inf,), (math.nan, math.inf), (-math.inf,)])
def test_what_is_no_number_shows(
    impl: str, temperature: float, place: int, values: tuple[float, ...]
) -> None:
    rows = torch.full((1, 40), -math.inf) if values == (-math.inf,) else logits_of(1, 40)
    for step, value in enumerate(values):
        rows[0, (place + 5 * step) % 40] = value
    draws = run(rows, torch.tensor([0.9]), temperature, impl)
    assert_same(draws, run(rows, torch.tensor([0.9]), temperature, "reference"))
    assert 0 <= int(draws.tokens) < 40
    assert draws.log_probs.isnan().all()


@each_impl
def test_the_likeliest_is_that_of_argmax(impl: str) -> None:
    """The first of equals, in one block and over several, in every lane."""
    rows = torch.randint(-1, 2, (40, 50), generator=torch.Generator().manual_seed(0)).float()
    rows[:20] = rows[:20].clamp(max=0)
    rows[20:25] = rows[:5] - 1e30
    draws = run(rows, torch.zeros(40), 0.0, impl)
    assert torch.equal(draws.tokens, rows.argmax(dim=-1))
    assert draws.tokens.tolist() == [int(np.argmax(row)) for row in rows.numpy()]
    assert draws.sampled_log_probs.tolist() == [0.0] * 40


@each_impl
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_numbers_on_the_border_of_tokens(impl: str, temperature: float) -> None:
    """A number where the next token begins, and its neighbours: one of the two, never one of no weight."""
    row = logits_of(1, 60)[0]
    row[torch.arange(60) % 4 != 1] = -math.inf
    weights = torch.exp((row.double() - row.double().max()) / temperature)
    borders = weights.cumsum(0)[weights > 0][:-1] / weights.sum()
    numbers = torch.cat([borders, borders.nextafter(torch.ones(())), borders.nextafter(torch.zeros(()))])
    tokens = run(row.expand(len(numbers), -1), numbers, temperature, impl).tokens
    lower = (4 * torch.arange(len(borders)) + 1).repeat(3)
    assert ((tokens == lower) | (tokens == lower + 4)).all()


@each_impl
@each_temperature
def test_strided_logits_numbers_and_results(impl: str, temperature: float) -> None:
    """A slice of padded rows, a transposed matrix, one row for all; columns of (batch, steps)."""
    logits, numbers = logits_of(4, 21), numbers_of(4)
    expected = run(logits, numbers, temperature, "reference")
    device = DEVICE if impl == "triton" else "cpu"
    padded = torch.full((4, 3, 32), math.nan, device=device)
    padded[:, -1, :21] = logits.to(device)
    columns = numbers.to(device)[:, None].expand(4, 5).contiguous()
    for view in (padded[:, -1, :21], logits.to(device).T.contiguous().T):
        whole = Draws.empty(4, 5, device=columns.device)
        out = Draws(*(x[:, 2] for x in whole))
        assert draw(view, columns[:, 1], temperature, out=out, impl=impl) is out
        assert_same(Draws(*(x[:, 2].cpu() for x in whole)), expected)
        assert whole.log_probs[:, [0, 1, 3, 4]].isnan().all()  # as torch.empty left them in these tests
    one = draw(logits[:1].to(device).expand(4, -1), numbers.to(device), temperature, impl=impl)
    assert_same(
        Draws(*(x.cpu() for x in one)), run(logits[:1].repeat(4, 1), numbers, temperature, "reference")
    )


@each_impl
@each_temperature
@pytest.mark.parametrize("vocabulary", [7, 50])
def test_a_row_does_not_depend_on_its_batch(impl: str, temperature: float, vocabulary: int) -> None:
    logits, numbers = logits_of(7, vocabulary), numbers_of(7)
    together = run(logits, numbers, temperature, impl)
    for part in (slice(1, 2), slice(3, 6), slice(0, 7)):
        alone = run(logits[part], numbers[part], temperature, impl)
        assert all(torch.equal(x, whole[part]) for x, whole in zip(alone, together, strict=True))


@each_impl
@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_samples_pass_a_chi_square_test(impl: str, temperature: float) -> None:
    row = torch.tensor([0.0, 1.0, -0.5, 0.3, -math.inf, 1.5])
    n = 120 if INTERPRETED else 100_000
    tokens = run(row.expand(n, -1), numbers_of(n, seed=5), temperature, impl).tokens
    counts, expected = torch.bincount(tokens, minlength=6), n * (row / temperature).softmax(0)
    assert counts[4] == 0
    possible = expected > 0
    statistic = float(((counts - expected)[possible] ** 2 / expected[possible]).sum())
    assert statistic < 18.5  # 4 degrees of freedom, p = 0.001


@pytest.mark.gpu
@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 1e300])
def test_temperatures_that_single_precision_has_not(temperature: float) -> None:
    logits, numbers = logits_of(5, 30), numbers_of(5)
    draws = run(logits, numbers, temperature)
    assert_same(draws, run(logits, numbers, temperature, "reference"))
    assert temperature > 1 or torch.equal(draws.tokens, logits.argmax(dim=-1))


@pytest.mark.gpu
@each_temperature
def test_the_registered_operator_passes_opcheck(temperature: float) -> None:
    logits, numbers = logits_of(3, 20).to(DEVICE), numbers_of(3).to(DEVICE)
    out = Draws(*(torch.zeros_like(x) for x in Draws.empty(3, device=logits.device)))
    torch.library.opcheck(torch.ops.seqmamba.draw, (logits, numbers, temperature, *out))


@each_impl
@each_temperature
def test_it_compiles(impl: str, temperature: float) -> None:
    device = DEVICE if impl == "triton" else "cpu"
    logits, numbers = logits_of(3, 20).to(device), numbers_of(3).to(device)

    def draw_twice(x: Tensor) -> tuple[Tensor, ...]:
        out = Draws.empty(2, 3, device=x.device)
        for step, numbers_ in enumerate((numbers, numbers / 2)):
            draw(x + step, numbers_, temperature, out=Draws(*(y[step] for y in out)), impl=impl)
        return tuple(out)

    compiled = torch.compile(draw_twice, fullgraph=True, backend="aot_eager")
    for x, wanted in zip(compiled(logits), draw_twice(logits), strict=True):
        torch.testing.assert_close(x, wanted)


@each_impl
def test_no_gradient_flows(impl: str) -> None:
    logits = logits_of(2, 5).to(DEVICE if impl == "triton" else "cpu").requires_grad_()
    draws = draw(logits, numbers_of(2).to(logits.device), impl=impl)
    assert not draws.log_probs.requires_grad
    assert not draws.sampled_log_probs.requires_grad


@pytest.mark.gpu
@on_a_gpu_only
@each_temperature
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [256, 2048, 2049, 50_280, 200_000])
def test_large_vocabularies_match_and_repeat(temperature: float, dtype: torch.dtype, vocabulary: int) -> None:
    logits, numbers = logits_of(33, vocabulary).to(dtype), numbers_of(33)
    draws = run(logits, numbers, temperature)
    assert_same(draws, run(logits, numbers, temperature, "reference"))
    row = run(logits[7:8], numbers[7:8], temperature)  # not aligned, where the vocabulary is odd
    assert all(torch.equal(x, whole[7:8]) for x, whole in zip(row, draws, strict=True))
    inside = draw(logits.cuda()[7:], numbers.cuda()[7:], temperature, impl="triton")
    assert all(torch.equal(x.cpu(), whole[7:]) for x, whole in zip(inside, draws, strict=True))


@pytest.mark.gpu
@on_a_gpu_only
@each_temperature
def test_a_graph_holds_it(temperature: float) -> None:
    logits, numbers = logits_of(5, 300).cuda(), numbers_of(5).cuda()
    expected = draw(logits, numbers, temperature)
    buffers, graph = (torch.zeros_like(logits), numbers.clone()), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        draws = draw(*buffers, temperature)
    buffers[0].copy_(logits)
    graph.replay()
    assert all(torch.equal(x, wanted) for x, wanted in zip(draws, expected, strict=True))


def test_a_cpu_takes_the_reference() -> None:
    explanation = explain("draw", logits=torch.zeros(2, 6, dtype=torch.float64))
    assert (explanation.chosen, list(explanation.verdicts)) == ("reference", ["triton", "reference"])
    assert explanation.verdicts["triton"].endswith("it runs on an NVIDIA GPU and the tensors are on cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(6)}, r"logits must be \(batch, vocabulary\), got shape \(6,\)"),
        ({"logits": torch.zeros(2, 0)}, "logits must have a vocabulary of at least 1"),
        ({"logits": torch.zeros(2, 6, dtype=torch.int64)}, "logits must be floating point"),
        ({"uniforms": torch.zeros(3)}, r"uniforms must have shape \(batch=2\), got \(3,\)"),
        ({"temperature": -0.5}, "temperature must be a finite number of at least 0, got -0.5"),
        ({"temperature": math.nan}, "temperature must be a finite number of at least 0, got nan"),
        ({"temperature": math.inf}, "temperature must be a finite number of at least 0, got inf"),
        (
            {"out": Draws.empty(3, device=torch.device("cpu"))},
            r"out.tokens must have shape \(batch=2\), got \(3,\)",
        ),
        (
            {"out": Draws(torch.zeros(2), torch.zeros(2), torch.zeros(2))},
            "out.tokens must be torch.int64 on cpu, got torch.float32 on cpu",
        ),
        ({"impl": "triton"}, "impl='triton' cannot run here: it runs on an NVIDIA GPU"),
        ({"impl": "fast"}, "impl must be one of auto, triton, reference, got 'fast'"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw(**({"logits": torch.zeros(2, 6), "uniforms": torch.zeros(2)} | change))
