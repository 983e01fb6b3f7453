from __future__ import annotations

from pathlib import Path

import pytest

from seqmamba.cli.config_errors import check_yaml, explain_config_error
from seqmamba.errors import UserError

NESTED = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'seqmamba.training.task.Task'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'genomics.tasks.SequenceTask':
        Parser key "optimiser":
          Does not validate against any of the Union subtypes
          Subtypes: [<class 'seqmamba.training.optimisation.OptimiserConfig'>, <class 'NoneType'>]
          Errors:
            - Problem with given class_path 'seqmamba.training.optimisation.OptimiserConfig':
                {problem}
            - Expected a <class 'NoneType'>
          Given value type: <class 'dict'>
          Given value: {{'lrr': 0.01}}
    - Expected a <class 'NoneType'>
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "# a comment\nmodel:\n  class_path: x\n  init_args:\n    optimiser: {\n      lrr: 0.01}\n"
        "trainer:\n  max_epochs: ten\n"
    )
    return path


def test_the_deepest_problem_is_the_one_that_is_told(recipe: Path) -> None:
    message = NESTED.format(problem="Option 'lrr' is not accepted")
    error = explain_config_error(message, ["fit"], [recipe])
    owner = "seqmamba.training.optimisation.OptimiserConfig"
    assert error.message == f"{recipe}:6: model.optimiser.lrr: there is no such key of {owner}"
    assert error.hint == "did you mean lr?"


def test_a_key_that_resembles_none_is_answered_with_the_list(recipe: Path) -> None:
    message = NESTED.format(problem="Option 'zzz' is not accepted")
    hint = explain_config_error(message, ["fit"], [recipe]).hint
    assert hint is not None
    assert hint.startswith("it has lr, weight_decay, betas")


def test_the_type_is_told_in_plain_words(recipe: Path) -> None:
    message = """Parser key "trainer.max_epochs":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'int'>, <class 'NoneType'>]
  Errors:
    - Expected a <class 'int'>
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: ten"""
    error = explain_config_error(message, ["fit"], [recipe])
    assert error.message == f"{recipe}:8: trainer.max_epochs: expected an int, got ten"


def test_the_last_file_and_then_the_command_line_have_the_last_word(recipe: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text("trainer: {max_epochs: x}\n")
    message = "Parser key \"trainer.max_epochs\":\n  Expected a <class 'int'>. Got value: x"
    error = explain_config_error(message, ["fit"], [recipe, second])
    assert error.message == f"{second}:1: trainer.max_epochs: expected an int, got x"
    words = ["fit", "--trainer.max_epochs=x"]
    assert explain_config_error(message, words, [recipe, second]).message.startswith("--trainer.max_epochs: ")


def test_a_wrong_key_on_the_command_line_is_named() -> None:
    message = """Parser key "data":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'lightning.pytorch.core.datamodule.LightningDataModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'genomics.datasets.SequenceDataModule':
        unrecognized arguments: --split.tests=1
    - Expected a <class 'NoneType'>
  Given value type: <class 'jsonargparse._util.NestedArg'>
  Given value: NestedArg(key='split.tests', val='1')"""
    error = explain_config_error(message, ["fit", "--data.init_args.split.tests", "1"], [])
    assert error.message == "--data.init_args.split.tests: data.split.tests: there is no such key"


def test_literals_are_listed(recipe: Path) -> None:
    problem = "Parser key \"schedule\":\n  Expected a typing.Literal['cosine', 'linear']. Got value: exp"
    error = explain_config_error(NESTED.format(problem=problem), ["fit"], [recipe])
    assert error.message == "model.optimiser.schedule: expected one of 'cosine', 'linear', got exp"


def test_an_unforeseen_message_is_still_one_line() -> None:
    assert explain_config_error("\nsomething new\nand more", ["fit"], []).message == "something new"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\nb: [\n", r"bad\.yaml:3: not valid YAML"),
        (b"a: 1\na\tb: {", r"bad\.yaml:2: not valid YAML"),
        (b"- a\n", r"bad\.yaml:1: not a recipe"),
        (b"", r"bad\.yaml:1: not a recipe"),
        (b"\xff\xfe\x00", r"bad\.yaml: not a YAML text file"),
        (b"a: \x00", r"bad\.yaml: not a YAML text file"),
    ],
)
def test_what_is_no_recipe_is_named_by_file_and_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        check_yaml([path])


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: there is no such file"):
        check_yaml([tmp_path / "none.yaml"])
