import math

import pytest
import torch
from waveform_models import NETWORKS, small_model

from audio.generation import (
    GenerationConfig,
    Generator,
    Speed,
    candidates_for,
    keep_likely,
)
from audio.noise_guard import GuardConfig
from seqmamba.errors import UserError
from seqmamba.inference import SamplingConfig

MODEL = small_model(classes=("a", "b"), scale=4.0)


def config(seconds=0.06, block=0.02, seed=0, **options):
    options = {"guard": None, **options}
    return GenerationConfig(seconds, block_seconds=block, sampling=SamplingConfig(seed=seed), **options)


def run(model=MODEL, settings=None, **options):
    generator = Generator(model, settings or config(), **options)
    blocks = list(generator.blocks())
    return torch.cat([block.waveform for block in blocks], 1), torch.cat([block.bits for block in blocks], 1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_of_network_generates_what_it_scores(kind):
    model = small_model(kind, classes=("a", "b"), scale=4.0)
    waveform, bits = run(model, label="b", rows=2)
    assert waveform.shape == (2, 60)
    expected = model.surprise(model.encode(waveform[..., None]), condition=torch.tensor([1, 1]))
    torch.testing.assert_close(bits, expected, rtol=1e-3, atol=1e-3)


def test_the_sound_depends_on_seed_class_and_number_alone():
    waveform, _ = run(rows=5)
    assert torch.equal(run(settings=config(block=0.007), rows=5)[0], waveform)
    assert torch.equal(run(rows=2, first_row=3)[0], waveform[3:])
    longer, _ = run(settings=config(seconds=0.1), rows=5)
    assert torch.equal(longer[:, :60], waveform)
    for other in (run(settings=config(seed=1), rows=5), run(rows=5, label="a")):
        assert not torch.equal(other[0], waveform)
    assert len(waveform.unique(dim=0)) == 5


def test_a_prefix_is_what_the_sound_goes_on_from():
    whole, _ = run()
    prefix = MODEL.encode(whole[:, :20, None])[0]
    _, bits = run(prefix=prefix, settings=config(seconds=0.03))
    continued, _ = run(prefix=prefix, settings=config(seconds=0.03))
    joined = torch.cat((whole[:, :20], continued), dim=1)
    expected = MODEL.surprise(MODEL.encode(joined[..., None]))[:, 20:]
    torch.testing.assert_close(bits, expected, rtol=1e-3, atol=1e-3)


def test_temperature_zero_takes_the_likeliest_and_the_bits_are_the_models_own():
    greedy = GenerationConfig(0.03, sampling=SamplingConfig(temperature=0.0), guard=None)
    waveform, bits = run(settings=greedy, rows=2)
    assert torch.equal(waveform[0], waveform[1])
    torch.testing.assert_close(bits, MODEL.surprise(MODEL.encode(waveform[..., None])), rtol=1e-3, atol=1e-3)


def test_noise_that_cannot_be_avoided_is_named():
    model = small_model()  # its weights are random: every code is as likely
    guard = GuardConfig(min_rms=0.0, min_flatness=0.0, min_bits=0.5, max_restarts=2)
    generator = Generator(model, config(guard=guard), rows=2)
    assert sum(block.waveform.shape[1] for block in generator.blocks()) == 60
    assert generator.noisy.tolist() == [True, True]
    assert generator.restarts == 4


def test_the_least_and_the_very_most_likely_are_left_out():
    bits = [5.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 0.0]
    assert keep_likely(bits, drop_unlikely=0.4, drop_likely=0.1) == [0, 1, 3, 5, 7]
    assert keep_likely(bits, drop_unlikely=0, drop_likely=0) == list(range(10))
    assert keep_likely([1.0]) == [0]
    assert keep_likely([]) == []


@pytest.mark.parametrize("count", [1, 2, 10, 33])
def test_there_are_enough_candidates(count):
    total = candidates_for(count)
    assert count <= len(keep_likely([float(i) for i in range(total)])) <= count + 2
    assert total == math.ceil(count / 0.55)


def test_speed_leaves_out_the_first_block(monkeypatch):
    times = iter([0.0, 10.0, 11.0, 12.0])
    monkeypatch.setattr("audio.generation.time.perf_counter", lambda: next(times))
    speed = Speed(rate=1000)
    for _ in range(3):
        speed.count(500)
    assert (speed.start_up, speed.samples, speed.seconds) == (10.0, 1500, 12.0)
    assert speed.samples_per_second == 500.0
    assert speed.real_time_factor == 2.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GenerationConfig(0), "seconds: expected a number > 0, got 0"),
        (lambda: GenerationConfig(1, batch_size=0), "batch_size: expected a whole number >= 1"),
        (lambda: GenerationConfig(math.inf), "seconds: expected a number > 0"),
        (lambda: Generator(MODEL, GenerationConfig(1e-5)), "seconds: expected at least a sample"),
        (lambda: Generator(MODEL, config(), label="c"), "the model knows a, b; got 'c'"),
        (lambda: Generator(MODEL, config(), rows=0), "rows: expected a whole number >= 1"),
        (lambda: Generator(MODEL, config(), first_row=2**24), "at most 16,777,216 recordings"),
        (lambda: keep_likely([1.0], drop_unlikely=0.6, drop_likely=0.5), "expected a sum below 1"),
        (lambda: keep_likely([1.0], drop_unlikely=1.5), "drop_unlikely: expected a number in"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
