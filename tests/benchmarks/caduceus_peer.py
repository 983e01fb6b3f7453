"""Caduceus' own model, from a checkout of its repository, to train beside ours.

Its code asks transformers for two base classes and three tuples of results, and does not run with newer ones.
Classes of the same names that do nothing stand in, so that what runs is its own.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seqmamba.benchmarks.peers import import_without_init

_COMPLEMENT = {7: 10, 8: 9, 9: 8, 10: 7}  # A C G T among twelve tokens


def caduceus(folder: Path, width: int, layers: int) -> nn.Module:
    """Build ``CaduceusForMaskedLM``, equivariant, fused as published.

    Args:
        folder: The checkout, or a folder with its ``caduceus``.
        width: ``d_model``.
        layers: Blocks.

    Returns:
        A module whose ``forward(tokens, labels)`` returns the loss; tokens int64 (batch, length).
    """
    for name in ("modules.mamba_simple", "modules.block", "ops.triton.layer_norm"):
        import_without_init("mamba_ssm", name)
    package = types.ModuleType("caduceus")
    package.__path__ = [str(folder / "caduceus")]
    sys.modules["caduceus"] = package
    with _in_place_of_transformers():
        from caduceus.configuration_caduceus import CaduceusConfig  # type: ignore[import-not-found]
        from caduceus.modeling_caduceus import CaduceusForMaskedLM  # type: ignore[import-not-found]

    config = CaduceusConfig(
        d_model=width,
        n_layer=layers,
        vocab_size=12,
        residual_in_fp32=False,
        rcps=True,
        complement_map={token: _COMPLEMENT.get(token, token) for token in range(12)},
    )
    return _Loss(CaduceusForMaskedLM(config))


class _Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        result: Any = self.model(tokens, labels=labels, return_dict=True)
        return result.loss


class _Result(types.SimpleNamespace):
    """What a model of transformers returns: fields by name, and by their place."""

    def __getitem__(self, place: int) -> Any:
        return list(vars(self).values())[place]


@contextmanager
def _in_place_of_transformers() -> Iterator[None]:
    base, outputs = types.ModuleType("transformers"), types.ModuleType("transformers.modeling_outputs")

    class PretrainedConfig:
        use_return_dict = output_hidden_states = False
        pad_token_id = -100  # what a label has where no base is asked for

        def __init__(self, **_: Any) -> None: ...

    class PreTrainedModel(nn.Module):
        def __init__(self, config: Any, *_: Any, **__: Any) -> None:
            super().__init__()
            self.config = config

        def post_init(self) -> None:
            self.apply(self._init_weights)  # type: ignore[arg-type]
            self.tie_weights()  # type: ignore[operator]

    base.PretrainedConfig, base.PreTrainedModel = PretrainedConfig, PreTrainedModel  # type: ignore[attr-defined]
    for name in ("BaseModelOutputWithNoAttention", "MaskedLMOutput", "SequenceClassifierOutput"):
        setattr(outputs, name, _Result)
    before = {name: sys.modules.pop(name, None) for name in ("transformers", "transformers.modeling_outputs")}
    sys.modules.update({"transformers": base, "transformers.modeling_outputs": outputs})
    try:
        yield
    finally:
        sys.modules.update({name: module for name, module in before.items() if module is not None})
