from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tones import write_folder

from audio.datasets import WaveformDataModule
from audio.few_labels import LabelConfig, keep_labels
from seqmamba.errors import UserError

NAMES = ("a", "b", "c")


def parts(count: int = 90) -> np.ndarray:
    return np.array(["train", "train", "validation", "test", "train"] * (count // 5))


def labels(count: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(3, size=count)


def kept(per_class: int, seed: int = 0) -> np.ndarray:
    assignment, _ = keep_labels(parts(), labels(), NAMES, LabelConfig(per_class, seed=seed))
    return np.flatnonzero(assignment == "train")


def test_each_class_keeps_as_many_and_other_parts_keep_all() -> None:
    assignment, said = keep_labels(parts(), labels(), NAMES, LabelConfig(4, seed=3))
    training = assignment == "train"
    assert np.bincount(labels()[training]).tolist() == [4, 4, 4]
    for part in ("validation", "test"):
        assert np.array_equal(assignment == part, parts() == part)
    assert (assignment[~training & (parts() == "train")] == "").all()
    assert said == "labels: 4 a class, 12 of 54 training recordings, seed 3"


def test_the_seed_decides_and_more_labels_contain_fewer() -> None:
    assert np.array_equal(kept(4), kept(4))
    assert not np.array_equal(kept(4), kept(4, seed=1))
    assert set(kept(4)) < set(kept(9))


def test_a_share_is_taken_of_each_class_and_of_numbers_at_random() -> None:
    assignment, said = keep_labels(parts(), labels(), NAMES, LabelConfig(share=0.25))
    have = np.bincount(labels()[parts() == "train"])
    assert np.bincount(labels()[assignment == "train"]).tolist() == [round(0.25 * n) for n in have]
    assert "0.25 of them" in str(said)
    values = np.random.default_rng(1).standard_normal((90, 2)).astype(np.float32)
    assignment, _ = keep_labels(parts(), values, ("x", "y"), LabelConfig(share=0.5))
    assert (assignment == "train").sum() == 27
    everything, said = keep_labels(parts(), values, ("x", "y"), LabelConfig())
    assert np.array_equal(everything, parts())
    assert said is None


def test_of_several_labels_each_has_enough() -> None:
    several = (np.random.default_rng(2).random((90, 3)) < (0.5, 0.3, 0.2)).astype(np.float32)
    assignment, _ = keep_labels(parts(), several, NAMES, LabelConfig(3))
    count = several[assignment == "train"].sum(axis=0)
    assert (count >= 3).all()
    assert (assignment == "train").sum() <= 9


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(UserError, match="labels: expected per_class or share, got both"):
        LabelConfig(3, share=0.5)
    with pytest.raises(UserError, match=r"labels.share: expected a number above 0, 1 at most, got 0"):
        LabelConfig(share=0)
    few = np.where(np.arange(90) == 0, 2, labels() % 2)
    with pytest.raises(UserError, match="at most 1, which is all that c has in training, got 2"):
        keep_labels(parts(), few, NAMES, LabelConfig(2))
    with pytest.raises(UserError, match="regression has no classes"):
        keep_labels(parts(), 0.5 * np.ones((90, 1), np.float32), ("x",), LabelConfig(2))


def test_the_data_module_reports_what_it_left_out(tmp_path: Path) -> None:
    data = WaveformDataModule(str(write_folder(tmp_path / "set")), labels=LabelConfig(2, seed=5))
    data.setup()
    assert np.bincount(data.labels[data.part("train")]).tolist() == [2, 2, 2]
    assert any("labels: 2 a class, 6 of" in note and "seed 5" in note for note in data.notes)
    assert sum(len(batch.index) for batch in data.test_dataloader()) > 0
    assert {int(i) for batch in data.train_dataloader() for i in batch.index} <= set(data.part("train"))
