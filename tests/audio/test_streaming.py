import pytest
import torch
from streaming_models import RATE, small_classifier, sound
from waveform_models import small_model

from audio.code_stem import CodeStemConfig
from audio.hops import StreamingConfig
from audio.spectrograms import SpectrogramConfig
from audio.streaming import CarriedScorer, build_scorer
from audio.windowed import WindowScorer
from seqmamba.backbones import LanguageModel, LanguageModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.state import describe_state

BLOCKS = pytest.mark.parametrize("size", [1, 7, 97, 1000, 100_000])
CAUSAL = pytest.mark.parametrize("kind", ["mamba", "u-shaped"])


def stream(scorer, waveform, size):
    made = [scorer.push(part) for part in waveform.split(size)]
    return torch.cat([*made, scorer.finish()])


def values(model, waveform, size=100_000, **options):
    return stream(build_scorer(model, StreamingConfig(**options)), waveform, size)


@BLOCKS
@CAUSAL
@pytest.mark.parametrize("task", ["classification", "multilabel", "tagging"])
def test_blocks_make_no_difference_to_a_causal_model(kind, task, size):
    model = small_classifier(kind, task=task)
    x = sound(1503 if size > 1 else 403)
    whole = values(model, x)
    assert torch.allclose(values(model, x, size), whole, atol=1e-5)
    assert whole.std(dim=0).max() > 0.01  # or nothing could be seen in it


@CAUSAL
def test_a_causal_tagger_says_what_it_says_of_the_whole(kind):
    model = small_classifier(kind, task="tagging")
    x = sound(1003)
    torch.testing.assert_close(values(model, x, 50), model.predict(x[None])[0], atol=1e-5, rtol=1e-4)
    by_hops = values(model, x, 50, hop=0.04)  # five frames
    frames = model.predict(x[None])[0]
    expected = torch.stack([part.mean(dim=0) for part in frames.split(5)])
    torch.testing.assert_close(by_hops, expected, atol=1e-5, rtol=1e-4)


