"""Masked pretraining as a task: what a step counts, what it logs, and that it goes on where it stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from masked_recipe import BACKBONE, write_recipe
from safetensors.torch import load_file
from waveform_data import SinesDataModule

from audio.frame_targets import FrameTargetConfig
from audio.masked_model import MaskedWaveformModel, MaskedWaveformModelConfig
from audio.masking import MaskingConfig
from audio.pretraining_task import MaskedPretrainingTask
from audio.stems import StridedStemConfig
from seqmamba import from_pretrained
from seqmamba.backbones import BackboneConfig
from seqmamba.cli.main import main
from seqmamba.errors import UserError
from seqmamba.training.metrics_csv import read_rows

pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)


def task_with_model(kind: str = "codes", **masking: Any) -> MaskedPretrainingTask:
    torch.manual_seed(0)
    targets = FrameTargetConfig(kind, mels=10, codebooks=2, codes=4)  # type: ignore[arg-type]
    config = MaskedWaveformModelConfig(
        BackboneConfig(**BACKBONE), StridedStemConfig((16,), (8,), ()), targets, rate=1000
    )
    task = MaskedPretrainingTask(config, masking=MaskingConfig(span_seconds=0.016, **masking))
    task.model = MaskedWaveformModel(config).eval()
    task.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    return task


@pytest.mark.parametrize("kind", ["codes", "log_mel"])
def test_the_loss_is_the_mean_over_hidden_frames_of_true_samples(kind: str) -> None:
    task, batch = task_with_model(kind), SinesDataModule()._batch([0, 1, 2])
    torch.manual_seed(5)
    loss = task.training_step(batch, 0)
    torch.manual_seed(5)
    guessed = task._guess(batch.waveform, batch.lengths, None)
    frames = task.model.frame_lengths(batch.lengths)
    assert not guessed.hidden[torch.arange(guessed.hidden.shape[1]) >= frames[:, None]].any()
    losses = task.model.targets.losses(guessed.guess, guessed.truth)
    torch.testing.assert_close(loss, losses[guessed.hidden].mean())
    loud = batch._replace(waveform=batch.waveform.clone())
    for row, length in enumerate(batch.lengths):
        loud.waveform[row, length:] = 0.9  # what stands in the padding does not matter
    torch.manual_seed(5)
    torch.testing.assert_close(task.training_step(loud, 0), loss)


def test_a_batch_with_nothing_to_hide_has_no_loss_and_no_nan() -> None:
    task = task_with_model()
    batch = SinesDataModule()._batch([0])
    one = batch._replace(waveform=batch.waveform[:, :8], lengths=torch.tensor([8]))
    loss = task.training_step(one, 0)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in task.parameters())


def test_perplexities_tell_use_from_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_with_model()
    monkeypatch.setattr(MaskedPretrainingTask, "trainer", _OneDevice())
    truth = torch.arange(4).repeat(10)[None, :, None].expand(1, 40, 2)
    hidden = torch.ones(1, 40, dtype=torch.bool)
    logits = torch.nn.functional.one_hot(truth, 4).float().flatten(2)
    task._sums = [task._count(_guessed(10 * logits, truth, hidden))]
    scores = task._scores()
    assert scores["accuracy"] == 1
    assert scores["code_perplexity"] == pytest.approx(4)
    assert scores["guess_perplexity"] == pytest.approx(4)
    always = torch.zeros_like(logits)
    always[..., [1, 4]] = 10.0
    task._sums = [task._count(_guessed(always, truth, hidden))]
    scores = task._scores()
    assert scores["accuracy"] == 0.25
    assert scores["guess_perplexity"] == pytest.approx(1)
    assert scores["loss"] > math.log(4)
    # over batches the counts are added, not the perplexities
    halves = [_guessed(10 * logits[:, rows], truth[:, rows], hidden[:, rows]) for rows in ([0, 4], [1, 5, 9])]
    task._sums = [task._count(half) for half in halves]
    expected = math.exp(-0.4 * math.log(0.4) - 0.6 * math.log(0.6))
    assert task._scores()["code_perplexity"] == pytest.approx(expected)
    task = task_with_model("log_mel")
    energies = torch.randn(1, 40, 10)
    task._sums = [task._count(_guessed(0.1 * energies, energies, hidden))]
    assert task._scores()["guess_spread"] == pytest.approx(0.1)


class _OneDevice:
    """Stands for a trainer of one device."""

    @property
    def strategy(self) -> _OneDevice:
        return self

    def reduce(self, x: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return x


def _guessed(guess: torch.Tensor, truth: torch.Tensor, hidden: torch.Tensor) -> Any:
    from audio.pretraining_task import Guessed

    return Guessed(guess, truth, hidden)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_recipe(tmp_path)
    assert main(["fit", "--config", config, "--run", str(tmp_path / "whole")]) == 0
    original, calls = MaskedPretrainingTask.training_step, []

    def killed(self: MaskedPretrainingTask, batch: Any, batch_idx: int) -> torch.Tensor:
        calls.append(batch_idx)
        if len(calls) == 5:  # in the second epoch of three steps
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    monkeypatch.setattr(MaskedPretrainingTask, "training_step", killed)
    run = str(tmp_path / "killed")
    assert main(["fit", "--config", config, "--run", run]) == 130
    assert main(["fit", "--config", f"{run}/config.yaml", "--run", run, "--ckpt_path", "last"]) == 0
    assert len(calls) == 5 + 6
    whole, resumed = (
        load_file(tmp_path / name / "pretrained" / "model.safetensors") for name in ("whole", "killed")
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    def losses(name: str) -> list[str]:
        return [row["val/loss"] for row in read_rows(tmp_path / name / "metrics.csv") if "val/loss" in row]

    assert losses("whole") == losses("killed")
    assert isinstance(from_pretrained(tmp_path / "whole" / "pretrained"), MaskedWaveformModel)


def test_refuses_a_length_where_the_data_module_cuts() -> None:
    from audio.augmentation import AugmentationConfig

    with pytest.raises(UserError, match=r"augmentation.seconds: expected none, got a length"):
        MaskedPretrainingTask(augmentation=AugmentationConfig(seconds=1.0))
