"""What masked pretraining hides, and that nothing of it shows through."""

from __future__ import annotations

import pytest
import torch

from audio.filterbank import FilterbankConfig
from audio.masked_model import MaskedWaveformModel, MaskedWaveformModelConfig
from audio.masking import MaskingConfig, draw_spans, hide_samples
from audio.spectrograms import SpectrogramConfig
from audio.stems import StridedStemConfig
from seqmamba.backbones import BackboneConfig
from seqmamba.errors import UserError

BACKBONE = BackboneConfig(d_model=8, n_layers=1, d_state=2, direction="bidirectional", scan_impl="chunked")
STEMS = {
    "strided": StridedStemConfig((16, 4), (4, 2), (8,)),
    "filterbank": FilterbankConfig(6, 32, 4, 2, widths=(4,), pools=((1, 2),)),
}


def model_of(stem: str) -> MaskedWaveformModel:
    torch.manual_seed(0)
    return MaskedWaveformModel(MaskedWaveformModelConfig(BACKBONE, STEMS[stem], rate=4000))


def waveforms(lengths: torch.Tensor, seed: int = 0, padding: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(len(lengths), int(lengths.max()), 1, generator=generator)
    return x.masked_fill((torch.arange(x.shape[1]) >= lengths[:, None])[..., None], padding)


@pytest.mark.parametrize(("span", "share"), [(1, 0.3), (10, 0.5), (10, 0.15)])
def test_every_frame_is_hidden_equally_often(span: int, share: float) -> None:
    lengths = torch.full((4000,), 300)  # so long that something is hidden and something seen anyway
    hidden = draw_spans(lengths, 300, span, share, torch.Generator().manual_seed(1))
    by_place = hidden.double().mean(dim=0)
    assert (by_place - share).abs().max() < 5 * (share * (1 - share) / 4000) ** 0.5
    # spans: what follows a hidden frame is mostly hidden, too
    follows = (hidden[:, :-1] & hidden[:, 1:]).sum() / hidden[:, :-1].sum()
    begins = 1 - (1 - share) ** (1 / span)
    assert float(follows) == pytest.approx(1 - begins * (1 - share) / share, abs=0.01)


def test_a_recording_of_two_frames_or_more_has_something_hidden_and_something_seen() -> None:
    lengths = torch.arange(1, 13).repeat(200)
    hidden = draw_spans(lengths, 14, 5, 0.5, torch.Generator().manual_seed(2))
    count = hidden.sum(dim=1)
    assert (count[lengths == 1] == 0).all()
    assert (count[lengths > 1] > 0).all()
    assert (count < lengths).all()
    assert not hidden[torch.arange(14) >= lengths[:, None]].any()


def test_noise_has_the_level_of_what_is_seen_and_padding_stays_silent() -> None:
    lengths = torch.tensor([8000, 6000, 8])
    waveform = waveforms(lengths, padding=0.7) * torch.tensor([1.0, 5.0, 1.0])[:, None, None]
    hidden = torch.zeros(3, 1000, dtype=torch.bool)
    hidden[:2, 100:400] = True
    hidden[2, 0] = True  # all of it: there is no level to take
    shown = hide_samples(waveform, lengths, hidden, 8, 0.2, torch.Generator().manual_seed(0))
    covered = hidden.repeat_interleave(8, dim=1)
    for row, level in enumerate((0.1, 0.5)):
        assert shown[row][covered[row]].std() == pytest.approx(0.2 * level, rel=0.1)
        seen = ~covered[row] & (torch.arange(8000) < lengths[row])
        assert torch.equal(shown[row][seen], waveform[row][seen])
        assert (shown[row, lengths[row] :] == 0).all()
    assert (shown[2] == 0).all()
    silent = hide_samples(waveform, lengths, hidden, 8, 0.0)
    assert (silent[covered] == 0).all()


@pytest.mark.parametrize("stem", STEMS)
def test_guesses_do_not_depend_on_what_is_hidden(stem: str) -> None:
    """Not through filters that reach there, nor through the norm over the batch, which training uses."""
    model, lengths = model_of(stem).train(), torch.tensor([400, 250, 90])
    waveform = waveforms(lengths)
    frames = model.frame_lengths(lengths)
    hidden = draw_spans(frames, int(frames.max()), 5, 0.5, torch.Generator().manual_seed(3))
    other = waveform.clone()
    covered = hidden.repeat_interleave(model.frame, dim=1)[:, : waveform.shape[1]]
    other[covered] = 3 * torch.randn(int(covered.sum()), 1)

    def guesses(x: torch.Tensor) -> torch.Tensor:
        shown = hide_samples(x, lengths, hidden, model.frame, 0.1, torch.Generator().manual_seed(4))
        return model(shown, lengths, hidden)

    assert torch.equal(guesses(waveform), guesses(other))
    assert not torch.equal(model.targets(waveform, lengths), model.targets(other, lengths))
    # and they do depend on what is seen
    other = waveform + 0.1 * (~covered)[..., None]
    assert not torch.equal(guesses(waveform), guesses(other))


@pytest.mark.parametrize("stem", STEMS)
def test_padding_changes_neither_guesses_nor_targets(stem: str) -> None:
    model, lengths = model_of(stem).eval(), torch.tensor([400, 250, 90])
    loud = waveforms(lengths, padding=0.9)
    frames = model.frame_lengths(lengths)
    hidden = draw_spans(frames, int(frames.max()), 5, 0.5, torch.Generator().manual_seed(3))
    y, truth = model(loud, lengths, hidden), model.targets(loud, lengths)
    for row, (samples, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone = loud[row : row + 1, :samples]
        expected = model(alone, None, hidden[row : row + 1, :count])
        torch.testing.assert_close(y[row : row + 1, :count], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(truth[row : row + 1, :count], model.targets(alone, lengths[row : row + 1]))


def test_spans_last_as_long_whatever_the_frames() -> None:
    assert MaskingConfig(span_seconds=0.2).span(160, 8000) == 10
    assert MaskingConfig(span_seconds=0.2).span(64, 8000) == 25
    assert MaskingConfig(span_seconds=0.001).span(160, 8000) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, "masking.share: expected a number between 0 and 1, got 0.0"),
        ({"span_seconds": 0}, "masking.span_seconds: expected a number > 0"),
        ({"noise": -1}, "masking.noise: expected a number >= 0"),
    ],
)
def test_refuses_impossible_masks(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MaskingConfig(**options)


def test_refuses_models_that_cannot_guess_what_is_hidden() -> None:
    with pytest.raises(UserError, match=r"backbone.direction: expected bidirectional"):
        MaskedWaveformModelConfig(BackboneConfig(8, 1))
    with pytest.raises(UserError, match=r"stem: hiding needs frames.*got a SpectrogramConfig"):
        MaskedWaveformModelConfig(BACKBONE, SpectrogramConfig())  # type: ignore[arg-type]
