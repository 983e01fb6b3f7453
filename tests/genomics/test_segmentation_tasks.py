from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from annotated_genomes import planted, write_genbank

import seqmamba
from genomics.alphabet import decode
from genomics.annotations import read_labelled
from genomics.datasets.segments import SegmentDataModule
from genomics.features import read_gff3
from genomics.gene_decoding import decode_genes, segments
from genomics.gene_labels import CODING, UNKNOWN
from genomics.segmentation import SegmentationModel
from genomics.segmentation_results import SegmentationResults, write_gff3
from genomics.segmentation_tasks import SegmentationEvaluation
from recipes.genomics.gene_segmentation import figure
from seqmamba.cli.main import main
from seqmamba.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on small genomes, trained and tested at two contexts."""
    folder = tmp_path_factory.mktemp("segmentation")
    genomes = {
        name: str(write_genbank(folder / f"{name}.gb", *planted(seed, genes=30)))
        for seed, name in enumerate(("one", "other"))
    }
    backbone = {"d_model": 16, "n_layers": 1, "d_state": 4, "direction": "bidirectional"}
    config = {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": {
            "class_path": "genomics.segmentation_tasks.SegmentationTask",
            "init_args": {
                "model": {
                    "backbone": {"class_path": "seqmamba.backbones.BackboneConfig", "init_args": backbone}
                },
                "balance_classes": True,
                "evaluation": {"bootstrap": 50},
            },
        },
        "data": {
            "class_path": "genomics.datasets.segments.SegmentDataModule",
            "init_args": {
                "genomes": {"one": genomes["one"]},
                "unseen": {"other": genomes["other"]},
                "split": {"test_bases": 400, "validation_bases": 200},
                "windows": {"context": 128, "bases_per_epoch": 4096, "bases_per_batch": 512},
            },
        },
        "trainer": {"max_epochs": 3},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", str(folder / "config.yaml"), "--config", "_trainer/cpu", "--traceback"]
    assert main(["fit", *words]) == 0
    assert main(["test", *words]) == 0
    assert main(["test", *words, "--data.init_args.windows.context", "512"]) == 0
    return folder / "run"


def test_results_of_every_context(run: Path) -> None:
    results = SegmentationResults.load(run / "results.json")
    assert [each.context for each in results.evaluations] == [128, 512]
    assert results.seed == 1
    assert results.model["scheme"] == "coding"
    for each in results.evaluations:
        assert [(group.genome, group.unseen) for group in each.groups] == [("one", False), ("other", True)]
        assert each.groups[0].bases == 400
        for group in each.groups:
            accuracy = group.metrics["accuracy"]
            assert accuracy.low <= accuracy.value <= accuracy.high
            assert "gene_exact_f1" in group.metrics
    again = SegmentationResults.load(run / "results.json")
    assert again.merged(results) == results  # a pass that is repeated replaces the earlier one


def test_they_are_those_of_the_exported_model(run: Path) -> None:
    """The best checkpoint, both strands, windows side by side: accuracy counted by hand."""
    model = seqmamba.from_pretrained(run / "pretrained")
    assert isinstance(model, SegmentationModel)
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    module = SegmentDataModule({"one": data["genomes"]["one"]}, {"other": data["unseen"]["other"]})
    module.split = type(module.split)(400, 200)
    module.setup()
    for region, group in zip(
        module.regions["test"],
        SegmentationResults.load(run / "results.json").evaluations[0].groups,
        strict=True,
    ):
        truth = region.chromosome.labels[region.start : region.end]
        tokens = torch.from_numpy(region.chromosome.tokens[region.start : region.end].astype(np.int64))
        with torch.inference_mode():
            rows = [model(tokens[None, i : i + 128])[0] for i in range(0, len(tokens), 128)]
        scores = torch.cat(rows).log_softmax(-1)
        known = truth != UNKNOWN
        right = (scores.argmax(-1).numpy() == truth)[known].mean()
        assert group.metrics["accuracy"].value == pytest.approx(right, abs=2 / known.sum())


def test_predicted_genes_can_be_read_again(run: Path) -> None:
    """The file is that of the last pass, at 512 bases."""
    model = seqmamba.from_pretrained(run / "pretrained")
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    module = SegmentDataModule({"other": data["unseen"]["other"]})
    module.split = type(module.split)(10, 10)
    module.setup()
    tokens = torch.from_numpy(module.regions["test"][0].chromosome.tokens.astype(np.int64))
    with torch.inference_mode():
        rows = [model(tokens[None, i : i + 512])[0] for i in range(0, len(tokens), 512)]
    scores = torch.cat(rows).log_softmax(-1).half().numpy()
    decoded = decode_genes(scores, module.regions["test"][0].chromosome.tokens, CODING)
    expected = [(s.start, s.end, s.strand, s.phase) for s in segments(decoded)]
    lines = (run / "predictions.gff3").read_text().splitlines()
    assert lines[0] == "##gff-version 3"
    if expected:
        found = [(f.start, f.end, f.strand, f.phase) for f in read_gff3(run / "predictions.gff3")]
        assert found[-len(expected) :] == expected


def test_results_that_cannot_be_read_are_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "results.json").write_text("{}")
    words = ["--config", str(run.parent / "config.yaml"), "--config", "_trainer/cpu", "--run", str(copy)]
    assert main(["test", *words, "--traceback"]) == 0
    assert "holds no results of gene segmentation ('evaluations'); replaced" in capsys.readouterr().out
    (evaluation,) = SegmentationResults.load(copy / "results.json").evaluations
    expected = SegmentationResults.load(run / "results.json").evaluations[0]
    assert (evaluation.context, evaluation.groups) == (128, expected.groups)


def test_genes_of_whole_genomes(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    words = ["--config", str(run.parent / "config.yaml"), "--config", "_trainer/cpu", "--run", str(copy)]
    assert main(["predict", *words, "--model.init_args.evaluation.edge", "0.0", "--traceback"]) == 0
    assert (copy / "results.json").read_bytes() == (run / "results.json").read_bytes()
    lines = (copy / "predictions.gff3").read_text().splitlines()[1:]
    model = seqmamba.from_pretrained(copy / "pretrained")
    data = yaml.safe_load((copy / "config.yaml").read_text())["data"]["init_args"]
    expected = 0
    for path in (data["genomes"]["one"], data["unseen"]["other"]):
        (chromosome,) = read_labelled(path, CODING)
        tokens = torch.from_numpy(chromosome.tokens.astype(np.int64))
        with torch.inference_mode():
            rows = [model(tokens[None, i : i + 128])[0] for i in range(0, len(tokens), 128)]
        scores = torch.cat(rows).log_softmax(-1).half().numpy()
        expected += len(segments(decode_genes(scores, chromosome.tokens, CODING, edge=0)))
    assert len(lines) == expected


def test_a_run_is_tracked_along_a_genome(run: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    (chromosome,) = read_labelled(data["unseen"]["other"], CODING)
    (tmp_path / "x.fa").write_text(f">chr9\n{decode(chromosome.tokens)}\n")
    words = ["genomics", "track", str(run), "--genome", str(tmp_path / "x.fa"), "--target", "cds-1"]
    words += ["--window", "200", "--overlap", "0", "-o", str(tmp_path / "x.bedGraph"), "--traceback"]
    assert main(words) == 0
    values = np.full(len(chromosome.tokens), np.nan)
    for line in (tmp_path / "x.bedGraph").read_text().splitlines():
        if line.startswith("chr9"):
            _, start, end, value = line.split("\t")
            values[int(start) : int(end)] = float(value)
    model = seqmamba.from_pretrained(run / "pretrained")
    tokens = torch.from_numpy(chromosome.tokens.astype(np.int64))
    with torch.inference_mode():
        rows = [model.predict(tokens[None, i : i + 200])[0] for i in range(0, len(tokens), 200)]
    expected = torch.cat(rows)[:, CODING.of("cds-1")].numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-5)


def test_what_was_logged(run: Path) -> None:
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", "val/accuracy", "val/mcc"} <= set(header)


def test_the_figure_of_accuracy_against_context(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = figure.collect([run])
    assert {name: sorted(line) for name, line in lines.items()} == {
        "one (held out)": [128, 512],
        "other (unseen)": [128, 512],
    }
    figure.main([str(run), "-o", str(tmp_path / "x.svg")])
    printed = capsys.readouterr().out.splitlines()
    for line, (name, groups) in zip(printed, lines.items(), strict=True):
        gain = groups[512].metrics["accuracy"].value - groups[128].metrics["accuracy"].value
        assert line.startswith(f"{name}: 512 over 128 bases {gain:+.4f} (")
    drawn = (tmp_path / "x.svg").read_text()
    assert drawn.startswith("<?xml")
    with pytest.raises(SystemExit, match="--metric: expected one of accuracy"):
        figure.main([str(run), "-o", str(tmp_path / "y.svg"), "--metric", "auroc"])
    with pytest.raises(SystemExit, match="holds no results of gene segmentation"):
        figure.main([str(tmp_path), "-o", str(tmp_path / "y.svg")])


def test_files_that_are_no_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for content in ("", "[]", "{}", json.dumps({"evaluations": [{"groups": [1]}]}), '{"evaluations": 3}'):
        path.write_text(content)
        with pytest.raises(UserError, match="holds no results of gene segmentation"):
            SegmentationResults.load(path)


def test_names_in_gff3_are_escaped(tmp_path: Path) -> None:
    name = "chr 1;a\t%"
    genes = segments(np.array([0, 1, 2, 3, 0], dtype=np.int8))
    assert write_gff3(tmp_path / "x.gff3", [(name, 100, genes)]) == 1
    (feature,) = read_gff3(tmp_path / "x.gff3")
    assert (feature.chrom, feature.start, feature.end, feature.strand) == (name, 101, 104, "+")


@pytest.mark.parametrize("name", ["bootstrap", "edge"])
def test_refused_evaluations(name: str) -> None:
    options: dict[str, Any] = {name: -1}
    with pytest.raises(UserError, match=rf"evaluation\.{name}: expected zero or more, got -1"):
        SegmentationEvaluation(**options)
