from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from recipes.catalogue import RECIPES, Recipe
from recipes.readme_table import README, with_tables
from seqmamba.cli.main import LIGHTNING_VERBS, build_parser, main
from seqmamba.cli.recipe_listing import listing, number_text, results_text, time_text
from seqmamba.cli.recipe_results import FILE, RecipeResults, Result, read_results
from seqmamba.errors import UserError

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


@each_recipe
def test_every_recipe_records_its_results(recipe: Recipe) -> None:
    results = read_results(recipe.folder)
    has_ours = any(row.role == "ours" for row in results.rows)
    assert has_ours == (results.status in ("run", "short run"))
    assert (results.to_beat is None) == (results.yardstick is not None)
    if results.status != "run":
        assert results.note
    for row in results.rows:
        assert row.config in (None, *recipe.configs)
        if row.role == "ours":
            assert row.hardware
            assert row.recorded_in


@each_recipe
def test_every_recorded_number_is_in_the_readme_too(recipe: Recipe) -> None:
    text = (recipe.folder / "README.md").read_text()
    for row in read_results(recipe.folder).rows:
        numbers = [row.value, *(row.interval or ())]
        for number in numbers:
            spellings = {f"{number:.2f}", f"{number:.3f}", f"{number:.4f}", f"{100 * number:.2f}"}
            assert any(spelling in text for spelling in spellings), (row.model, number)


@each_recipe
def test_the_recorded_commands_parse(recipe: Recipe) -> None:
    for row in read_results(recipe.folder).rows:
        if row.command is None:
            continue
        name, *words = row.command.split()
        assert name == "seqmamba"
        if words[0] in LIGHTNING_VERBS:
            assert "--config" in words
        else:
            build_parser(words[0]).parse_args(words)


def test_the_tables_of_the_readme_are_up_to_date() -> None:
    text = README.read_text()
    assert with_tables(text) == text, "run: python -m recipes.readme_table"
    assert all(f"[{recipe.name}]({recipe.name})" in text for recipe in RECIPES)
    assert "| 1, 2, 3 | 2 cores of an Intel Xeon (Sapphire Rapids); seeds 2 and 3 on one thread |" in text
    assert "| not recorded |" in text


def test_a_narrow_terminal_gets_a_line_a_recipe() -> None:
    lines = listing(RECIPES, 100).splitlines()
    assert max(map(len, lines)) <= 100
    for recipe in RECIPES:
        (line,) = [line for line in lines if line.split(" ")[0] == recipe.name.partition("/")[2]]
        results = read_results(recipe.folder)
        assert (results.status if results.ours is None else f"{results.ours.value:.3f}") in line
    assert {"genomics", "audio"} <= set(lines)


def test_without_a_terminal_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for recipe in RECIPES:
        (line,) = [line for line in lines if line.startswith(f"{recipe.name} ")]
        assert recipe.task in line
        assert recipe.licence in line


def test_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "ls", "--json"]) == 0
    by_name = {recipe["name"]: recipe for recipe in json.loads(capsys.readouterr().out)}
    assert list(by_name) == [recipe.name for recipe in RECIPES]
    oct4 = by_name["genomics/oct4_mafk"]
    assert oct4["minutes"] == {"cpu": 3.7, "gpu": None}
    (ours,) = [row for row in oct4["results"]["rows"] if row["headline"] and row["role"] == "ours"]
    assert (ours["value"], ours["seeds"], ours["commit"]) == (0.991, [1, 2, 3], None)
    assert main(["recipes", "show", "oct4_mafk", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == oct4


def test_what_is_not_recorded_is_said_to_be_so() -> None:
    row = Result("ours", "seed 1", "accuracy", 0.5, command="seqmamba fit", minutes=2.5)
    text = results_text(RecipeResults("short run", (row,), note="Half of it."))
    assert "note: Half of it." in text
    assert re.search(r"command +seqmamba fit\n", text)
    assert re.search(r"training +2.5 min", text)
    for fact in ("commit", "hardware", "seeds"):
        assert re.search(rf"{fact} +not recorded", text)


def test_numbers_and_times() -> None:
    assert number_text(Result("ours", "x", "MCC", 0.5, interval=(0.41, 0.6))) == "0.500 (0.410 to 0.600)"
    assert [time_text(minutes) for minutes in (0.6, 3.72, 11, 120)] == [
        "36 s",
        "3.7 min",
        "11 min",
        "120 min",
    ]


PUBLISHED = {"role": "published", "model": "x", "metric": "accuracy", "value": 0.5, "source": "y"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "does not hold results"),
        ({"status": "run"}, "does not hold results of a recipe \\('rows'\\)"),
        ({"status": "done", "rows": []}, "got 'done'"),
        ({"status": "run", "rows": [], "colour": "red"}, "colour"),
        ({"status": "run", "rows": [{**PUBLISHED, "role": "rumour"}]}, "got 'rumour'"),
        ({"status": "run", "rows": [{**PUBLISHED, "source": None}]}, "x: says no source"),
        ({"status": "run", "rows": [{**PUBLISHED, "interval": [0.6, 0.7]}]}, "0.5 lies outside"),
        ({"status": "run", "rows": [{**PUBLISHED, "device": "tpu"}]}, "got 'tpu'"),
        ({"status": "run", "rows": [{**PUBLISHED, "headline": True}] * 2}, "more than one headline"),
        (
            {
                "status": "run",
                "rows": [
                    {**PUBLISHED, "headline": True},
                    {**PUBLISHED, "role": "ours", "metric": "MCC", "headline": True},
                ],
            },
            "compare different metrics",
        ),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, content: object, message: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path)


def test_a_recipe_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: cannot be read"):
        read_results(tmp_path)
