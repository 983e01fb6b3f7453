from __future__ import annotations

import json

import pytest
import torch

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.cli.main import main

QUICK = ("--length", "30", "--steps", "20000")


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Backbone(BackboneConfig(d_model=8, n_layers=1, d_state=4))


def test_a_sound_model_passes(backbone, tmp_path, capsys):
    backbone.save_pretrained(tmp_path / "run" / "pretrained")
    assert main(["check", str(tmp_path / "run"), *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert sum(line.startswith("  pass") for line in lines) == 8


def test_a_model_that_cannot_be_trusted_ends_with_1(backbone, tmp_path, capsys):
    with torch.no_grad():
        backbone.norm_f.weight[3] = torch.nan
    backbone.save_pretrained(tmp_path)
    assert main(["check", str(tmp_path), "--json", *QUICK]) == 1
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["ok"] is False
    failed = {check["name"] for check in content["checks"] if check["outcome"] == "fail"}
    assert {"chunks = whole", "steps = whole", "finite, float32"} <= failed
    assert "error: finite, float32: 300 is above 0" in captured.err


def test_what_is_no_model_ends_with_2(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "expected a model folder" in capsys.readouterr().err
