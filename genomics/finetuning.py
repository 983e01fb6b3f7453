"""Beginning with a pretrained backbone: what is taken over, and how much of it is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor, nn

from genomics.inference import load_any_model
from genomics.language_reader import LanguageReader
from genomics.masked_model import MaskedModel
from genomics.models import SequenceModel
from genomics.position_models import PositionModel
from genomics.stems import StemWidth
from genomics.vocabulary import CADUCEUS, Vocabulary
from seqmamba.backbones import Backbone, BackboneConfig, LanguageModel, MultiScaleConfig
from seqmamba.backbones.weights import load_weights
from seqmamba.errors import UserError
from seqmamba.nn.lora import add_lora
from seqmamba.nn.options import is_number, require, require_bool, require_whole

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)
_OF_THE_RECIPE = ("dropout", "checkpoint_activations", "scan_impl")
"""Options of a backbone that shape no weight, and so stay the recipe's."""


@dataclass(frozen=True)
class InitConfig:
    """A pretrained model to begin with.

    Args:
        folder: A run folder, a folder with config.json and weights, or a repository (``owner/name``) of a
            masked or causal language model over DNA, published Caduceus checkpoints included, or of a model
            trained on another task. Its embedding (or stem) and its backbone are taken over.
        lr_decay: Layer-wise decay of the learning rate: the last block learns at this fraction of the head's
            rate, the block before it at its square, and so on down to the embedding. 1 switches it off.
        freeze: Whether only the head is trained.
        lora_rank: Rank of the updates that are trained in place of the backbone's weights; see
            `seqmamba.nn.lora`. 0 trains the weights themselves. The exported model has the updates in them.
        lora_alpha: Scale of these updates, times their rank; None means the rank.

    Raises:
        UserError: If a value is out of range, or the options contradict each other.
    """

    folder: str
    lr_decay: float = 1.0
    freeze: bool = False
    lora_rank: int = 0
    lora_alpha: float | None = None

    def __post_init__(self) -> None:
        decay = self.lr_decay
        good = is_number(decay) and 0 < decay <= 1
        require(good, "init_from.lr_decay", "a number above 0, 1 at most", decay)
        require_bool("init_from.freeze", self.freeze)
        require_whole("init_from.lora_rank", self.lora_rank, 0)
        if self.freeze and (self.lora_rank or decay != 1):
            raise UserError("init_from.freeze: a frozen backbone has neither lora_rank nor lr_decay")
        if self.lora_alpha is not None and not self.lora_rank:
            raise UserError("init_from.lora_alpha: is only used with lora_rank")


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
        backbone = self.backbone
        if isinstance(backbone, BackboneConfig) and isinstance(wanted.backbone, BackboneConfig):
            kept = {name: getattr(wanted.backbone, name) for name in _OF_THE_RECIPE}
            backbone = replace(backbone, **kept)
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
    """Build a model for a task, with a pretrained backbone where one is given.

    Args:
        build: Makes the model of a configuration.
        config: A dataclass with ``backbone``, ``stem_width`` and ``embedding``.
        init: What to begin with, or None.
        lr: Peak learning rate of the head.

    Returns:
        The model. Its parameters are marked with what is trained, and how fast; see
        `seqmamba.training.optimisation.parameter_groups`.

    Raises:
        UserError: If the pretrained model does not fit.
    """
    if init is None:
        return build(config)
    encoder = read_encoder(init.folder)
    model = build(encoder.adapt(config))
    encoder.load_into(model)
    set_trained_part(model, init, lr)
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(
        f"backbone of {init.folder} in place of the recipe's; "
        f"{trained:,} of {total:,} parameters are trained",
        file=sys.stderr,
    )
    return model


def set_trained_part(model: nn.Module, init: InitConfig, lr: float) -> None:
    """Freeze what is to be frozen, add low-rank updates, and mark the layers with their rates.

    The rates fall from layer to layer by one factor (discriminative fine-tuning: Howard & Ruder 2018,
    arXiv:1801.06146, section 3.2), and become ``_max_lr``. The norm behind the last block counts with the
    head.

    Args:
        model: With ``stem``, ``backbone`` and a head.
        init: What to do.
        lr: Peak learning rate of the head.

    Raises:
        UserError: If the backbone has no single stack of layers for the decay.
    """
    stem, backbone = _submodule(model, "stem", init.folder), _submodule(model, "backbone", init.folder)
    if init.freeze:
        stem.requires_grad_(False)
        backbone.requires_grad_(False)
    if init.lora_rank:
        stem.requires_grad_(False)
        add_lora(backbone, init.lora_rank, init.lora_alpha)
    if init.lr_decay == 1:
        return
    if not isinstance(backbone, Backbone):
        raise UserError("init_from.lr_decay: expected 1, since this backbone has no single stack of layers")
    rate = lr
    for layer in [*reversed(backbone.layers), stem]:
        rate *= init.lr_decay
        for parameter in layer.parameters():
            parameter._max_lr = min(rate, getattr(parameter, "_max_lr", rate))  # type: ignore[attr-defined]
