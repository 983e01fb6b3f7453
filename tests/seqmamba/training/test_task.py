from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from tiny_recipe import TinyData, TinyTask

from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.task import Task


@dataclass(frozen=True)
class Inner:
    pattern: tuple[str, ...] = ("mamba", "attention")


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    folder: Path = Path("data")
    size: np.int64 = np.int64(3)  # noqa: RUF009


def trainer(**options: object) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def test_hyper_parameters_are_plain_data() -> None:
    task = Task()
    task.record_hyperparameters(config=Outer(), lr=0.1)
    assert dict(task.hparams) == {
        "config": {"inner": {"pattern": ["mamba", "attention"]}, "folder": "data", "size": 3},
        "lr": 0.1,
    }


def test_hyper_parameters_refuse_objects() -> None:
    with pytest.raises(TypeError, match="plain data or a dataclass of it, got Linear"):
        Task().record_hyperparameters(model=torch.nn.Linear(1, 1))


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning")
@pytest.mark.parametrize(("limit", "expected"), [(0.01, 0.01), (0.0, None)])
def test_the_gradient_is_clipped_to_the_configured_norm(limit: float, expected: float | None) -> None:
    norms: list[float] = []

    class Watched(TinyTask):
        def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            if gradients:
                norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))

    trainer(max_epochs=1, limit_val_batches=0).fit(
        Watched(optimiser=OptimiserConfig(grad_clip=limit)), TinyData()
    )
    assert norms
    if expected is None:
        assert max(norms) > 0.1
    else:
        assert max(norms) == pytest.approx(expected, rel=1e-3)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning")
def test_training_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="length of the training is unknown"):
        trainer(max_epochs=-1, limit_val_batches=0).fit(TinyTask(), TinyData())
