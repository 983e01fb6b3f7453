"""Hiding spans of recordings for masked pretraining.

Frames are hidden in spans, as wav2vec 2.0 does (Baevski et al. 2020, arXiv:2006.11477, section 4.2 and
appendix A): each frame begins a span with the same probability, spans may overlap. There 6.5 % begin spans of
10 frames of 20 ms, which hides about 49 %; SSAM hides half of its patches (Yadav & Tan 2024,
arXiv:2406.02178, section 3).

Here the samples of hidden frames are taken away too, and noise is put in their place, as BEST-RQ does with
its features (Chiu et al. 2022, arXiv:2202.01855, section 3.3). So neither a filter that reaches into a hidden
span nor a norm over the recording or the batch can tell what stood there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seqmamba.nn.options import is_number, require
from seqmamba.nn.packing import length_mask


@dataclass(frozen=True)
class MaskingConfig:
    """How much of a recording is hidden, and how.

    Args:
        share: Share of the frames that are hidden, on average.
        span_seconds: Length of a span, rounded to whole frames.
        noise: Standard deviation of the noise in hidden spans, times that of what is seen of the recording;
            0 leaves silence there.

    Raises:
        UserError: If a value is out of range.
    """

    share: float = 0.5
    span_seconds: float = 0.2
    noise: float = 0.1

    def __post_init__(self) -> None:
        share, span, noise = self.share, self.span_seconds, self.noise
        require(is_number(share) and 0 < share < 1, "masking.share", "a number between 0 and 1", share)
        require(is_number(span) and span > 0, "masking.span_seconds", "a number > 0", span)
        require(is_number(noise) and noise >= 0, "masking.noise", "a number >= 0", noise)

    def span(self, frame: int, rate: int) -> int:
        """Return the frames of a span.

        Args:
            frame: Samples of a frame.
            rate: Samples a second.
        """
        return max(1, round(self.span_seconds * rate / frame))


def draw_spans(
    lengths: Int[Tensor, " batch"],
    frames: int,
    span: int,
    share: float,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "batch frames"]:
    """Draw which frames are hidden.

    Every frame, also the first and the last ones, is hidden with the probability ``share``. Where that
    hides nothing of a recording, or all of it, as happens to short ones, one span is hidden instead, of at
    most half the recording; so only a recording of a single frame has nothing hidden.

    Args:
        lengths: True lengths in frames.
        frames: Frames of the padded batch.
        span: Frames of a span.
        share: Expected share of hidden frames.
        generator: On the device of ``lengths``; by default the global one.

    Returns:
        True where a frame is hidden; never behind the true lengths.
    """
    device = lengths.device
    begins = 1 - (1 - share) ** (1 / span)  # a frame is seen if none of the last `span` frames begins one
    drawn = torch.rand(len(lengths), frames + span - 1, generator=generator, device=device) < begins
    hidden = drawn.unfold(1, span, 1).any(dim=-1) & length_mask(lengths, frames)
    width = torch.minimum(torch.full_like(lengths, span), lengths // 2)
    place = torch.rand(len(lengths), generator=generator, device=device) * (lengths - width + 1)
    start = place.floor().long()
    at = torch.arange(frames, device=device)
    one = (at >= start[:, None]) & (at < (start + width)[:, None])
    count = hidden.sum(dim=1)
    return torch.where(((count == 0) | (count == lengths))[:, None], one, hidden)


def hide_samples(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    hidden: Bool[Tensor, "batch frames"],
    frame: int,
    noise: float,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch length channels"]:
    """Put noise in the place of the samples of hidden frames.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        hidden: Which frames are hidden.
        frame: Samples of a frame.
        noise: See `MaskingConfig`.
        generator: On the device of ``waveform``; by default the global one.

    Returns:
        New samples, zero behind the true lengths. They do not depend on what is hidden.
    """
    length = waveform.shape[1]
    inside = length_mask(lengths, length)[..., None]
    covered = hidden.repeat_interleave(frame, dim=1)[:, :length, None] & inside
    seen = waveform.masked_fill(covered | ~inside, 0)
    if not noise:
        return seen
    count = (inside & ~covered).sum(dim=(1, 2), keepdim=True).clamp_min(1) * waveform.shape[2]
    level = noise * (seen.square().sum(dim=(1, 2), keepdim=True) / count).sqrt()
    drawn = torch.randn(waveform.shape, generator=generator, device=waveform.device, dtype=waveform.dtype)
    return torch.where(covered, level * drawn, seen)
