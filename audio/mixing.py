"""Two recordings of a batch as one: mixup, and between-class learning, which minds how loud each is heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqmamba.nn.options import is_number, require, require_choice

_WINDOW_SECONDS = 0.1
_SILENCE = 1e-10


@dataclass(frozen=True)
class MixingConfig:
    """How recordings of a training batch are mixed.

    Args:
        kind: ``none``; ``mixup``, by amplitude (Zhang et al. 2018, arXiv:1710.09412); or ``between_class``,
            by loudness (Tokozume et al. 2018, arXiv:1711.10282).
        share: Part of the recordings that are mixed.
        alpha: For ``mixup``: shares are drawn from Beta(alpha, alpha). Uniform for ``between_class``.

    Raises:
        UserError: If a value is out of range.
    """

    kind: Literal["none", "mixup", "between_class"] = "none"
    share: float = 1.0
    alpha: float = 0.3

    def __post_init__(self) -> None:
        require_choice("mixing.kind", self.kind, ("none", "mixup", "between_class"))
        fits = is_number(self.share) and 0 <= self.share <= 1
        require(fits, "mixing.share", "a number from 0 to 1", self.share)
        require(is_number(self.alpha) and self.alpha > 0, "mixing.alpha", "a number > 0", self.alpha)


def mix_batch(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    targets: Float[Tensor, "batch classes"],
    rate: int,
    config: MixingConfig,
) -> tuple[Float[Tensor, "batch length channels"], Int[Tensor, " batch"], Float[Tensor, "batch classes"]]:
    """Mix each recording with another of the batch, and their targets alike.

    Args:
        waveform: Samples, zero behind the true lengths.
        lengths: True lengths in samples.
        targets: Probabilities of the classes, or of each label.
        rate: Sampling rate in Hz.
        config: How.

    Returns:
        The mixed batch. A mix is as long as the longer part, and with ``between_class`` as loud as its parts
        if these have nothing in common.
    """
    if config.kind == "none" or len(waveform) < 2:
        return waveform, lengths, targets
    count, device = len(waveform), waveform.device
    # Everyone gets another one: a turned permutation has no place of its own.
    order = torch.randperm(count, device=device)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    if config.kind == "mixup":
        beta = torch.distributions.Beta(config.alpha, config.alpha)
        share = beta.sample((count,)).to(device)
        weight = share
    else:
        share = torch.rand(count, device=device).clamp(1e-3, 1 - 1e-3)
        level = loudness(waveform, rate)
        weight = between_class_weight(share, level, level[partner])
    mixed = torch.rand(count, device=device) < config.share
    lengths = torch.where(mixed, torch.maximum(lengths, lengths[partner]), lengths)
    share, weight = (torch.where(mixed, x, 1.0)[:, None] for x in (share, weight))
    norm = torch.sqrt(weight.square() + (1 - weight).square()) if config.kind == "between_class" else 1.0
    scale, other = (w.unsqueeze(-1) for w in (weight / norm, (1 - weight) / norm))
    return (
        scale * waveform + other * waveform[partner],
        lengths,
        share * targets + (1 - share) * targets[partner],
    )


def between_class_weight(
    share: Float[Tensor, " batch"], level: Float[Tensor, " batch"], other: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return the amplitude of the first sound with which it makes up a share of what is heard.

    Tokozume et al. 2018, equation 2: ``1 / (1 + 10^((G1 - G2) / 20) (1 - r) / r)``.

    Args:
        share: Of the first sound, r.
        level: Loudness of the first sound in dB, G1.
        other: Loudness of the second, G2.
    """
    return 1 / (1 + 10 ** ((level - other) / 20) * (1 - share) / share)


def loudness(waveform: Float[Tensor, "batch length channels"], rate: int) -> Float[Tensor, " batch"]:
    """Return the highest sound pressure level of any tenth of a second in dB of full scale, A-weighted.

    Args:
        waveform: Samples; channels are averaged in energy.
        rate: Sampling rate in Hz.
    """
    size = max(2, min(round(_WINDOW_SECONDS * rate), waveform.shape[1]))
    windows = waveform.float().mT.unfold(2, size, max(1, size // 2))
    spectrum = torch.fft.rfft(windows * torch.hann_window(size, device=waveform.device))
    weights = a_weighting(torch.fft.rfftfreq(size, 1 / rate, device=waveform.device))
    energy = (spectrum.abs().square() * weights).sum(dim=-1).mean(dim=1) * (16 / 3 / size**2)
    return 10 * torch.log10(energy.amax(dim=1) + _SILENCE)


def a_weighting(frequencies: Float[Tensor, " bins"]) -> Float[Tensor, " bins"]:
    """Return the weights of energy on the A curve (IEC 61672-1), 1 at 1 kHz.

    Args:
        frequencies: In Hz.
    """

    def response(f2: Tensor) -> Tensor:
        low, high = 20.598997**2, 12194.217**2
        middle = torch.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2))
        return high * f2**2 / ((f2 + low) * middle * (f2 + high))

    at_1_khz = response(torch.tensor(1e6, dtype=torch.float64)).item()
    return (response(frequencies.double().square()) / at_1_khz).square().to(frequencies)


def one_hot_targets(labels: Tensor, classes: int, smoothing: float = 0.0) -> Float[Tensor, "batch classes"]:
    """Return class numbers as probabilities.

    Args:
        labels: Class numbers (batch,).
        classes: Number of classes.
        smoothing: Share of the probability that is spread over all classes.
    """
    targets = torch.full((len(labels), classes), smoothing / classes, device=labels.device)
    return targets.scatter_add_(
        1, labels[:, None], torch.full((len(labels), 1), 1 - smoothing, device=labels.device)
    )


def divergence(logits: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]) -> Tensor:
    """Return the mean Kullback-Leibler divergence of the predicted from the target probabilities.

    Tokozume et al. 2018, equation 4. Its gradient is that of the cross-entropy; a perfect answer gives 0.

    Args:
        logits: Of each class.
        targets: Probabilities of each class.
    """
    terms = torch.special.xlogy(targets, targets) - targets * logits.log_softmax(dim=1)
    return terms.sum(dim=1).mean()
