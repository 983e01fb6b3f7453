from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.models import SequenceModel
from genomics.vocabulary import CADUCEUS
from seqmamba.backbones import BackboneConfig
from seqmamba.cli.main import main
from seqmamba.training.metrics_csv import read_rows

# Lightning's own use of jsonargparse and of torch is not this project's to fix.
pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)
SMALL = ["--batch-size", "16", "--split", "random", "--accelerator", "cpu", "--no-baselines"]
SMALL += ["--set", "model.init_args.evaluation.bootstrap=20"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> MaskedModel:
    """A masked model; its folder is `.folder`."""
    torch.manual_seed(0)
    backbone = BackboneConfig(
        d_model=12, n_layers=2, d_state=2, direction="bidirectional", scan_impl="chunked"
    )
    model = MaskedModel(MaskedModelConfig(backbone))
    folder = tmp_path_factory.mktemp("pretrained")
    model.save_pretrained(folder)
    model.folder = str(folder)  # type: ignore[assignment]
    return model


def fit(class_fastas: tuple[str, str], run: Path, *options: str) -> int:
    return main(["genomics", "fit", *class_fastas, "-o", str(run), *SMALL, *options])


def weight(model: SequenceModel) -> torch.Tensor:
    return model.backbone.layers[0].mixer.in_proj.weight  # type: ignore[union-attr, return-value]


@pytest.mark.parametrize(
    ("options", "moves"),
    [([], True), (["--lora-rank", "2"], True), (["--freeze"], False), (["--lr-decay", "0.5"], True)],
)
def test_fit_begins_with_the_pretrained_backbone(
    class_fastas: tuple[str, str],
    pretrained: MaskedModel,
    tmp_path: Path,
    options: list[str],
    moves: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    folder = str(pretrained.folder)
    assert fit(class_fastas, run, "--init-from", folder, "--epochs", "1", "--lr", "0.01", *options) == 0
    assert "parameters are trained" in capsys.readouterr().err
    model = SequenceModel.from_pretrained(run / "pretrained")
    assert model.config.embedding == CADUCEUS
    assert model.config.backbone.d_model == 12
    before = pretrained.backbone.layers[0].mixer.in_proj.weight
    change = (weight(model) - before).abs().max().item()  # type: ignore[operator]
    assert (change > 0) == moves
    assert change < 0.1  # begun there, and not anywhere
    out = str(tmp_path / "out.tsv")
    assert main(["genomics", "predict", str(run), class_fastas[0], "-o", out]) == 0


def test_a_run_with_low_rank_updates_is_resumed(
    class_fastas: tuple[str, str], pretrained: MaskedModel, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["--init-from", str(pretrained.folder), "--lora-rank", "2", "--lr-decay", "0.9"]
    assert fit(class_fastas, run, *options, "--epochs", "1") == 0
    before = weight(SequenceModel.from_pretrained(run / "pretrained"))
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["trainer"]["max_epochs"] = 2
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    assert main(["genomics", "fit", "-o", str(run), "--resume"]) == 0
    assert len({row["epoch"] for row in read_rows(run / "metrics.csv")}) == 2
    change = (weight(SequenceModel.from_pretrained(run / "pretrained")) - before).abs().max().item()
    assert change < 0.1


def test_a_finished_run_needs_its_beginning_no_more(
    class_fastas: tuple[str, str], pretrained: MaskedModel, tmp_path: Path
) -> None:
    run, folder = tmp_path / "run", tmp_path / "pretrained"
    shutil.copytree(str(pretrained.folder), folder)
    assert fit(class_fastas, run, "--init-from", str(folder), "--lora-rank", "2", "--epochs", "1") == 0
    tested = (run / "predictions.tsv").read_text()
    shutil.rmtree(folder)
    (run / "predictions.tsv").unlink()
    assert main(["test", "--run", str(run)]) == 0
    assert (run / "predictions.tsv").read_text() == tested
    assert main(["predict", "--run", str(run)]) == 0
    assert str(folder) in (run / "config.yaml").read_text()  # where it began is still told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--d-model", "8"], "--d-model: not used with --init-from"),
        (["--frames", "3"], "frames: expected 1, got 3"),
        (["--lora-rank", "300"], "expected a rank below the width of some projection, got 300"),
    ],
)
def test_refuses_what_does_not_fit(
    class_fastas: tuple[str, str],
    pretrained: MaskedModel,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(class_fastas, tmp_path / "run", "--init-from", str(pretrained.folder), *options) == 2
    assert message in capsys.readouterr().err


def test_refuses_options_about_no_model(
    class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(class_fastas, tmp_path / "run", "--freeze") == 2
    assert "--freeze: needs --init-from" in capsys.readouterr().err
    assert fit(class_fastas, tmp_path / "run", "--init-from", str(tmp_path / "nothing")) == 2
    assert "nothing" in capsys.readouterr().err
