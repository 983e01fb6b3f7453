from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from sequence_files import random_sequence, write_classes, write_fasta

from genomics.augmentation import AugmentationConfig
from genomics.datasets.module import SequenceDataModule
from genomics.models import SequenceModelConfig
from genomics.splits import SplitConfig
from genomics.tasks import SequenceTask
from seqmamba.backbones import BackboneConfig
from seqmamba.errors import UserError
from seqmamba.training.optimisation import OptimiserConfig

BACKBONE = BackboneConfig(d_model=8, n_layers=1, d_state=2, direction="bidirectional", scan_impl="chunked")
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*")


def trainer(folder: Path, **options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{**quiet, **options},
    )


def table(folder: Path, labels: list[str], header: str) -> dict[str, str]:
    """Write n random sequences and a label table."""
    rng = np.random.default_rng(2)
    fasta = write_fasta(folder / "x.fa", [random_sequence(rng, 20) for _ in labels])
    rows = [header, *(f"seq{i}\t{label}" for i, label in enumerate(labels))]
    (folder / "y.tsv").write_text("\n".join(rows) + "\n")
    return {"fasta": str(fasta), "labels": str(folder / "y.tsv")}


def fit(task: SequenceTask, data: SequenceDataModule, folder: Path, **options: Any) -> dict[str, float]:
    runner = trainer(folder, **{"max_epochs": 1, **options})
    runner.fit(task, datamodule=data)
    return {name: float(value) for name, value in runner.callback_metrics.items()}


def test_task_and_classes_come_from_the_data(tmp_path: Path) -> None:
    pos, neg = write_classes(tmp_path, n=20)
    data = SequenceDataModule(
        {"neg": str(neg), "pos": str(pos)}, split=SplitConfig(by="random"), max_length=32, batch_size=8
    )
    task = SequenceTask(SequenceModelConfig(BACKBONE))
    logged = fit(task, data, tmp_path)
    assert task.exported.config.classes == ("neg", "pos")
    assert task.exported.config.max_length == 32
    assert {"train/loss", "val/loss", "val/accuracy", "val/mcc", "val/auroc", "train/seconds"} <= set(logged)
    assert np.isfinite(logged["val/loss"])


def test_a_planted_motif_is_learnt_on_either_strand(tmp_path: Path) -> None:
    pos, neg = write_classes(tmp_path, n=150)
    data = SequenceDataModule(
        {"neg": str(neg), "pos": str(pos)}, split=SplitConfig(by="random"), batch_size=16
    )
    torch.manual_seed(0)
    task = SequenceTask(
        SequenceModelConfig(replace(BACKBONE, scan_impl="auto"), stem_width=11, pooling="max", dropout=0.0),
        OptimiserConfig(lr=2e-2),
    )
    logged = fit(task, data, tmp_path, max_epochs=6)
    assert logged["val/auroc"] > 0.9


def test_augmented_training_learns_the_same_motif(tmp_path: Path) -> None:
    pos, neg = write_classes(tmp_path, n=150)
    data = SequenceDataModule(
        {"neg": str(neg), "pos": str(pos)}, split=SplitConfig(by="random"), batch_size=16
    )
    torch.manual_seed(0)
    task = SequenceTask(
        SequenceModelConfig(
            replace(BACKBONE, scan_impl="auto"), stem_width=(7, 11), pooling="max", dropout=0.0
        ),
        OptimiserConfig(lr=2e-2),
        label_smoothing=0.05,
        augmentation=AugmentationConfig(mutate=0.02, shift=3, mixup=0.2),
        cuda_graphs=True,  # which a CPU does without
    )
    assert fit(task, data, tmp_path, max_epochs=8)["val/auroc"] > 0.9
    assert task.hparams["augmentation"] == {"mutate": 0.02, "shift": 3, "mixup": 0.2}


