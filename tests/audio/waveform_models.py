"""Small models of waveforms of every kind, for tests."""

from __future__ import annotations

import torch

from audio.waveform_model import WaveformModel, WaveformModelConfig
from audio.wavenet import WaveNetConfig
from seqmamba.backbones import BackboneConfig, MultiScaleConfig

NETWORKS = {
    "s4 outside, mamba inside": MultiScaleConfig(
        BackboneConfig(8, 1, mixer="s4+mlp", norm="layer", d_state=4),
        pool=(2, 2),
        inner_mixers=("s4", "mamba"),
    ),
    "mamba on both sides": MultiScaleConfig(
        BackboneConfig(8, 1, mixer="mamba", d_state=4), pool=(4, 2), sides="both"
    ),
    "one width": BackboneConfig(8, 2, mixer="mamba", d_state=4),
    "wavenet": WaveNetConfig(2, 3, channels=8, skip_channels=16, head_channels=12),
}


def small_model(
    kind: str = "s4 outside, mamba inside",
    *,
    classes: tuple[str, ...] = (),
    rate: int = 1000,
    bits: int = 8,
    scale: float = 1.0,
) -> WaveformModel:
    """A model with random weights; ``scale`` spreads its logits, so that what it draws is not uniform."""
    torch.manual_seed(0)
    model = WaveformModel(WaveformModelConfig(NETWORKS[kind], rate=rate, bits=bits, classes=classes)).eval()
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.startswith(("lm_head", "head", "embedding")):
                parameter.mul_(scale)
    return model
