"""Beginning with a pretrained backbone: what is taken over from a model that reads DNA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from genomics.language_reader import LanguageReader
from genomics.masked_model import MaskedModel
from genomics.models import SequenceModel
from genomics.position_models import PositionModel
from genomics.stems import StemWidth
from genomics.vocabulary import CADUCEUS, Vocabulary
from seqmamba.backbones import BackboneConfig, LanguageModel, MultiScaleConfig
from seqmamba.backbones.weights import load_weights
from seqmamba.errors import UserError
from seqmamba.training.exported import load_any_model
from seqmamba.training.finetuning import Config, InitConfig, Model, begin_with, with_recipe_options


@dataclass(frozen=True)
class Encoder:
    """What is taken over from a model.

    Attributes:
        where: Where it came from, for messages.
        backbone: Options of its backbone.
        embedding: Ids of its embedding; None if a convolution stands in front of the backbone.
        stem_width: Width of that convolution, or widths.
        frames: In how many frames the backbone reads: 3 if it is used to codons.
        weights: Of ``stem`` and ``backbone``, by the names of `SequenceModel`.
    """

    where: str
    backbone: BackboneConfig | MultiScaleConfig
    embedding: Vocabulary | None
    stem_width: StemWidth
    frames: int
    weights: dict[str, Tensor]

    def adapt(self, config: Config) -> Config:
        """Return a model's configuration with this backbone and stem.

        Args:
            config: A dataclass with ``backbone``, ``stem_width`` and ``embedding``.

        Raises:
            UserError: If such a model cannot have them.
        """
        wanted: Any = config
        frames = getattr(wanted, "frames", 1)
        if frames != self.frames:
            reads = "bases" if self.frames == 1 else "codons"
            raise UserError(
                f"frames: expected {self.frames}, got {frames}: the model in {self.where} reads {reads}"
            )
        backbone = with_recipe_options(self.backbone, wanted.backbone)
        return replace(wanted, backbone=backbone, embedding=self.embedding, stem_width=self.stem_width)

    def load_into(self, model: nn.Module) -> None:
        """Copy the weights into a model that was built for them.

        Raises:
            UserError: If they do not fit.
        """
        parts = nn.ModuleDict({"stem": model.stem, "backbone": model.backbone})  # type: ignore[dict-item]
        load_weights(parts, self.weights, self.where)


def read_encoder(where: str) -> Encoder:
    """Read a model and take its encoder.

    Args:
        where: A run folder, a folder with a model, or a repository.

    Raises:
        UserError: If there is no model, or it has no encoder for bases.
    """
    model = load_any_model(where, "cpu")
    backbone = _submodule(model, "backbone", where)
    weights = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    if isinstance(model, MaskedModel):
        return _of_language_model(where, model.language_model, model.config.vocabulary, weights)
    if isinstance(model, LanguageModel):
        LanguageReader(model, headless=True)  # refuses ids that are not those of bases
        rows = model.embedding.num_embeddings
        complement = (*CADUCEUS.complement[:rows], *range(CADUCEUS.size, rows))
        return _of_language_model(where, model, replace(CADUCEUS, complement=complement), weights)
    if not isinstance(model, SequenceModel | PositionModel):
        raise _not_for_bases(model, where)
    weights |= {f"stem.{name}": tensor for name, tensor in model.stem.state_dict().items()}
    config: Any = model.config
    frames = getattr(config, "frames", 1)
    return Encoder(where, config.backbone, config.embedding, config.stem_width, frames, weights)


def _of_language_model(
    where: str, model: LanguageModel, vocabulary: Vocabulary, weights: dict[str, Tensor]
) -> Encoder:
    if vocabulary.bases is None:
        raise UserError(f"init_from: the model in {where} does not say which of its token ids are bases")
    weights["stem.embedding.weight"] = model.embedding.weight.detach()
    return Encoder(where, model.config.backbone, vocabulary, 1, 1, weights)


def _submodule(model: nn.Module, name: str, where: str) -> nn.Module:
    part = getattr(model, name, None)
    if not isinstance(part, nn.Module):
        raise _not_for_bases(model, where)
    return part


def _not_for_bases(model: nn.Module, where: str) -> UserError:
    return UserError(
        f"init_from: the model in {where} is a {type(model).__name__}, expected one that reads DNA"
    )


def build_model(build: Callable[[Any], Model], config: Any, init: InitConfig | None, lr: float) -> Model:
    """Build a model for a task, with a pretrained backbone where one is given; see `begin_with`.

    Args:
        build: Makes the model of a configuration.
        config: A dataclass with ``backbone``, ``stem_width`` and ``embedding``.
        init: What to begin with, or None.
        lr: Peak learning rate of the head.

    Raises:
        UserError: If the pretrained model does not fit.
    """
    return begin_with(build, config, init, lr, read_encoder)