def test_graphs_and_accumulated_gradients_do_not_go_together(tmp_path: Path) -> None:
    pos, neg = write_classes(tmp_path, n=10)
    data = SequenceDataModule({"neg": str(neg), "pos": str(pos)}, split=SplitConfig(by="random"))
    task = SequenceTask(SequenceModelConfig(BACKBONE), cuda_graphs=True)
    with pytest.raises(UserError, match=r"cuda_graphs: expected trainer\.accumulate_grad_batches 1"):
        fit(task, data, tmp_path, accumulate_grad_batches=2)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_targets_are_mixed_like_the_sequences(tmp_path: Path, kind: str) -> None:
    labels = [f"{i % 2}\t{i // 2 % 2}" for i in range(40)]
    data = SequenceDataModule(
        **table(tmp_path, labels, "name\ta\tb"), task=kind, split=SplitConfig(by="random"), batch_size=8
    )
    seen: list[torch.Tensor] = []

    class Watched(SequenceTask):
        def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(labels)
            return super()._loss(logits, labels)

    task = Watched(SequenceModelConfig(BACKBONE), augmentation=AugmentationConfig(mixup=1.0))
    logged = fit(task, data, tmp_path)
    mixed = torch.cat(seen)
    assert ((mixed > 0.01) & (mixed < 0.99)).any()
    assert np.isfinite(logged["train/loss"])


def test_multilabel(tmp_path: Path) -> None:
    labels = [f"{i % 2}\t{i // 2 % 2}" for i in range(40)]
    data = SequenceDataModule(
        **table(tmp_path, labels, "name\ta\tb"), task="multilabel", split=SplitConfig(by="random")
    )
    task = SequenceTask(SequenceModelConfig(BACKBONE), balance_classes=True)
    logged = fit(task, data, tmp_path)
    assert task.exported.config.classes == ("a", "b")
    assert task.exported.config.task == "multilabel"
    assert 0 <= logged["val/accuracy"] <= 1


def test_regression_is_standardised_with_the_training_part_only(tmp_path: Path) -> None:
    labels = [f"{1000 + 10 * i}.5" for i in range(40)]
    data = SequenceDataModule(
        **table(tmp_path, labels, "name\tlevel"), task="regression", split=SplitConfig(by="random")
    )
    task = SequenceTask(SequenceModelConfig(BACKBONE))
    logged = fit(task, data, tmp_path)
    train = data.records.labels[data.part("train")]
    assert task.exported.target_mean.item() == pytest.approx(train.mean(), rel=1e-5)
    assert task.exported.target_scale.item() == pytest.approx(train.std(), rel=1e-5)
    assert logged["train/loss"] < 10  # of standardised targets; the raw ones are near 1,200
    assert logged["val/mae"] > 10


@pytest.mark.parametrize("balanced", [False, True])
def test_class_weights_are_inverse_frequencies(tmp_path: Path, balanced: bool) -> None:
    labels = ["rare" if i % 5 == 0 else "common" for i in range(50)]
    data = SequenceDataModule(**table(tmp_path, labels, "name\tlabel"), split=SplitConfig(by="random"))
    task = SequenceTask(SequenceModelConfig(BACKBONE), balance_classes=balanced)
    fit(task, data, tmp_path)
    if not balanced:
        assert task.class_weights is None
        return
    assert task.class_weights is not None
    counts = np.bincount(data.records.labels[data.part("train")])
    assert task.class_weights.tolist() == pytest.approx((counts.sum() / (2 * counts)).tolist())


def test_recipe_and_data_must_agree_on_the_classes(tmp_path: Path) -> None:
    pos, neg = write_classes(tmp_path, n=10)
    data = SequenceDataModule({"neg": str(neg), "pos": str(pos)}, split=SplitConfig(by="random"))
    task = SequenceTask(SequenceModelConfig(BACKBONE, classes=("dog", "cat")))
    with pytest.raises(UserError, match="dog, cat"):
        fit(task, data, tmp_path)


def test_hyperparameters_are_plain_data() -> None:
    task = SequenceTask(SequenceModelConfig(BACKBONE), OptimiserConfig(lr=0.5))
    assert task.hparams["optimiser"]["lr"] == 0.5
    assert task.hparams["model"]["backbone"]["d_model"] == 8


def test_label_smoothing_is_checked() -> None:
    with pytest.raises(UserError, match="label_smoothing"):
        SequenceTask(label_smoothing=1.0)
