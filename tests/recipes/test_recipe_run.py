"""``seqmamba recipes run``: every part once, the interrupted one again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from recipe_builders import random_letters

from recipes.genomics.oct4_mafk import prepare as oct4_mafk
from seqmamba.cli import lightning
from seqmamba.cli.main import main
from seqmamba.errors import UserError

SMALL = {
    "trainer.max_epochs": "1",
    "data.init_args.batch_size": "4",
    "model.init_args.model.backbone.d_model": "8",
    "model.init_args.model.backbone.n_layers": "1",
}
RUN = ["recipes", "run", "oct4_mafk", "-o", "run", "--preset", "cpu"]
WORDS = [*RUN, *(word for key, value in SMALL.items() for word in ("--set", f"{key}={value}"))]


def write_peaks(cache: Path, source: Path | None = None) -> Path:
    """Write a few peaks in the place of the recipe's."""
    folder = cache / "oct4_mafk"
    folder.mkdir(parents=True, exist_ok=True)
    for offset, name in enumerate(("oct4", "mafk")):
        text = ""
        for place, chromosome in enumerate(("chr1", "chr7", "chr8", "chr9")):
            for number in range(8):
                start = 10_000 * offset + 40 * number
                letters = random_letters(40, 1000 * offset + 100 * place + number)
                text += f">{chromosome}:{start}-{start + 40}\n{letters}\n"
        (folder / f"{name}.fa").write_text(text)
    return folder


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Data in place of the recipe's, and the Lightning verbs that were run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "data"))

    monkeypatch.setattr(oct4_mafk, "prepare", write_peaks)
    called: list[str] = []
    real = lightning.run_lightning

    def run_lightning(argv: Sequence[str]) -> int:
        called.append(f"{argv[0]}{' last' if argv[0] == 'fit' and 'last' in argv else ''}")
        if argv[0] == "test":  # with its baselines the slowest part: real in `test_all_of_it`
            for name in ("results.json", "report.html"):
                Path(argv[argv.index("--run") + 1], name).write_text("{}")
            return 0
        return real(argv) if called == ["fit"] or "--overwrite" in argv else 0

    monkeypatch.setattr(lightning, "run_lightning", run_lightning)
    return called


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_every_part_once(calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    assert calls == ["fit", "test"]
    printed = capsys.readouterr().out
    for file in ("results.json", "report.html"):
        assert (tmp_path / "run" / file).is_file()
        assert f"run/{file}" in printed
    assert "recorded: accuracy 0.991 (mean of 3 seeds, chr8 + chr9)" in printed
    assert "to beat: accuracy 0.850" in printed

    assert main(WORDS) == 0  # all is done
    assert calls == ["fit", "test"]
    state = tmp_path / "run" / ".recipe.json"
    content = json.loads(state.read_text())

    state.write_text(json.dumps({**content, "done": ["fit"]}))  # killed in its test
    assert main(WORDS) == 0
    assert calls[2:] == ["test"]

    state.write_text(json.dumps({**content, "done": []}))  # killed in its training
    assert main(WORDS) == 0
    assert calls[3:] == ["fit last", "test"]
    assert json.loads(state.read_text())["done"] == ["fit", "test"]

    capsys.readouterr()
    assert main([*WORDS, "--set", "seed_everything=2"]) == 2  # another run
    error = capsys.readouterr().err
    assert "its set was" in error
    assert "--overwrite" in error
    assert calls[5:] == []
    assert main([*WORDS, "--overwrite", "--set", "no.such.key=2"]) == 2  # refused: the old run stays
    assert json.loads(state.read_text()) == {**content, "done": ["fit", "test"]}
    state.unlink()
    capsys.readouterr()
    assert main(WORDS) == 2
    assert "did not start" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_all_of_it(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(oct4_mafk, "prepare", write_peaks)
    assert main(WORDS) == 0
    assert "accuracy" in json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert "test: done before" not in capsys.readouterr().err
    assert main(WORDS) == 0
    assert "test: done before" in capsys.readouterr().err


def test_a_refused_recipe_leaves_no_folder(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--set", "trainer.max_epoch=1"]) == 2
    assert "max_epoch" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*RUN, "--set", "seed"]) == 2
    assert "expected KEY=VALUE" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(argv: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(lightning, "run_lightning", interrupted)
    assert main([*RUN, "--set", "seed_everything=2"]) == 130
    again = "seqmamba recipes run oct4_mafk -o run --preset cpu --set seed_everything=2"
    assert f"go on with: {again}" in capsys.readouterr().err


def test_data_that_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def prepare(cache: Path, source: Path | None = None) -> Path:
        raise UserError("x.whl: cannot be fetched (no network)", hint="give it with --source PATH")

    monkeypatch.setattr(oct4_mafk, "prepare", prepare)
    assert main(RUN) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: x.whl: cannot be fetched (no network)",
        "hint: give it with --source PATH",
    ]
    assert not (tmp_path / "run").exists()


def test_a_yaml_file_of_a_recipe_and_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    from seqmamba.cli.recipes import find_recipe_of

    for name in ("genomics/gue/mouse4", "gue/mouse4.yaml"):
        recipe, config = find_recipe_of(name)
        assert (recipe.name, config) == ("genomics/gue", "mouse4.yaml")
    recipe, config = find_recipe_of("gue")
    assert config == recipe.configs[0]
    assert main(["recipes", "run", "gue/mouse5"]) == 2
    assert "'gue/mouse5' is no recipe" in capsys.readouterr().err
