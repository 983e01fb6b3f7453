import math

import pytest
import torch
from torch.nn import functional as F
from waveform_models import NETWORKS, small_model

import seqmamba
from audio.waveform_model import WaveformModel, WaveformModelConfig
from audio.wavenet import WaveNetConfig
from seqmamba.backbones import BackboneConfig, MultiScaleConfig
from seqmamba.backbones.token_program import program_obstacle
from seqmamba.errors import UserError
from seqmamba.inference import Stream, compare_modes

KINDS = pytest.mark.parametrize("kind", NETWORKS)


def codes_of(model, batch, length, seed=0):
    return model.example_input(batch, length, torch.Generator().manual_seed(seed))


@KINDS
@pytest.mark.parametrize("classes", [(), ("a", "b")])
def test_whole_chunks_and_steps_give_the_same_logits(kind, classes):
    model = small_model(kind, classes=classes)
    report = compare_modes(model, codes_of(model, 2, 37), cuts=[1, 2, 9, 30])
    assert report.worst < 1e-4 * report.scale


@KINDS
def test_a_sample_does_not_see_those_behind_it(kind):
    model = small_model(kind)
    x = codes_of(model, 1, 40)
    y = x.clone()
    y[:, 23:] = (y[:, 23:] + 7) % 256
    before, after = model(x), model(y)
    torch.testing.assert_close(before[:, :23], after[:, :23], rtol=1e-4, atol=1e-5)
    assert (before[:, 23:] - after[:, 23:]).abs().max() > 1e-4


@KINDS
def test_the_model_of_a_class_is_the_model_under_that_condition(kind):
    model = small_model(kind, classes=("a", "b"))
    x = codes_of(model, 1, 21)
    logits = {name: model.of_class(name)(x) for name in ("a", "b", None)}
    for number, name in enumerate(logits):
        torch.testing.assert_close(logits[name], model(x, condition=torch.tensor([number])))
    torch.testing.assert_close(logits[None], model(x))
    assert (logits["a"] - logits["b"]).abs().max() > 1e-3
    # only the table of embeddings is another
    assert model.of_class("a").backbone is model.backbone
    assert "a" not in dict(model.named_modules())


def test_the_u_shaped_network_of_a_class_is_one_that_steps_as_a_single_kernel():
    outer = BackboneConfig(8, 1, mixer="s4+mlp", norm="layer")
    network = MultiScaleConfig(outer, inner_mixers=("s4", "mamba"))
    model = WaveformModel(WaveformModelConfig(network, classes=("a",)))
    assert program_obstacle(model.of_class("a")) is None


@KINDS
def test_surprise_is_the_cross_entropy_in_bits_with_silence_in_front(kind):
    model = small_model(kind, scale=3.0)
    codes = codes_of(model, 2, 12)
    tokens = torch.cat((torch.full((2, 1), 128), codes[:, :-1]), dim=1)
    nats = F.cross_entropy(model(tokens).mT, codes, reduction="none")
    torch.testing.assert_close(model.surprise(codes), nats / math.log(2))


@KINDS
def test_surprise_in_parts_is_that_of_the_whole(kind):
    model = small_model(kind, classes=("a", "b"), scale=3.0)
    codes, condition = codes_of(model, 2, 30), torch.tensor([1, 2])
    whole = model.surprise(codes, condition=condition)
    parts, state, before = [], None, None
    for part in codes.split([1, 13, 16], dim=1):
        bits, state = model.surprise(part, before=before, condition=condition, state=state, return_state=True)
        parts.append(bits)
        before = part[:, -1]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("codec", ["mu_law", "linear"])
@pytest.mark.parametrize("bits", [8, 10])
def test_codes_of_samples_and_back(codec, bits):
    model = WaveformModel(WaveformModelConfig(NETWORKS["one width"], bits=bits, codec=codec))
    waveform = torch.tensor([[-1.0, -0.3, 0.0, 0.01, 1.0]])[..., None]
    codes = model.encode(waveform)
    assert codes[0, 2] == model.config.silence
    assert (model.encode(model.decode(codes)) == codes).all()
    assert (model.decode(codes) - waveform).abs().max() < 0.03


@KINDS
def test_it_is_saved_and_loaded_with_its_class_names(kind, tmp_path):
    model = small_model(kind, classes=("one", "two"), rate=8000)
    model.save_pretrained(tmp_path)
    loaded = seqmamba.from_pretrained(tmp_path)
    assert isinstance(loaded, WaveformModel)
    assert loaded.config == model.config
    x = codes_of(model, 1, 9)
    assert torch.equal(loaded(x), model(x))


def test_wavenet_has_the_published_size_and_receptive_field():
    model = WaveformModel(WaveformModelConfig(WaveNetConfig()))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 4.0e6 < n_parameters < 4.4e6
    assert WaveNetConfig().receptive_field == 4093


def test_wavenet_sees_exactly_its_receptive_field():
    sizes = WaveNetConfig(2, 3, channels=8, skip_channels=16, head_channels=12)
    assert sizes.receptive_field == 15
    model = small_model("wavenet", scale=5.0)
    x = codes_of(model, 1, 30)
    for distance, same in ((14, False), (15, True)):
        y = x.clone()
        y[0, 29 - distance] = (y[0, 29 - distance] + 100) % 256
        change = (model(x)[0, 29] - model(y)[0, 29]).abs().max()
        assert (change == 0) == same


def test_the_state_of_a_wavenet_does_not_keep_a_chunk_in_memory():
    model = small_model("wavenet")
    stream = Stream(model)
    stream.feed(codes_of(model, 1, 5000))
    assert all(tail.untyped_storage().nbytes() <= 4 * tail.numel() for tail in stream.state.tails)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 17}, "bits: expected a whole number from 1 to 16, got 17"),
        ({"rate": 0}, "rate: expected a whole number >= 1, got 0"),
        ({"codec": "a_law"}, "codec: expected one of mu_law, linear, got 'a_law'"),
        ({"classes": ("a", "a")}, "classes: expected distinct names"),
        ({"network": BackboneConfig(8, 1, direction="bidirectional")}, "expected causal, got bidirectional"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        WaveformModelConfig(**options)


def test_an_unknown_class_and_two_channels_are_refused():
    with pytest.raises(UserError, match="the model knows a, b; got 'c'"):
        small_model(classes=("a", "b")).of_class("c")
    with pytest.raises(UserError, match="none: it was trained without classes; got 'c'"):
        small_model().of_class("c")
    with pytest.raises(UserError, match="expected one channel, got 2"):
        small_model().encode(torch.zeros(1, 5, 2))
