"""seqmamba: sequence models for DNA and raw, long audio on Mamba backbones.

Names are resolved on first use, so that ``import seqmamba`` and the command line start without torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmamba.backbones import (
        Backbone,
        BackboneConfig,
        LanguageModel,
        LanguageModelConfig,
        MultiScaleBackbone,
        MultiScaleConfig,
        from_pretrained,
    )
    from seqmamba.inference import generate

__version__ = version("seqmamba")
__all__ = [
    "Backbone",
    "BackboneConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "MultiScaleBackbone",
    "MultiScaleConfig",
    "__version__",
    "from_pretrained",
    "generate",
]

_HOMES = {
    "Backbone": "seqmamba.backbones",
    "BackboneConfig": "seqmamba.backbones",
    "LanguageModel": "seqmamba.backbones",
    "LanguageModelConfig": "seqmamba.backbones",
    "MultiScaleBackbone": "seqmamba.backbones",
    "MultiScaleConfig": "seqmamba.backbones",
    "from_pretrained": "seqmamba.backbones",
    "generate": "seqmamba.inference",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'seqmamba' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
