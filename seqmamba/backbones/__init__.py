"""Stacks of layers and their files."""

from seqmamba.backbones.build import build_backbone
from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.hub import HubModel, from_pretrained
from seqmamba.backbones.isotropic import Backbone
from seqmamba.backbones.language_model import LanguageModel, LanguageModelConfig
from seqmamba.backbones.layouts.export import export_transformers
from seqmamba.backbones.multiscale import MultiScaleBackbone, StageState
from seqmamba.backbones.multiscale_config import MultiScaleConfig
from seqmamba.backbones.state import BackboneState

__all__ = [
    "Backbone",
    "BackboneConfig",
    "BackboneState",
    "HubModel",
    "LanguageModel",
    "LanguageModelConfig",
    "MultiScaleBackbone",
    "MultiScaleConfig",
    "StageState",
    "build_backbone",
    "export_transformers",
    "from_pretrained",
]
