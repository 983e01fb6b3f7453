"""``seqmamba bench generate``: a check before every time, the peer on the same weights, honest failures."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from seqmamba.backbones import BackboneConfig, MultiScaleConfig
from seqmamba.benchmarks import generation
from seqmamba.benchmarks.floors import Limits
from seqmamba.benchmarks.generation import GenerationSettings, TransformersSteps, measure, start_decoder
from seqmamba.cli import bench_generate
from seqmamba.cli.main import main
from seqmamba.errors import UserError

ROOT = Path(__file__).parents[2]
SMALL = BackboneConfig(16, 2, d_state=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no bandwidth and repeat little."""
    monkeypatch.setattr("seqmamba.benchmarks.floors.measure_limits", lambda device: Limits(1e10, None))
    monkeypatch.setattr(generation, "_STEPS", 8)


def settings(backbone=SMALL, dtype=torch.float32, batches=(1, 3)):
    return GenerationSettings(backbone, 11, torch.device("cpu"), dtype, batches, (20,), seconds=0.01)


def test_every_row_is_checked_and_timed():
    pytest.importorskip("transformers")
    rows = list(measure(settings()))
    absent = [row for row in rows if row["name"] == "mamba-ssm"]
    assert [row["status"] for row in absent] == ["absent", "absent"]
    assert "it generates on a GPU only" in absent[0]["detail"]
    rows = [row for row in rows if row not in absent]
    assert [(row["name"], row["batch"]) for row in rows] == [
        ("transformers", 1),
        ("transformers", 3),
        ("steps", 1),
        ("steps", 3),
    ]
    for row in rows:
        assert row["status"] == "ok", row
        assert row["error"] < 1e-5
        times = row["microseconds_per_step"]
        assert 0 < times["best"] <= times["median"] <= times["worst"]
        assert row["tokens_per_second"] == pytest.approx(1e6 * row["batch"] / times["median"])
        assert row["state_bytes"] == 2 * 4 * 32 * (3 + 4)  # layers, float32, channels, convolution and scan
    assert [row["ratio"] for row in rows[:2]] == [1, 1]
    assert rows[3]["ratio"] == pytest.approx(rows[3]["tokens_per_second"] / rows[1]["tokens_per_second"])


def test_the_peer_goes_on_where_its_prompt_ends():
    """Its steps draw what ours draw, over several calls."""
    pytest.importorskip("transformers")
    model, prompt = settings().build(), settings().prompt(16)
    ours, peer = start_decoder(model, prompt, 2, graph=False), TransformersSteps(model, prompt, 2)
    for n_tokens in (3, 1, 7):
        expected, block = ours.advance(n_tokens), peer.advance(n_tokens)
        assert torch.equal(block.tokens, expected.tokens)
        torch.testing.assert_close(block.log_probs, expected.log_probs, atol=1e-4, rtol=0)


def test_a_wrong_result_has_no_time(monkeypatch):
    def broken(model, prompt, batch):
        decoder = start_decoder(model, prompt, batch, graph=False)
        decoder.model = settings(BackboneConfig(16, 1, d_state=4)).build()
        decoder._eager_state = start_decoder(decoder.model, prompt, batch, graph=False)._eager_state
        return decoder

    monkeypatch.setattr(generation, "candidates", lambda settings: {"steps": broken})
    (row,) = measure(settings(batches=(1,)))
    assert row["status"] == "FAIL"
    assert "log-probabilities differ by more than 0.001" in row["detail"]
    assert "tokens_per_second" not in row


def test_a_model_that_the_peer_does_not_have_leaves_ours_to_be_timed():
    pytest.importorskip("transformers")
    rows = list(measure(settings(MultiScaleConfig(SMALL, pool=(2, 3)), batches=(2,))))
    outcomes = [(row["name"], row["status"]) for row in rows]
    assert outcomes == [("mamba-ssm", "absent"), ("transformers", "absent"), ("steps", "ok")]
    assert "has no such model: backbone: expected one stack" in rows[1]["detail"]
    assert rows[2]["ratio"] is None


