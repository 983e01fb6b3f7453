"""Small models with random weights, for tests of what they say over time."""

from __future__ import annotations

import torch

from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.stems import StridedStemConfig
from seqmamba.backbones import BackboneConfig, MultiScaleConfig
from seqmamba.nn.options import AttentionOptions

RATE = 1000
STEM = StridedStemConfig(kernels=(8, 4), strides=(4, 2), widths=(4,))  # frames of 8 samples


def backbone(kind: str, direction: str = "causal"):
    options = {"direction": direction, "d_state": 4}
    if kind == "u-shaped":
        return MultiScaleConfig(
            BackboneConfig(8, 1, mixer="s4", **options), pool=(2,), inner_mixers=("mamba",)
        )
    if kind == "attention":
        return BackboneConfig(8, 1, mixer="attention", attention=AttentionOptions(n_heads=2), **options)
    return BackboneConfig(8, 2, mixer="mamba", **options)


def small_classifier(
    kind: str = "mamba",
    *,
    direction: str = "causal",
    task: str = "classification",
    pooling: str = "mean_max",
    **options,
) -> WaveformClassifier:
    """A classifier of 1 kHz recordings with three classes and frames of 8 ms."""
    torch.manual_seed(0)
    config = WaveformClassifierConfig(
        backbone(kind, direction),
        options.pop("stem", STEM),
        task=task,
        classes=("a", "b", "c"),
        rate=RATE,
        pooling=pooling,
        max_length=400,
        **options,
    )
    model = WaveformClassifier(config).eval()
    with torch.no_grad():
        model.head.linear.weight.mul_(2.0)  # so that what it says changes over time
    return model


def sound(length: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise whose loudness changes."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.sin(torch.arange(length) / 150).abs()[:, None]
    return 0.5 * loudness * torch.randn(length, channels, generator=generator).clamp(-2, 2)
