import json
import math

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from waveform_data import RATE, SinesDataModule
from waveform_models import NETWORKS

import seqmamba
from audio.batches import WaveformBatch
from audio.waveform_model import WaveformModel, WaveformModelConfig
from audio.waveform_task import AutoregressiveTask, SegmentConfig, summarise_bits
from seqmamba.cli.main import main
from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.segments import BackpropConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Trying to infer the `batch_size`.*:UserWarning"),
]


def task_with_model(**options):
    task = AutoregressiveTask(WaveformModelConfig(NETWORKS["one width"], bits=4), **options)
    classes = ("high", "low") if task.class_conditional else ()
    torch.manual_seed(0)
    task.model = WaveformModel(WaveformModelConfig(NETWORKS["one width"], bits=4, rate=RATE, classes=classes))
    task.log = lambda *_, **__: None
    return task


def batch_of(rows=(0, 1, 2)):
    return SinesDataModule()._batch(list(rows))


def expected_bits(task, batch, condition=None):
    bits = task.model.surprise(task.model.encode(batch.waveform), condition=condition)
    return [row[:length] for row, length in zip(bits, batch.lengths, strict=True)]


@pytest.mark.parametrize("carried", [0, 9])
@pytest.mark.parametrize("length", [5, 64, 10_000])
def test_the_loss_in_parts_is_that_of_the_whole(length, carried):
    batch = batch_of()
    found = []
    for backprop in (BackpropConfig(), BackpropConfig(length)):
        task = task_with_model(segments=SegmentConfig(carried=carried), backprop=backprop)
        loss = task.training_step(batch, 0)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in task.model.parameters()]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-5, atol=1e-6)
    for one, other in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backprop": BackpropConfig(carry=True)}, "backprop.carry"),
        ({"backprop": BackpropConfig(8), "cuda_graphs": True}, "cuda_graphs"),
    ],
)
def test_what_parts_cannot_do_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        AutoregressiveTask(**options)


def test_the_loss_is_the_mean_over_true_samples():
    task, batch = task_with_model(), batch_of()
    torch.testing.assert_close(task.training_step(batch, 0), torch.cat(expected_bits(task, batch)).mean())
    loud = batch._replace(waveform=batch.waveform.clone())
    for row, length in enumerate(batch.lengths):
        loud.waveform[row, length:] = 0.9  # what stands in the padding does not matter
    torch.testing.assert_close(task.training_step(loud, 0), task.training_step(batch, 0))


def test_a_segment_in_the_middle_knows_the_sample_in_front_of_it():
    task = task_with_model(segments=SegmentConfig(samples=10))
    codes = torch.arange(48).remainder(16)[None].repeat(20, 1)
    waveform = task.model.decode(codes)
    batch = WaveformBatch(waveform, torch.full((20,), 48), torch.zeros(20).long(), torch.arange(20))
    torch.manual_seed(1)
    segments, lengths, before = task._segments(batch.waveform, batch.lengths)
    assert segments.shape == (20, 10)
    assert (lengths == 10).all()
    assert len(segments[:, 0].unique()) > 4
    front = segments[:, 0] - 1
    at_start = before == task.model.config.silence
    assert torch.equal(before[~at_start], front[~at_start].remainder(16))


