"""The waveform classifier: padding, forms, rates, files."""

from __future__ import annotations

import math

import pytest
import torch

import seqmamba
from audio.filterbank import FilterbankConfig
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.spectrograms import SpectrogramConfig
from audio.stems import StridedStemConfig
from seqmamba.backbones import BackboneConfig, MultiScaleConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import GridOptions
from seqmamba.nn.pooling import AttentionPool

CLASSES = ("dog", "rain", "sea")
SMALL_STEM = StridedStemConfig((16, 8), (4, 4), (8,))
SHORT, LONG = 1500, 1999


def backbone(**options):
    return BackboneConfig(
        **{"d_model": 8, "n_layers": 2, "d_state": 4, "direction": "bidirectional"} | options
    )


def patches(**options):
    return SpectrogramConfig(mels=32, patch=(8, 8), rows=8, **options)


FORMS = {
    "bidirectional": {},
    "causal": {"backbone": backbone(direction="causal"), "pooling": "mean"},
    "multi-scale": {"backbone": MultiScaleConfig(backbone(), pool=(2,)), "pooling": "max"},
    "attention pooling": {"pooling": "attention"},
    "filter bank": {
        "stem": FilterbankConfig(filters=8, window=64, hop=16, widths=(4, 4), pools=((1, 2), (2, 2)))
    },
    "cross-scan": {
        "stem": patches(),
        "backbone": backbone(mixer="cross_scan", grid=GridOptions(width=4)),
    },
    "Audio Mamba": {
        "stem": patches(class_token="middle"),
        "backbone": backbone(mixer="vision_mamba"),
        "pooling": "mean",
    },
    "multi-label": {"task": "multilabel"},
    "regression": {"task": "regression", "classes": ("pitch",)},
    "tagging": {"task": "tagging"},
    "stereo": {"channels": 2},
}


def make(**options):
    torch.manual_seed(0)
    settings = {"backbone": backbone(), "stem": SMALL_STEM, "classes": CLASSES, "rate": 8000} | options
    return WaveformClassifier(WaveformClassifierConfig(**settings)).eval()


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing_and_every_parameter_learns(form):
    model = make(**FORMS[form])
    generator = torch.Generator().manual_seed(0)
    long = model.example_input(1, LONG, generator)
    short = long[:, :SHORT]
    padded = torch.cat((short, torch.full((1, LONG - SHORT, model.config.channels), math.nan)), dim=1)
    logits = model(torch.cat((padded, long)), torch.tensor([SHORT, LONG]))
    for row, alone in enumerate((short, long)):
        expected = model(alone)[0]
        found = logits[row, : len(expected)] if model.config.task == "tagging" else logits[row]
        assert torch.allclose(found, expected, atol=1e-5)
    assert logits.dtype == torch.float32
    model.train()(torch.cat((short, short)), torch.tensor([SHORT, SHORT - 64])).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_model_comes_back(form, tmp_path):
    model = make(**FORMS[form])
    model.save_pretrained(tmp_path)
    again = seqmamba.from_pretrained(tmp_path)
    assert again.config == model.config
    x = model.example_input(2, SHORT, torch.Generator().manual_seed(1))
    assert torch.equal(again.predict(x), model.predict(x))


def test_predictions_have_the_meaning_of_the_task():
    x = make().example_input(3, SHORT, torch.Generator().manual_seed(0))
    assert torch.allclose(make().predict(x).sum(dim=1), torch.ones(3))
    assert make(task="multilabel").predict(x).shape == (3, 3)
    model = make(task="regression", classes=("pitch",))
    model.target_mean.fill_(200)
    model.target_scale.fill_(10)
    assert torch.allclose(model.predict(x), 10 * model(x) + 200)
    tags = make(task="tagging")
    assert tags.predict(x).shape == (3, math.ceil(SHORT / tags.frame), 3)
    assert tags.embed(x).shape == (3, 8)
    assert make().embed(x).shape == (3, 16)


def tones(count):
    t = torch.arange(count) / 16_000
    return (
        0.3
        * torch.stack([sum(torch.sin(math.tau * f * k * t) for k in (1, 2, 3)) for f in (150, 330)])[
            ..., None
        ]
    )


@pytest.mark.parametrize("stem", [SMALL_STEM, FORMS["filter bank"]["stem"]], ids=["strided", "filter bank"])
def test_at_half_the_rate_the_aware_model_says_what_it_says_at_its_own(stem):
    model, wave = make(rate=16_000, stem=stem), tones(8000)
    expected, slow = model(wave), wave[:, ::2]
    errors = {
        mode: (model(slow, rate=8000, mode=mode) - expected).abs().mean().item()
        for mode in ("frames", "ignore")
    }
    assert errors["frames"] < 0.1 * errors["ignore"]
    assert torch.equal(model(wave, rate=16_000), expected)


def test_longer_frames_are_met_by_larger_steps():
    stem = StridedStemConfig((16,), (2,), ())
    model, wave = make(rate=16_000, stem=stem, pooling="mean"), tones(8000)
    expected, slow = model(wave), wave[:, ::2]
    steps = (model(slow, rate=8000, mode="steps") - expected).abs().mean()
    assert steps < 0.2 * (model(slow, rate=8000, mode="ignore") - expected).abs().mean()
    assert model.hidden(slow, rate=8000, mode="steps").x.shape[1] == 2000


def test_weights_of_an_attention_pool_sum_to_one_over_true_positions():
    torch.manual_seed(0)
    pool = AttentionPool(8)
    same = torch.ones(1, 5, 8) * torch.randn(8)
    same[:, 3:] = math.nan
    assert torch.allclose(pool(same, torch.tensor([3])), same[:, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(classes=("one",)), "classes: classification needs at least 2"),
        (lambda: make(task="tags"), "task: expected one of classification"),
        (lambda: make(stem=patches(), task="tagging"), "tagging needs frames"),
        (
            lambda: make(stem=FilterbankConfig(), backbone=backbone(direction="causal")),
            "a causal model needs a StridedStemConfig or a CodeStemConfig, got a FilterbankConfig",
        ),
        (
            lambda: make(stem=patches(), backbone=backbone(mixer="cross_scan", grid=GridOptions(width=5))),
            r"backbone.grid.width: expected null or that of the stem, which has 4 columns of patches; got 5",
        ),
        (lambda: make(stem=patches(class_token="middle")), "pooling: expected mean with a class token"),
        (lambda: make()(torch.zeros(1, 100, 2)), r"waveform: expected floating \(batch, length >= 1, 1\)"),
        (lambda: make()(torch.zeros(1, 0, 1)), "waveform: expected floating"),
        (lambda: make()(torch.zeros(1, 100, 1), rate=-1), "rate: expected a positive number"),
        (lambda: make()(torch.zeros(1, 100, 1), mode="x"), "mode: expected one of frames, steps, ignore"),
        (
            lambda: make(stem=FORMS["filter bank"]["stem"])(torch.zeros(1, 900, 1), rate=4000, mode="steps"),
            "keep_frames: expected true with a filter bank",
        ),
    ],
)
def test_what_cannot_be_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