@CAUSAL
def test_a_model_of_codes_carries_its_state_too(kind):
    model = small_classifier(kind, task="tagging", stem=CodeStemConfig(6))
    x = sound(203)
    assert len(values(model, x, 50)) == 203  # a frame is a sample
    torch.testing.assert_close(values(model, x, 7), model.predict(x[None])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max", "attention"])
def test_a_causal_classifier_pools_the_frames_around_a_hop(pooling):
    model = small_classifier(pooling=pooling)
    x = sound(1200)
    made = values(model, x, 170, window=0.2, hop=0.04)
    hidden = model.hidden(x[None]).x
    for hop in (0, 1, 7, 14, 29):
        around = hidden[:, max(0, hop * 5 - 10) : hop * 5 + 15]
        expected = model.to_predictions(model.head(model.head.pool(around)))[0]
        torch.testing.assert_close(made[hop], expected, atol=1e-5, rtol=1e-4)
    assert len(made) == 30


@BLOCKS
@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_blocks_make_no_difference_to_windows(task, size):
    model = small_classifier("u-shaped", direction="bidirectional", task=task)
    x = sound(903 if size > 1 else 303)
    options = {"context": 0.1} if task == "tagging" else {"window": 0.1}
    assert torch.allclose(values(model, x, size, **options), values(model, x, **options), atol=1e-5)


def test_a_window_is_read_as_a_recording_of_its_own():
    model = small_classifier(direction="bidirectional")
    x = sound(1200)
    made = values(model, x, 100, window=0.2, hop=0.04)
    for hop in (0, 3, 12, 29):
        window = x[max(0, hop * 40 - 80) : hop * 40 + 120]
        torch.testing.assert_close(made[hop], model.predict(window[None])[0], atol=1e-5, rtol=1e-4)


def test_more_context_brings_a_bidirectional_tagger_to_what_it_says_of_the_whole():
    model = small_classifier(direction="bidirectional", task="tagging")
    x = sound(2000)
    whole = model.predict(x[None])[0]
    far = [(values(model, x, context=context) - whole).abs().max().item() for context in (0.0, 0.08, 0.4)]
    assert far[0] > far[1] > far[2]
    assert far[2] < 1e-3
    torch.testing.assert_close(values(model, x, context=5.0), whole, atol=1e-5, rtol=1e-4)


def test_patches_of_a_spectrogram_are_read_in_windows():
    stem = SpectrogramConfig(mels=16, window_seconds=0.064, patch=(4, 16))
    model = small_classifier(direction="bidirectional", stem=stem)
    x = sound(1500)
    whole = values(model, x, window=0.4, hop=0.2)
    assert whole.shape[1] == 3
    assert torch.allclose(values(model, x, 33, window=0.4, hop=0.2), whole, atol=1e-5)


@BLOCKS
def test_bits_of_a_generative_model_are_means_over_hops(size):
    model = small_model(scale=3.0)
    x = sound(530 if size > 1 else 130)
    made = values(model, x, size, hop=0.05)
    bits = model.surprise(model.encode(x[None]))[0]
    expected = torch.stack([part.mean() for part in bits.split(50)])[:, None]
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (small_classifier(), {}),
        (small_classifier(task="tagging"), {}),
        (small_classifier(direction="bidirectional"), {}),
        (small_classifier(direction="bidirectional", task="tagging"), {"context": 0.1}),
        (small_model(), {}),
    ],
)
def test_what_is_held_does_not_grow(model, options):
    scorer = build_scorer(model, StreamingConfig(**options))

    most = 2 * (scorer.latency + scorer.hop) * max(1, scorer.channels)
    states = []
    for _ in range(8):
        scorer.push(sound(4001))
        for name, x in vars(scorer).items():
            if isinstance(x, torch.Tensor):
                floats = x.untyped_storage().nbytes() // 4
                assert floats <= most, name
        assert sum(x.numel() for x in getattr(scorer, "_stem_state", ())) <= 50  # kernels and frames
        state = describe_state([getattr(scorer, "_state", None)])
        states.append({name: part for name, part in state.items() if isinstance(part, tuple)})
    assert all(state == states[0] for state in states)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("task", ["classification", "tagging"])
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_the_shortest_recordings(length, task, direction):
    model = small_classifier(direction=direction, task=task)
    made = values(model, sound(length))
    assert made.shape == (-(-length // 8) if task == "tagging" else min(1, length), 3)
    assert made.isfinite().all()


def test_defaults_are_a_quarter_of_the_training_length_and_a_frame():
    scorer = build_scorer(small_classifier(), StreamingConfig())
    assert isinstance(scorer, CarriedScorer)
    assert scorer.hop == 96  # 12 of the 50 frames
    assert scorer.latency == 19 * 8
    assert "a value every 0.096 s about the 0.4 s around it, state carried" in scorer.description
    tagger = build_scorer(small_classifier(task="tagging"), StreamingConfig())
    assert (tagger.hop, tagger.latency) == (8, 0)
    fresh = build_scorer(small_classifier(), StreamingConfig(state="fresh"))
    assert isinstance(fresh, WindowScorer)
    assert fresh.rate == RATE


def test_what_cannot_be_read_so_is_refused():
    cases = [
        (small_classifier(direction="bidirectional"), {"state": "carried"}, "expected fresh"),
        (small_classifier(task="tagging"), {"window": 1.0}, "window: a tagger gives a value for every frame"),
        (small_classifier(), {"window": 0.1, "hop": 0.2}, "hop: expected at most the window of 0.1 s"),
        (small_model(), {"window": 0.1}, "a generative model carries its state"),
        (
            LanguageModel(LanguageModelConfig(small_classifier().config.backbone, 4)),
            {},
            "got a LanguageModel",
        ),
    ]
    for model, options, message in cases:
        with pytest.raises(UserError, match=message):
            build_scorer(model, StreamingConfig(**options))
    for options in ({"hop": 0}, {"window": -1}, {"context": -1}, {"state": "new"}):
        with pytest.raises(UserError, match=next(iter(options))):
            StreamingConfig(**options)


def test_a_state_that_would_grow_for_hours_is_refused():
    scorer = build_scorer(small_classifier("attention"), StreamingConfig())
    with pytest.raises(UserError, match="grows with the recording"):
        scorer.push(sound(100))
    assert values(small_classifier("attention"), sound(1000), state="fresh").isfinite().all()
