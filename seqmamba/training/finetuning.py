"""Beginning with a pretrained encoder: what is taken over, and how much of it is trained.

A domain says how an encoder is read from a model of its own, and how it fits a task's config; the rest is
here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

from torch import nn

from seqmamba.backbones import Backbone, BackboneConfig, MultiScaleBackbone, MultiScaleConfig
from seqmamba.errors import UserError
from seqmamba.nn.lora import add_lora
from seqmamba.nn.options import is_number, require, require_bool, require_whole

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)
BackboneSizes = BackboneConfig | MultiScaleConfig
_OF_THE_RECIPE = ("dropout", "checkpoint_activations", "scan_impl")
"""Options of a backbone that shape no weight, and so stay the recipe's."""


@dataclass(frozen=True)
class InitConfig:
    """A pretrained model to begin with.

    Args:
        folder: A run folder, a folder with config.json and weights, or a repository (``owner/name``). The
            embedding (or stem) and the backbone of its model are taken over.
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


class PretrainedEncoder(Protocol):
    """What a domain takes over from a model."""

    def adapt(self, config: Config) -> Config:
        """Return a model's configuration with this encoder.

        Raises:
            UserError: If such a model cannot have it.
        """
        ...

    def load_into(self, model: nn.Module) -> None:
        """Copy the weights into a model that was built for them.

        Raises:
            UserError: If they do not fit.
        """
        ...


def begin_with(
    build: Callable[[Any], Model],
    config: Any,
    init: InitConfig | None,
    lr: float,
    read_encoder: Callable[[str], PretrainedEncoder],
) -> Model:
    """Build a model for a task, with a pretrained encoder where one is given.

    Args:
        build: Makes the model of a configuration.
        config: The configuration.
        init: What to begin with, or None.
        lr: Peak learning rate of the head.
        read_encoder: Reads what is taken over from a model, by ``init.folder``.

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


def with_recipe_options(backbone: BackboneSizes, wanted: BackboneSizes) -> BackboneSizes:
    """Return a pretrained backbone's config with those options of another that shape no weight.

    Args:
        backbone: Of the pretrained model.
        wanted: Of the recipe.
    """
    if not (isinstance(backbone, BackboneConfig) and isinstance(wanted, BackboneConfig)):
        return backbone
    return replace(backbone, **{name: getattr(wanted, name) for name in _OF_THE_RECIPE})


def set_trained_part(model: nn.Module, init: InitConfig, lr: float) -> None:
    """Freeze what is to be frozen, add low-rank updates, and mark the layers with their rates.

    The rates fall from layer to layer by one factor (discriminative fine-tuning: Howard & Ruder 2018,
    arXiv:1801.06146, section 3.2), and become ``_max_lr``. The norm behind the last block counts with the
    head; poolings of a U-shaped backbone count as layers, in the order in which a position passes them.

    Args:
        model: With ``stem``, ``backbone`` and a head.
        init: What to do.
        lr: Peak learning rate of the head.
    """
    stem, backbone = model.get_submodule("stem"), model.get_submodule("backbone")
    if init.freeze:
        stem.requires_grad_(False)
        backbone.requires_grad_(False)
    if init.lora_rank:
        stem.requires_grad_(False)
        add_lora(backbone, init.lora_rank, init.lora_alpha)
    if init.lr_decay == 1:
        return
    if isinstance(backbone, MultiScaleBackbone):
        layers = backbone.layers_in_order
    else:
        layers = list(cast(Backbone, backbone).layers)
    rate = lr
    for layer in [*reversed(layers), stem]:
        rate *= init.lr_decay
        for parameter in layer.parameters():
            parameter._max_lr = min(rate, getattr(parameter, "_max_lr", rate))  # type: ignore[attr-defined]
