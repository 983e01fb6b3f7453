from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_models import bases, build

import seqmamba
from genomics.ensembles import EnsembleConfig, EnsembleModel
from genomics.inference import load_predictor
from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_it_predicts_the_mean_and_comes_back_from_its_files(tmp_path: Path, task: str) -> None:
    members = [build(task=task, max_length=50) for _ in range(3)]
    for number, member in enumerate(members):
        with torch.no_grad():
            member.head.bias.add_(float(number))
    members[1].target_mean.fill_(4.0)
    tokens, lengths = bases(4, 20), torch.tensor([20, 7, 13, 1])
    expected = torch.stack([member.predict(tokens, lengths) for member in members]).mean(dim=0)
    ensemble = EnsembleModel.of(members)
    torch.testing.assert_close(ensemble.predict(tokens, lengths), expected)
    assert (ensemble.config.task, ensemble.config.classes, ensemble.config.max_length) == (
        task,
        ("a", "b"),
        50,
    )

    ensemble.save_pretrained(tmp_path)
    loaded = seqmamba.from_pretrained(tmp_path)
    assert isinstance(loaded, EnsembleModel)
    assert loaded.config == ensemble.config
    torch.testing.assert_close(loaded.predict(tokens, lengths), expected)
    torch.testing.assert_close(load_predictor(tmp_path, "cpu").predict(tokens, lengths), expected)
    with torch.no_grad():
        members[0].head.bias.add_(1.0)
    torch.testing.assert_close(ensemble.predict(tokens, lengths), expected)  # a copy of the weights


def test_a_model_that_classifies_nothing_is_refused(tmp_path: Path) -> None:
    Backbone(BackboneConfig(8, 1)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected a model that classifies sequences, got a Backbone"):
        load_predictor(tmp_path, "cpu")


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="members"):
        EnsembleConfig(build().config, 0)
