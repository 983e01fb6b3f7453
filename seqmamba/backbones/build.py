"""The backbone that a config describes."""

from __future__ import annotations

from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.isotropic import Backbone
from seqmamba.backbones.multiscale import MultiScaleBackbone
from seqmamba.backbones.multiscale_config import MultiScaleConfig


def build_backbone(config: BackboneConfig | MultiScaleConfig) -> Backbone | MultiScaleBackbone:
    """Build the backbone of the config's kind.

    Args:
        config: What to build.
    """
    if isinstance(config, MultiScaleConfig):
        return MultiScaleBackbone(config)
    return Backbone(config)
