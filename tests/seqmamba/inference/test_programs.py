from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from causal_models import language_model, prompt
from torch import nn

from seqmamba.backbones import Backbone, BackboneConfig, LanguageModel
from seqmamba.backbones.quantisation import quantise
from seqmamba.errors import UserError
from seqmamba.inference.onnx_programs import write_onnx
from seqmamba.inference.programs import Program, save_program, sequence_program, step_program
from seqmamba.nn import AttentionOptions
from seqmamba.ops import explain
from seqmamba.ops.dispatch import only_pytorch

RUN_ALONE = """
import sys
for name in ("seqmamba", "genomics", "audio"):
    sys.modules[name] = None  # whoever imports it fails
import torch
torch.set_num_threads(1)
for program, data in zip(sys.argv[1::2], sys.argv[2::2]):
    inputs, expected = torch.load(data)
    got = torch.export.load(program).module()(*inputs)
    for one, other in zip(got if isinstance(got, tuple) else (got,), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
"""


@pytest.fixture(scope="module")
def mamba() -> LanguageModel:
    return language_model("mamba")


@pytest.fixture(scope="module")
def runtime() -> Any:
    """onnxruntime, which an extra brings."""
    return pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def step(mamba: LanguageModel) -> Program:
    return step_program(mamba, batch=2)


def test_a_program_of_a_sequence_is_the_model(mamba: LanguageModel) -> None:
    program = sequence_program(mamba, length=300)  # more than one chunk of the scan
    assert program.difference < 1e-5
    own = [str(node.target) for node in program.exported.graph.nodes if "seqmamba" in str(node.target)]
    assert own == []  # operators that only this package has


@pytest.mark.parametrize("mixer", ["mamba2", "s4", "lstm", "mamba-window"])
def test_steps_of_other_mixers_are_the_model(mixer: str) -> None:
    assert step_program(language_model(mixer)).difference < 1e-5


def test_a_multi_scale_stack_steps_by_its_period() -> None:
    model = language_model("multiscale")
    program = step_program(model, batch=2, length=12)
    assert program.difference < 1e-5
    assert program.inputs[0].shape == (2, 12)


def test_both_directions_and_attention_are_the_model() -> None:
    options = AttentionOptions(n_heads=2)
    config = BackboneConfig(8, 2, mixer=("mamba", "attention"), direction="bidirectional", attention=options)
    assert sequence_program(Backbone(config), length=9, batch=2).difference < 1e-5


def test_saved_programs_run_without_this_package(mamba: LanguageModel, step: Program, tmp_path: Path) -> None:
    words = []
    for name, program in (("whole", sequence_program(mamba, length=9)), ("step", step)):
        path, data = tmp_path / f"{name}.pt2", tmp_path / f"{name}.pt"
        save_program(program, path)
        torch.save((program.inputs, program.answers), data)
        words += [str(path), str(data)]
    done = subprocess.run([sys.executable, "-c", RUN_ALONE, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_onnxruntime_steps_through_a_sequence(
    runtime: Any, mamba: LanguageModel, step: Program, tmp_path: Path
) -> None:
    path = tmp_path / "step.onnx"
    assert write_onnx(step, path) < 1e-5
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = ["x", *(f"state_{i}" for i in range(4))]
    assert [entry.name for entry in session.get_inputs()] == names
    assert [entry.name for entry in session.get_outputs()] == ["y", *(f"next_{name}" for name in names[1:])]
    tokens = prompt(2, 6)
    with torch.no_grad():
        expected = mamba(tokens)
    states = [x.numpy() for x in step.inputs[1:]]
    for position in range(6):
        feed = dict(zip(names, (tokens[:, position : position + 1].numpy(), *states), strict=True))
        y, *states = session.run(None, feed)
        np.testing.assert_allclose(y[:, 0], expected[:, position], rtol=1e-4, atol=1e-5)


def test_an_operator_that_onnx_lacks_is_named(runtime: Any, tmp_path: Path) -> None:
    program = step_program(language_model("s4"))
    with pytest.raises(UserError, match=r"ONNX, which has no operator for aten\.\w+ \(.*complex"):
        write_onnx(program, tmp_path / "s4.onnx")
    assert list(tmp_path.iterdir()) == []


def test_onnx_that_answers_otherwise_is_not_written(runtime: Any, step: Program, tmp_path: Path) -> None:
    wrong = replace(step, answers=(step.answers[0] + 1, *step.answers[1:]))
    with pytest.raises(UserError, match="expected onnxruntime to answer as the model, got a difference of"):
        write_onnx(wrong, tmp_path / "wrong.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(2, 2), "expected a causal model, got a Linear"),
        (
            lambda: language_model("multiscale"),
            "expected a multiple of 6, after which steps are alike, got 1",
        ),
        (lambda: language_model("attention"), "got one whose state grows"),
        (lambda: quantise(language_model("mamba")), "expected a model with ordinary weights, got int8 ones"),
    ],
)
def test_what_has_no_step_to_export_is_refused(model: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        step_program(model())


@pytest.mark.parametrize(("length", "batch"), [(0, 1), (4, 0)])
def test_numbers_must_be_positive(mamba: LanguageModel, length: int, batch: int) -> None:
    with pytest.raises(UserError, match="expected a positive number, got 0"):
        sequence_program(mamba, length, batch)


def test_the_choice_of_operators_comes_back() -> None:
    tensors = [torch.zeros(1, 3, 8), torch.zeros(1, 3, 8), torch.zeros(8, 2), *[torch.zeros(1, 3, 2)] * 2]
    example = dict(zip(("u", "delta", "A", "B", "C"), tensors, strict=True))

    def chosen() -> str:
        return explain("selective_scan", **example).chosen

    before = chosen()
    with only_pytorch():
        assert chosen() == "chunked"
    assert chosen() == before == "numba"


def fail_inside() -> None:
    with only_pytorch():
        raise ZeroDivisionError


def test_it_comes_back_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert explain("selective_scan", u=torch.zeros(1, 3, 8)).chosen != "chunked"
