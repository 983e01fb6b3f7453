"""The network of a waveform classifier that says what stands in hidden frames: masked pretraining."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audio.filterbank import FilterbankConfig
from audio.frame_targets import FrameTargetConfig, FrameTargets
from audio.frontends import build_stem
from audio.stems import StridedStemConfig, frames_of
from seqmamba.backbones import BackboneConfig, HubModel, MultiScaleConfig
from seqmamba.backbones.build import build_backbone
from seqmamba.errors import UserError
from seqmamba.nn.options import require, require_whole
from seqmamba.nn.packing import reset_from_lengths
from seqmamba.nn.precision import at_least_float32


def _default_backbone() -> BackboneConfig:
    return BackboneConfig(d_model=64, n_layers=4, direction="bidirectional", d_state=16)


@dataclass(frozen=True)
class MaskedWaveformModelConfig:
    """What a `MaskedWaveformModel` is made of.

    Args:
        backbone: The stack of blocks, bidirectional.
        stem: What makes frames of samples, as in the classifiers that begin with the model.
        targets: What is asked of a hidden frame.
        rate: Sampling rate in Hz. A training run takes it from the data.
        channels: Channels of a waveform. A training run takes them from the data.

    Raises:
        UserError: If a value is out of range, or the backbone is causal.
    """

    backbone: BackboneConfig | MultiScaleConfig = field(default_factory=_default_backbone)
    stem: StridedStemConfig | FilterbankConfig = field(default_factory=StridedStemConfig)
    targets: FrameTargetConfig = field(default_factory=FrameTargetConfig)
    rate: int = 16_000
    channels: int = 1

    def __post_init__(self) -> None:
        require_whole("rate", self.rate)
        require_whole("channels", self.channels)
        if not isinstance(self.stem, StridedStemConfig | FilterbankConfig):
            raise UserError(
                "stem: hiding needs frames, which strided convolutions and filter banks make; got a "
                f"{type(self.stem).__name__}"
            )
        direction = self.backbone.direction
        require(
            direction == "bidirectional",
            "backbone.direction",
            "bidirectional, since a hidden frame is guessed from both sides",
            direction,
        )


class MaskedWaveformModel(nn.Module, HubModel):
    """Stem, a learned vector in the place of hidden frames, backbone, and a linear head over targets.

    Padding never influences a result, as in `WaveformClassifier`.

    Args:
        config: What to build.
    """

    config_class = MaskedWaveformModelConfig

    def __init__(self, config: MaskedWaveformModelConfig) -> None:
        super().__init__()
        self.config = config
        d_model = config.backbone.d_model
        self.stem = build_stem(config.stem, config.rate, config.channels, d_model, causal=False)
        self.mask = nn.Parameter(torch.empty(d_model))
        nn.init.normal_(self.mask, std=0.02)
        self.backbone = build_backbone(config.backbone)
        self.targets = FrameTargets(config.targets, self.frame, config.rate)
        self.head = nn.Linear(d_model, self.targets.outputs)

    @property
    def frame(self) -> int:
        """Samples of a frame."""
        return self.stem.frame

    def frame_lengths(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return how many frames recordings of some numbers of samples have."""
        return frames_of(lengths, self.frame)

    def forward(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        hidden: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch frames outputs"]:
        """Guess every frame.

        Args:
            waveform: Samples with hidden ones taken away, see `audio.masking`, padded on the right.
            lengths: True lengths in samples; None means no padding.
            hidden: Which frames are hidden; None for none.

        Returns:
            Logits of codes or energies, float32; meaningless behind the true lengths.
        """
        frames = self.stem(waveform, lengths)
        x = frames.x if hidden is None else torch.where(hidden[..., None], self.mask.to(frames.x), frames.x)
        reset = None if frames.lengths is None else reset_from_lengths(frames.lengths, x.shape[1])
        return at_least_float32(self.head(self.backbone(x, reset=reset)))

    def example_input(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Float[Tensor, "batch length channels"]:
        """Draw quiet noise; see `HubModel.example_input`."""
        return 0.1 * torch.randn(batch, length, self.config.channels, generator=generator)