def test_a_failure_does_not_hide_the_other_rows(monkeypatch):
    def failing(model, prompt, batch):
        if batch == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried a lot\nand more")
        return start_decoder(model, prompt, batch, graph=False)

    monkeypatch.setattr(generation, "candidates", lambda settings: {"steps": failing})
    monkeypatch.setattr(generation, "_error", lambda *arguments: 0.0)
    rows = list(measure(settings()))
    assert [row["status"] for row in rows] == ["ok", "OOM"]
    assert rows[1]["detail"] == "CUDA out of memory. Tried a lot"


def test_half_precision_passes_its_check():
    (row,) = measure(settings(dtype=torch.bfloat16, batches=(2,)), ["steps"])
    assert row["status"] == "ok", row
    assert row["error"] > 1e-5


def test_unknown_candidates_are_named():
    with pytest.raises(UserError, match="--impls takes mamba-ssm, transformers, steps, got graph"):
        list(measure(settings(), ["graph"]))


SMALL_MODEL = ["--d-model", "8", "--layers", "1", "--vocab", "7"]
QUICK = ["--batch", "2", "--position", "5", "--device", "cpu", "--seconds", "0.01"]


def test_the_verb_prints_a_table_and_writes_a_file(tmp_path: Path, capsys, monkeypatch):
    file = tmp_path / "generation.json"
    command = [
        "bench",
        "generate",
        *SMALL_MODEL,
        *QUICK,
        "--mixer",
        "mamba",
        "--pool",
        "2",
        "3",
        "--impls",
        "steps",
    ]
    monkeypatch.setattr(sys, "argv", ["seqmamba", *command])
    assert main([*command, "-o", str(file)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "float32" in out[0]
    assert out[1].split()[:3] == ["batch", "position", "us/step"]
    assert out[2].split()[:3] == ["steps", "2", "5"]
    document = json.loads(file.read_text())
    assert document["model"] == {"d_model": 8, "layers": 1, "mixer": ["mamba"], "pool": [2, 3], "vocab": 7}
    assert document["command"].startswith("seqmamba bench generate --d-model 8")
    assert [row["status"] for row in document["rows"]] == ["ok"]
    assert main(["bench", "table", str(file)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[2].split("|")[1:4] == [" steps ", " 2 ", " 5 "]
    assert table[-1].endswith(
        f"d_model 8, layers 1, mixer ['mamba'], pool [2, 3], vocab 7; `{document['command']}`"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "--batch: expected a whole number >= 1, got 0"),
        (["--position", "0"], "--position: expected a whole number >= 1, got 0"),
        (["--seconds", "0"], "--seconds must be positive, got 0.0"),
        (["--device", "abacus"], "--device: expected auto, cpu, cuda or cuda:N, got 'abacus'"),
        (["--mixer", "perceptron"], "mixer: expected a name or a pattern of names"),
    ],
)
def test_mistakes_are_one_line(options, message, capsys):
    assert main(["bench", "generate", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_a_model_that_no_graph_can_hold_is_stepped():
    hybrid = BackboneConfig(16, 2, mixer=("mamba", "attention"), d_state=4)
    cuda = GenerationSettings(hybrid, 11, torch.device("cuda"), torch.float32, (2,), (20,), seconds=0.01)
    rows = list(measure(cuda, ["graph", "steps"]))
    assert [(row["name"], row["status"]) for row in rows] == [("graph", "absent"), ("steps", "ok")]
    assert "a CUDA graph needs a state that keeps its form" in rows[0]["detail"]


@pytest.mark.gpu
def test_a_graph_is_checked_and_timed_on_a_gpu():
    cuda = GenerationSettings(SMALL, 11, torch.device("cuda"), torch.float32, (1, 3), (20,), seconds=0.01)
    rows = list(measure(cuda, ["graph", "steps"]))
    assert [(row["name"], row["status"]) for row in rows] == [("graph", "ok")] * 2 + [("steps", "ok")] * 2
    assert all(row["peak_bytes"] >= row["weight_bytes"] for row in rows)


_BLOCK = re.compile(r"<!-- generation ([\w.-]+) -->\n(.*?)\n<!-- /generation -->", re.DOTALL)


@pytest.mark.parametrize(
    ("name", "block"), _BLOCK.findall((ROOT / "README.md").read_text()), ids=lambda text: text[:30]
)
def test_the_readme_shows_a_kept_result(name, block):
    document = json.loads((ROOT / "tests/benchmarks/results/generation" / name).read_text())
    assert block == bench_generate.markdown(document), f"paste what `seqmamba bench table .../{name}` prints"
