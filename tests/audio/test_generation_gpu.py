"""Generation and reading on a GPU: the same sound as on a CPU, and as without graphs."""

import pytest
import torch
from streaming_models import small_classifier, sound
from waveform_models import NETWORKS, small_model

from audio.class_rows import ClassRows
from audio.generation import GenerationConfig, Generator
from audio.hops import StreamingConfig
from audio.noise_guard import GuardConfig
from audio.streaming import build_scorer
from audio.waveform_model import WaveformModelConfig
from audio.waveform_task import AutoregressiveTask, SegmentConfig
from seqmamba.inference import SamplingConfig, compare_modes

pytestmark = pytest.mark.gpu


def generated(model, label, guard):
    config = GenerationConfig(0.2, sampling=SamplingConfig(seed=5), guard=guard, block_seconds=0.05)
    blocks = list(Generator(model, config, label=label, rows=3).blocks())
    return torch.cat([block.waveform for block in blocks], 1), torch.cat([block.bits for block in blocks], 1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_gpu_scores_what_it_generates_and_repeats_it(kind):
    model = small_model(kind, classes=("a", "b"), scale=4.0).cuda()
    waveform, bits = generated(model, "b", None)
    assert torch.equal(generated(model, "b", None)[0], waveform)
    assert torch.equal(generated(model, "b", GuardConfig())[0], waveform)
    codes = model.encode(waveform[..., None]).cuda()
    expected = model.surprise(codes, condition=torch.ones(3, dtype=torch.int64, device="cuda"))
    torch.testing.assert_close(bits, expected.detach().cpu(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("guard", [None, GuardConfig()])
@pytest.mark.parametrize("kind", NETWORKS)
def test_classes_side_by_side_are_made_of_their_own_class_on_a_gpu(kind, guard):
    model = small_model(kind, classes=("a", "b"), scale=4.0).cuda()
    config = GenerationConfig(0.2, sampling=SamplingConfig(seed=5), guard=guard, block_seconds=0.05)
    generator = Generator(model, config, label="a", rows=2, beside=[ClassRows("b", 1)])
    blocks = list(generator.blocks())
    waveform, bits = (torch.cat(parts, 1) for parts in zip(*blocks, strict=True))
    codes = model.encode(waveform[..., None]).cuda()
    expected = model.surprise(codes, condition=torch.tensor([0, 0, 1], device="cuda"))
    torch.testing.assert_close(bits, expected.detach().cpu(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", NETWORKS)
def test_whole_chunks_and_steps_agree_on_a_gpu(kind):
    model = small_model(kind, scale=3.0).cuda()
    x = model.example_input(2, 37, torch.Generator().manual_seed(0)).cuda()
    report = compare_modes(model, x, cuts=[1, 9, 30])
    assert report.worst < 1e-3 * report.scale


@pytest.mark.parametrize("task", ["classification", "tagging"])
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_a_gpu_hears_what_a_cpu_hears(task, direction):
    model, x = small_classifier("u-shaped", direction=direction, task=task), sound(1500)
    made = []
    for device in ("cpu", "cuda"):
        scorer = build_scorer(model.to(device), StreamingConfig(context=0.2))
        made.append(torch.cat([*(scorer.push(part) for part in x.split(333)), scorer.finish()]))
    torch.testing.assert_close(made[0], made[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_steps_as_graphs_have_the_same_loss_and_gradients(kind):
    codes = torch.randint(256, (4, 64), generator=torch.Generator().manual_seed(0)).cuda()
    before, condition = torch.full((4,), 128, device="cuda"), torch.tensor([0, 1, 2, 0], device="cuda")
    results = []
    for graphs in (False, True):
        task = AutoregressiveTask(
            WaveformModelConfig(NETWORKS[kind]), segments=SegmentConfig(64), cuda_graphs=graphs
        )
        task.model = small_model(kind, classes=("a", "b")).cuda().train()
        for _ in range(3):
            task.model.zero_grad()
            loss = task._bits(codes, before, condition).mean()
            loss.backward()
        results.append((loss.detach().clone(), task.model.network.embedding.weight.grad.clone()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-2, atol=1e-4)
