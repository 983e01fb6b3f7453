"""A classifier, regressor or tagger of waveforms: samples in, logits of a recording or its frames out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audio.frontends import StemConfig, build_stem
from audio.heads import POOLINGS, ClipHead, FrameHead, Pooling
from audio.rates import require_rate
from audio.spectrograms import SpectrogramConfig, SpectrogramStem
from audio.stems import StridedStemConfig
from seqmamba.backbones import BackboneConfig, HubModel, MultiScaleConfig
from seqmamba.backbones.build import build_backbone
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_choice, require_whole
from seqmamba.nn.packing import reset_from_lengths
from seqmamba.nn.pooling import mean_pool

TaskName = Literal["classification", "multilabel", "regression", "tagging"]
TASKS: tuple[TaskName, ...] = ("classification", "multilabel", "regression", "tagging")

RateMode = Literal["frames", "steps", "ignore"]
"""How another sampling rate is met: the stem keeps its frames in time, or its strides in samples, and the
state spaces scale their steps; or not at all."""


_SAME_RATE = 0.01


def _default_backbone() -> BackboneConfig:
    return BackboneConfig(d_model=64, n_layers=4, direction="bidirectional", d_state=16)


@dataclass(frozen=True)
class WaveformClassifierConfig:
    """What a `WaveformClassifier` is made of.

    Args:
        backbone: The stack of blocks, of one scale or of several, bidirectional or causal.
        stem: What makes frames of samples: strided convolutions, a learned filter bank, patches of a log-mel
            spectrogram, or codes, as generative models read them.
        task: ``classification`` (one of the classes), ``multilabel`` (any of them), ``regression``, or
            ``tagging`` (any of them in each frame). A training run takes it from the data.
        classes: Class names, or target names for regression. A training run takes them from the data.
        rate: Sampling rate in Hz. A training run takes it from the data.
        channels: Channels of a waveform. A training run takes them from the data.
        pooling: How frames become one vector: ``mean``, ``max``, ``mean_max`` (both side by side) or
            ``attention``. Only true frames count.
        dropout: Probability of dropping a pooled feature in front of the head.
        max_length: Samples of the longest waveform in training. A training run takes it from the data.
        crop_length: Samples that every waveform in training was cut or filled up to; None where they were
            whole. A training run takes it from its augmentation.

    Raises:
        UserError: If a value is out of range.
    """

    backbone: BackboneConfig | MultiScaleConfig = field(default_factory=_default_backbone)
    stem: StemConfig = field(default_factory=StridedStemConfig)
    task: TaskName = "classification"
    classes: tuple[str, ...] = ()
    rate: int = 16_000
    channels: int = 1
    pooling: Pooling = "mean_max"
    dropout: float = 0.1
    max_length: int | None = None
    crop_length: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # YAML and JSON have lists
        require_choice("task", self.task, TASKS)
        require_choice("pooling", self.pooling, POOLINGS)
        require_whole("rate", self.rate)
        require_whole("channels", self.channels)
        dropout = self.dropout
        require(is_number(dropout) and 0 <= dropout < 1, "dropout", "a number in [0, 1)", dropout)
        for name in ("max_length", "crop_length"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name))
        if isinstance(self.stem, SpectrogramConfig) and self.task == "tagging":
            raise UserError("task: tagging needs frames, and patches of a spectrogram are none")


class Hidden(NamedTuple):
    """Hidden states of a batch.

    Attributes:
        x: One vector a frame or patch; meaningless behind the true lengths.
        lengths: True numbers of them; None without padding.
        token: Place of a class token; None without one.
    """

    x: Float[Tensor, "batch frames dim"]
    lengths: Int[Tensor, " batch"] | None
    token: Int[Tensor, " batch"] | None = None


class WaveformClassifier(nn.Module, HubModel):
    """Stem, backbone, masked pooling and a linear head.

    Padding never influences a result: the stem sees zeros there, the backbone starts a new packed sequence at
    the first padded frame, in both directions, and the pooling skips it.

    Args:
        config: What to build. ``classes`` must be filled.

    Raises:
        UserError: If there are too few classes, or stem and backbone do not go together.
    """

    config_class = WaveformClassifierConfig

    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, config: WaveformClassifierConfig) -> None:
        super().__init__()
        least = 2 if config.task == "classification" else 1
        if len(config.classes) < least:
            raise UserError(f"classes: {config.task} needs at least {least}, got {list(config.classes)}")
        self.config = config
        d_model, outputs = config.backbone.d_model, len(config.classes)
        causal = config.backbone.direction == "causal"
        self.stem = build_stem(config.stem, config.rate, config.channels, d_model, causal=causal)
        _check_grid(config, self.stem)
        self.backbone = build_backbone(config.backbone)
        self.head: ClipHead | FrameHead
        if config.task == "tagging":
            self.head = FrameHead(d_model, outputs, config.dropout)
        else:
            self.head = ClipHead(d_model, outputs, config.pooling, config.dropout)
        # A regression head works on standardised targets; these take its values back to the user's units.
        self.register_buffer("target_mean", torch.zeros(outputs))
        self.register_buffer("target_scale", torch.ones(outputs))

    @property
    def frame(self) -> int:
        """Samples of a frame at the training's rate."""
        return self.stem.frame

    def hidden(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: int | None = None,
        mode: RateMode = "frames",
    ) -> Hidden:
        """Return the hidden states; see `forward`."""
        shape = (len(waveform), max(1, waveform.shape[1]), self.config.channels)
        if waveform.shape != shape or not waveform.is_floating_point():
            raise UserError(
                f"waveform: expected floating (batch, length >= 1, {self.config.channels}), "
                f"got {waveform.dtype} {tuple(waveform.shape)}"
            )
        require_choice("mode", mode, ("frames", "steps", "ignore"))
        ratio = 1.0 if rate is None or mode == "ignore" else self.config.rate / rate
        require_rate(ratio)
        if isinstance(self.stem, SpectrogramStem):
            patches = self.stem(waveform, lengths, rate=ratio)
            return Hidden(self.backbone(patches.x, reset=patches.reset), patches.lengths, patches.token)
        frames = self.stem(waveform, lengths, rate=ratio, keep_frames=mode != "steps")
        reset = None if frames.lengths is None else reset_from_lengths(frames.lengths, frames.x.shape[1])
        near = abs(frames.rate - 1) < _SAME_RATE  # what rounding a stride leaves; not every mixer has a rate
        return Hidden(self.backbone(frames.x, reset=reset, rate=1.0 if near else frames.rate), frames.lengths)

    def forward(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: int | None = None,
        mode: RateMode = "frames",
    ) -> Float[Tensor, "batch *frames classes"]:
        """Score a batch of waveforms.

        Args:
            waveform: Samples in [-1, 1], padded on the right.
            lengths: True lengths in samples, each at least 1; None means no padding.
            rate: Sampling rate of the waveforms in Hz; None means that of the training.
            mode: How another rate than the training's is met, without resampling.

        Returns:
            Logits (float32) of each recording; for ``tagging`` of each frame, meaningless behind the true
            lengths; for regression, standardised values.

        Raises:
            UserError: If a shape or dtype does not fit, or the model cannot run at the rate.
        """
        hidden = self.hidden(waveform, lengths, rate=rate, mode=mode)
        logits: Tensor = self.head(self._read(hidden))
        return logits

    def embed(
        self, waveform: Float[Tensor, "batch length channels"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch features"]:
        """Return the pooled features in front of the head; for ``tagging`` the mean over true frames."""
        hidden = self.hidden(waveform, lengths)
        if isinstance(self.head, ClipHead):
            return self._read(hidden)
        return mean_pool(hidden.x, hidden.lengths)

    def predict(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: int | None = None,
        mode: RateMode = "frames",
    ) -> Float[Tensor, "batch *frames classes"]:
        """Return probabilities, or regression values in the units of the training targets; see `forward`."""
        return self.to_predictions(self(waveform, lengths, rate=rate, mode=mode))

    def to_predictions(self, logits: Float[Tensor, "*shape classes"]) -> Float[Tensor, "*shape classes"]:
        """Turn logits into probabilities (softmax or sigmoid) or values in the training targets' units."""
        if self.config.task == "classification":
            return logits.softmax(dim=-1)
        if self.config.task in ("multilabel", "tagging"):
            return logits.sigmoid()
        return logits * self.target_scale + self.target_mean

    def example_input(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Float[Tensor, "batch length channels"]:
        """Draw quiet noise; see `HubModel.example_input`."""
        return 0.1 * torch.randn(batch, length, self.config.channels, generator=generator)

    def _read(self, hidden: Hidden) -> Tensor:
        """Return what the head reads of the hidden states."""
        if isinstance(self.head, FrameHead):
            return hidden.x
        if hidden.token is not None:
            return hidden.x[torch.arange(len(hidden.x), device=hidden.x.device), hidden.token]
        return self.head.pool(hidden.x, hidden.lengths)


def _check_grid(config: WaveformClassifierConfig, stem: nn.Module) -> None:
    """Refuse mixers over a grid that is not that of the patches, and poolings that a class token replaces."""
    backbone = config.backbone
    width = backbone.grid.width if isinstance(backbone, BackboneConfig) else None
    columns = stem.patches.columns if isinstance(stem, SpectrogramStem) else None
    if width is not None and width != columns:
        had = "frames, which are no grid" if columns is None else f"{columns} columns of patches"
        raise UserError(
            f"backbone.grid.width: expected null or that of the stem, which has {had}; got {width}"
        )
    token = isinstance(config.stem, SpectrogramConfig) and config.stem.class_token != "none"
    if token and config.pooling != "mean":
        raise UserError(
            f"pooling: expected mean with a class token, which is read instead, got {config.pooling!r}"
        )
    if token and width is not None:
        raise UserError("stem.class_token: expected none with a mixer over the grid of patches")
