"""Beginning with a pretrained encoder: what is taken over from a model of waveforms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from audio.code_stem import CodeStemConfig
from audio.frontends import StemConfig
from audio.masked_model import MaskedWaveformModel
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.waveform_model import WaveformModel
from audio.wavenet import WaveNetConfig
from seqmamba.backbones import BackboneConfig, MultiScaleConfig
from seqmamba.backbones.weights import load_weights
from seqmamba.errors import UserError
from seqmamba.training.exported import load_any_model
from seqmamba.training.finetuning import InitConfig, begin_with, with_recipe_options


@dataclass(frozen=True)
class Encoder:
    """What is taken over from a model.

    Attributes:
        where: Where it came from, for messages.
        rate: Sampling rate that it reads, in Hz.
        channels: Channels that it reads.
        stem: What makes frames of samples.
        backbone: Options of its backbone.
        weights: Of ``stem`` and ``backbone``, by the names of `WaveformClassifier`.
    """

    where: str
    rate: int
    channels: int
    stem: StemConfig
    backbone: BackboneConfig | MultiScaleConfig
    weights: dict[str, Tensor]

    def adapt(self, config: Any) -> Any:
        """Return a classifier's configuration with this stem and backbone.

        Args:
            config: A `WaveformClassifierConfig`.

        Raises:
            UserError: If it is for another sampling rate or number of channels.
        """
        for name, unit in (("rate", " Hz"), ("channels", "")):
            expected, got = getattr(self, name), getattr(config, name)
            if expected != got:
                raise UserError(
                    f"{name}: expected {expected}{unit}, which the model in {self.where} reads, got "
                    f"{got}{unit}",
                    hint=f"data.init_args.loading.{name} brings recordings there",
                )
        backbone = with_recipe_options(self.backbone, config.backbone)
        return replace(config, backbone=backbone, stem=self.stem)

    def load_into(self, model: nn.Module) -> None:
        """Copy the weights into a model that was built for them.

        Raises:
            UserError: If they do not fit.
        """
        parts = {name: model.get_submodule(name) for name in ("stem", "backbone")}
        load_weights(nn.ModuleDict(parts), self.weights, self.where)


def read_encoder(where: str) -> Encoder:
    """Read a model and take its encoder.

    A masked model and a classifier of another task give their stem and backbone. A generative model gives its
    table of codes and its backbone; where it knows classes, the vector of no class is added to the table.

    Args:
        where: A run folder, a folder with a model, or a repository.

    Raises:
        UserError: If there is no model, or it has no encoder for waveforms.
    """
    model = load_any_model(where, "cpu")
    if isinstance(model, WaveformModel):
        return _of_generator(where, model)
    if not isinstance(model, MaskedWaveformModel | WaveformClassifier):
        raise UserError(
            f"init_from: the model in {where} is a {type(model).__name__}, expected one that reads waveforms"
        )
    parts = nn.ModuleDict({"stem": model.stem, "backbone": model.backbone})
    config = model.config
    return Encoder(where, config.rate, config.channels, config.stem, config.backbone, parts.state_dict())


def _of_generator(where: str, model: WaveformModel) -> Encoder:
    config = model.config
    if isinstance(config.network, WaveNetConfig):
        raise UserError(f"init_from: the model in {where} is a WaveNet, which is no backbone of a classifier")
    weights = {f"backbone.{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    table: Any = model.of_class(None).embedding
    weights["stem.embedding.weight"] = table.weight.detach()[: config.vocab_size]
    stem = CodeStemConfig(config.bits, config.codec)
    return Encoder(where, config.rate, 1, stem, config.network, weights)


def build_model(config: WaveformClassifierConfig, init: InitConfig | None, lr: float) -> WaveformClassifier:
    """Build a classifier, with a pretrained stem and backbone where they are given; see `begin_with`.

    Args:
        config: What to build.
        init: What to begin with, or None.
        lr: Peak learning rate of the head.

    Raises:
        UserError: If the pretrained model does not fit.
    """
    return begin_with(WaveformClassifier, config, init, lr, read_encoder)
