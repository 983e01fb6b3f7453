"""``seqmamba bench plan``: formulas, what was fitted, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import plan_points
import pytest

from seqmamba.backbones import BackboneConfig
from seqmamba.benchmarks.plan import Job, plan
from seqmamba.benchmarks.plan_fit import fit, leave_one_out, read_points
from seqmamba.benchmarks.plan_model import (
    Constants,
    Layout,
    Links,
    Model,
    Rates,
    Weights,
    Workload,
    exchanged_bytes,
)
from seqmamba.cli.main import main

CONFIG = BackboneConfig(256, 16, direction="bidirectional")
RATES, POINTS, MEMORY = read_points()
FITTED = Model(RATES, fit(RATES, POINTS))
FREE = Model(Rates(*((0.0, 0.0),) * 4, operations=1e30), Constants(0, 0, 0, 0, 0, 0), Links(8, 100.0, 10.0))


def test_the_package_carries_what_the_result_files_say() -> None:
    same = plan_points.TARGET.read_text() == plan_points.text()
    assert same, "python tests/benchmarks/plan_points.py brings it up to date"


def test_steps_with_a_plan_between_all_and_nothing_are_left_out() -> None:
    row = {"width": 118, "layers": 4, "length": 1024, "batch": 256, "seconds": 0.1, "peak_gib": 9.0}
    plan = {"recomputed": 0, "scans": 0, "offloaded": 0, "strands": "together"}
    rows = [
        row,
        {**row, "plan": {**plan, "recomputed": 4}},
        {**row, "plan": {**plan, "recomputed": 2}},
        {**row, "plan": {**plan, "strands": "one after the other"}},
        {**row, "peer": True},
        {"width": 118, "layers": 4, "length": 1024, "failure": "OutOfMemoryError"},
    ]
    found = plan_points.runs_of_one({"device": "NVIDIA H200", "rows": rows})
    assert [run["layout"]["recompute"] for run in found] == [False, True]
    assert found[0]["layout"]["windows"] == 256
    assert found[0]["gpu"] == "H200"


def test_constants_are_found_again_in_steps_that_follow_the_formulas() -> None:
    true = Constants(1.2, 2e-3, 3e-2, 0.1, 3.5, 5.0)
    model = Model(RATES, true)
    made = [
        replace(
            point,
            seconds=model.seconds(point.workload, point.weights, point.layout),
            gib=model.bytes(point.workload, point.weights, point.layout) / 2**30,
        )
        for point in POINTS
    ]
    found = fit(RATES, made)
    for name in ("slowdown", "launch", "exchange", "kept", "around"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=1e-3)
    assert found.waiting == pytest.approx(true.waiting, abs=0.01)


def test_the_fit_is_near_what_was_measured() -> None:
    times, memories = leave_one_out(RATES, POINTS)
    assert len(times) == len(POINTS)
    assert sorted(abs(error.relative) for error in times)[len(times) // 2] < 0.05
    assert max(abs(error.relative) for error in times) < 0.3
    assert max(abs(error.relative) for error in memories) < 0.03


def test_volumes() -> None:
    weights, workload = Weights(1000, 1000), Workload(CONFIG, 4096, 2)
    # a ring of 4 sends 2 x 3/4 of 4,000 bytes at 100 bytes a second, or 3 x 3/4
    assert FREE.seconds(workload, weights, Layout(4)) == pytest.approx(60)
    assert FREE.seconds(workload, weights, Layout(4, sharded=True, batches=2)) == pytest.approx(180)
    assert FREE.seconds(workload, weights, Layout(16)) == pytest.approx(2 * 15 / 16 * 4000 / 10)
    # both strands and directions: 512 states of 16 float32 numbers with their decays from three others
    halo = 4 * 2 * 512 * 3
    assert exchanged_bytes(workload, Layout(4, 4)) == 4 * 2 * 4 * 512 * 16 * 3 + halo
    sharded, whole = (FREE.bytes(workload, weights, Layout(8, sharded=x)) for x in (True, False))
    assert whole - sharded == pytest.approx(16_000 * 7 / 8 - 4000 / 16)


def test_weights_are_counted_without_building_the_model() -> None:
    weights = Weights.of(CONFIG)
    assert weights.parameters == 7_721_216
    assert weights.products < weights.parameters


def test_layouts_share_out_all_gpus_and_fit() -> None:
    job = Job(Workload(CONFIG, 2**20, 2), 10**12)
    found = plan(job, FITTED, MEMORY["H100"], [8, 64])
    assert {each.layout.gpus for each in found} == {8, 64}
    assert {each.layout.context for each in found} == {1, 2, 4, 8}
    for each in found:
        assert each.layout.groups * each.layout.context == each.layout.gpus
        assert each.gib <= 0.9 * MEMORY["H100"]
        assert each.days * 86_400 * each.tokens_a_second == pytest.approx(job.tokens)
    kept = [each for each in found if not each.layout.recompute]
    assert {each.layout.context for each in kept} == {8}  # else a window's activations are too large


def test_a_batch_is_made_of_accumulated_ones() -> None:
    job = Job(Workload(CONFIG, 2**17, 2), 10**12, batch=2**22)
    found = plan(job, FITTED, MEMORY["H100"], [8])
    assert {each.tokens_a_step for each in found} == {2**22}
    assert {each.layout.windows * each.layout.batches * each.layout.groups for each in found} == {32}


def test_a_table_and_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "plan", "--length", "131072", "--strands", "2", "--gpus", "8", "512", "--gpu", "H200"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.count("*\n") == 2
    assert "each point predicted from the others" in text
    assert "H200 is taken to be as fast" in text
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["estimates"]) == 16
    assert all(f"{each['tokens_a_second']:,.0f}" in text for each in document["estimates"])
    assert len(document["leave_one_out"]["seconds"]) == len(POINTS)


def test_a_recipe_says_what_to_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "plan", "--config", "genomics/pretrain_human", "--gpus", "8"]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert "6 blocks of 128 channels, bidirectional, 1 strand; windows of 256 tokens, 3.28e+08 in all" in head
    (tmp_path / "other.yaml").write_text("model: {}\n")
    assert main(["bench", "plan", "--config", str(tmp_path / "other.yaml")]) == 2
    assert "expected model.init_args.model.backbone with d_model and n_layers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--length", "33554432", "--gpus", "8", "16"], "do not fit on 8, 16 GPUs: at best they take"),
        (["--batch", "131072", "--gpus", "512", "--node", "1"], "no whole number of windows"),
        (["--batch", "1000"], "batch: expected a multiple of the length 131,072, got 1,000"),
        (["--gpu", "A100"], "--gpu: expected one of H100, H200, got A100"),
        (["--length", "0"], "length: expected a whole number >= 1, got 0"),
        (["--within", "0"], "--within: expected a number > 0, got 0"),
        (["--config", "genomics/nothing"], "there is neither such a file nor such a recipe"),
        (["--gpus", "0"], "gpus: expected a whole number >= 1, got 0"),
    ],
)
def test_refuses_in_a_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "plan", "--strands", "2", *words]) == 2
    assert message in capsys.readouterr().err


def test_other_mixers_are_refused() -> None:
    with pytest.raises(Exception, match="rates are known of the mixer mamba only, got attention"):
        Workload(BackboneConfig(64, 2, mixer="attention"), 1024)