def test_silence_behind_short_recordings_counts_if_they_are_filled_up():
    task, batch = task_with_model(segments=SegmentConfig(samples=50, fill=True)), batch_of(range(8))
    longer = batch.lengths > 50
    assert longer.any()
    assert not longer.all()
    codes, lengths, _ = task._segments(batch.waveform, batch.lengths)
    assert (lengths == 50).all()
    for row in (~longer).nonzero()[:, 0]:
        assert (codes[row, batch.lengths[row] :] == task.model.config.silence).all()
    scored = task._score(batch)
    assert torch.equal(scored.samples, batch.lengths.clamp_min(50))
    padded = batch._replace(lengths=batch.lengths.clamp_min(50))
    expected = [row.sum().double() for row in expected_bits(task, padded)]
    torch.testing.assert_close(scored.bits, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_segments_stay_inside_of_short_recordings():
    task = task_with_model(segments=SegmentConfig(samples=50))
    batch = batch_of(range(16))
    for seed in range(5):
        torch.manual_seed(seed)
        segments, lengths, _ = task._segments(batch.waveform, batch.lengths)
        assert segments.shape == (16, 50)
        assert torch.equal(lengths, batch.lengths.clamp_max(50))


def test_carried_samples_give_state_but_no_loss_and_no_gradient():
    task, batch = task_with_model(segments=SegmentConfig(carried=30)), batch_of()
    expected = torch.cat([row[30:] for row in expected_bits(task, batch)]).mean()
    loss = task.training_step(batch, 0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    table = task.model.network.embedding.weight.grad
    assert table.abs().sum() > 0
    fresh = task_with_model()
    fresh.training_step(batch, 0).backward()
    assert not torch.allclose(fresh.model.network.embedding.weight.grad, table)


def test_the_class_is_hidden_from_some_recordings():
    task, batch = task_with_model(class_conditional=True, unconditional_share=1.0), batch_of()
    none = torch.cat(expected_bits(task, batch)).mean()
    known = torch.cat(expected_bits(task, batch, batch.target)).mean()
    torch.testing.assert_close(task.training_step(batch, 0), none)
    task.unconditional_share = 0.0
    torch.testing.assert_close(task.training_step(batch, 0), known)
    assert not torch.allclose(none, known)


@pytest.mark.parametrize("chunk", [7, 64, 10_000])
def test_recordings_are_scored_whole_with_the_state_carried(monkeypatch, chunk):
    monkeypatch.setattr("audio.waveform_task._CHUNK", chunk)
    task, batch = task_with_model(class_conditional=True), batch_of()
    scored = task._score(batch)
    expected = [row.sum().double() for row in expected_bits(task, batch, batch.target)]
    torch.testing.assert_close(scored.bits, torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert torch.equal(scored.samples, batch.lengths)


def test_the_interval_is_that_of_recordings():
    rng = np.random.default_rng(0)
    samples = np.full(50, 1000)
    bits = samples * rng.normal(3.0, 0.5, 50)
    results = summarise_bits(bits, samples)
    low, high = results["interval_95"]
    assert low < results["bits_per_sample"] < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(50), rel=0.4)
    assert summarise_bits(bits[:1], samples[:1])["interval_95"][0] == pytest.approx(bits[0] / 1000)


def recipe(folder, network, **trainer):
    task = {
        "class_path": "audio.waveform_task.AutoregressiveTask",
        "init_args": {
            "model": {"bits": 4, "network": network},
            "class_conditional": True,
            "segments": {"samples": 32, "carried": 8},
            "optimiser": {"lr": 0.01},
        },
    }
    data = {"class_path": "waveform_data.SinesDataModule", "init_args": {"n": 8}}
    options = {"accelerator": "cpu", "max_epochs": 2, "enable_progress_bar": False, **trainer}
    content = {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": task,
        "data": data,
        "trainer": options,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(
    "network",
    [
        {"outer": {"d_model": 8, "n_layers": 1, "mixer": "s4"}, "pool": [2], "inner_mixers": ["mamba"]},
        {"d_model": 8, "n_layers": 1},
        {"n_cycles": 1, "layers_per_cycle": 3, "channels": 4, "skip_channels": 8, "head_channels": 8},
    ],
)
def test_a_recipe_trains_tests_and_leaves_a_model_that_knows_rate_and_classes(tmp_path, network, capsys):
    config = recipe(tmp_path, network)
    assert main(["fit", "--config", config]) == 0
    assert main(["test", "--config", config]) == 0
    assert "bits per sample (base 2)" in capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    assert 0 < results["bits_per_sample"] < 6
    assert results["recordings"] == 2
    rows = (tmp_path / "run" / "predictions.tsv").read_text().splitlines()
    assert rows[0] == "name\tsamples\tbits_per_sample"
    assert [row.split("\t")[0] for row in rows[1:]] == ["sine3", "sine7"]
    model = seqmamba.from_pretrained(tmp_path / "run" / "pretrained")
    assert (model.config.rate, model.config.classes) == (RATE, ("high", "low"))
    assert model.config.max_length == 32


def test_it_learns_what_a_sine_goes_on_with():
    torch.manual_seed(0)
    data = SinesDataModule(64, batch_size=16)
    task = AutoregressiveTask(
        WaveformModelConfig(NETWORKS["one width"], bits=4), OptimiserConfig(lr=0.02), class_conditional=True
    )
    trainer = L.Trainer(
        max_epochs=25, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, data)
    assert trainer.callback_metrics["val/loss"] < 2.2  # of 4


def test_what_cannot_be_is_refused():
    for options in ({"samples": 1}, {"carried": -1}, {"samples": 5, "carried": 5}, {"fill": True}):
        with pytest.raises(UserError, match="segments"):
            SegmentConfig(**options)
    with pytest.raises(UserError, match="unconditional_share: expected a number from 0 to 1, got 2"):
        AutoregressiveTask(unconditional_share=2)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(UserError, match="a generative model has one, got 2"):
        trainer.fit(AutoregressiveTask(), SinesDataModule(channels=2))
