"""torch.export of a decoding step and of whole sequences: saved, loaded, run."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from composed import KINDS, backbone_on, features, kind_name, resets
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.utils import _pytree

from seqmamba import Backbone
from seqmamba.backbones.state import BackboneState

ANY = Dim.DYNAMIC
each_way = pytest.mark.parametrize("strict", [False, True])


class Step(nn.Module):
    """One decoding step: state in, state out."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor, state: BackboneState) -> tuple[Tensor, BackboneState]:
        return self.backbone(x, state=state, return_state=True)


def save_and_load(program: ExportedProgram) -> nn.Module:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()


@each_way
def test_an_exported_step_decodes_as_the_backbone_does(strict: bool, device: str) -> None:
    backbone = backbone_on(device).eval()
    state = backbone.init_state(3)
    shapes = ({0: ANY}, _pytree.tree_map(lambda _: {0: ANY}, state))
    with torch.no_grad():
        program = export(
            Step(backbone), (features(1, device, 3), state), dynamic_shapes=shapes, strict=strict
        )
        step = save_and_load(program)
        for batch in (1, 3, 5):
            x, state = features(6, device, batch), backbone.init_state(batch)
            outputs = []
            for position in x.split(1, dim=1):
                y, state = step(position, state)
                outputs.append(y)
            assert isinstance(state, BackboneState)
            expected, final = backbone(x, return_state=True)
            torch.testing.assert_close(torch.cat(outputs, dim=1), expected)
            torch.testing.assert_close(state, final)


@each_way
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", KINDS[::2], ids=kind_name)
def test_an_exported_forward(kind: dict[str, Any], dynamic: bool, strict: bool, device: str) -> None:
    backbone = backbone_on(device, n_layers=1, **kind).eval()
    length = 40
    shapes = {"x": {0: ANY, 1: ANY}, "reset": {0: ANY, 1: ANY}} if dynamic else None
    options = {"reset": resets(length, device)}
    program = export(backbone, (features(length, device),), options, dynamic_shapes=shapes, strict=strict)
    loaded = save_and_load(program)
    for wanted in (2, 33, 100) if dynamic else (length,):
        x, reset = features(wanted, device), resets(wanted, device)
        torch.testing.assert_close(loaded(x, reset=reset), backbone(x, reset=reset))
