from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqmamba import Backbone, BackboneConfig
from seqmamba.training.graphed import GraphedTraining


class Model(nn.Module):
    def __init__(
        self, mixer: tuple[str, ...] = ("mamba", "s4", "attention+mlp"), dropout: float = 0.0
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BackboneConfig(
            16, len(mixer), mixer=mixer, direction="bidirectional", d_state=4, dropout=dropout
        )
        self.backbone, self.head = Backbone(config), nn.Linear(16, 2)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).mean(dim=1)).float()


def gradients(model: Model, function: object, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    function(x).square().sum().backward()  # type: ignore[operator]
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_on_a_cpu_it_is_the_function_itself() -> None:
    model, x = Model(), torch.randn(2, 10, 16)
    graphed = GraphedTraining(model, model.logits)
    assert torch.equal(graphed(x), model.logits(x))
    for ours, theirs in zip(gradients(model, graphed, x), gradients(model, model.logits, x), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.parametrize("mixed", [False, True])
def test_replays_give_the_gradients_of_weights_as_they_are(mixed: bool) -> None:
    model = Model().cuda()
    graphed = GraphedTraining(model, model.logits)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if mixed else {"rtol": 1e-4, "atol": 1e-5}
    with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
        for batch in (4, 4, 3, 4):  # the third has a shape of its own
            x = torch.randn(batch, 10, 16, device="cuda")
            ours, theirs = gradients(model, graphed, x), gradients(model, model.logits, x)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, **tolerance)
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.05)


@pytest.mark.gpu
def test_dropout_draws_anew_and_nothing_is_captured_without_a_gradient() -> None:
    model = Model(dropout=0.5).cuda()
    graphed = GraphedTraining(model, model.logits)
    x = torch.randn(4, 10, 16, device="cuda")
    with torch.no_grad():
        graphed(x)
    first, second = graphed(x).clone(), graphed(x).clone()
    assert not torch.equal(first, second)
    torch.cuda.manual_seed(1)
    third = graphed(x).clone()
    torch.cuda.manual_seed(1)
    assert torch.equal(graphed(x), third)
