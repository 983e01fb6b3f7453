"""Measuring the genomics verbs: every case gives a complete result; the README has the kept tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import genomics_verbs
import pytest
import torch
import whole_runs
from genomics_inputs import Inputs, Scale, random_chromosome, write_models
from genomics_verbs import CASES, Case

from seqmamba.benchmarks.results import read
from seqmamba.cli.failures import report_failure

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results") / "genomics"
TINY = Scale(chromosome=6000, bases=2048, sequences=2, long_variants=2, variants=9, window=512, mutated=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    words = write_models(folder, d_model=8, layers=1, recipe=(8, 1))
    assert words["segmentation"].startswith(
        "1 x 8, as genomics/gene_segmentation, averages both strands, 0.00M"
    )
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("inputs") / "tiny", random_chromosome(6000), TINY)


each_case = pytest.mark.parametrize(
    "case", CASES, ids=[f"{number} {case.verb}" for number, case in enumerate(CASES)]
)


def check(case: Case, models: Path, inputs: Inputs, device: str) -> None:
    amounts = {
        "variants": {TINY.variants, TINY.long_variants},
        "bases": {TINY.bases, 2 * TINY.bases, TINY.chromosome},
        "bases mutated": {TINY.mutated},
    }
    assert case.run(models, inputs, device) in amounts[case.unit]


@each_case
def test_every_case_gives_a_complete_result(case: Case, models: Path, inputs: Inputs) -> None:
    check(case, models, inputs, "cpu")


@pytest.mark.gpu
@each_case
def test_every_case_gives_a_complete_result_on_a_gpu(case: Case, models: Path, inputs: Inputs) -> None:
    check(case, models, inputs, "cuda")


def test_a_result_that_is_not_complete_has_no_time(models: Path, inputs: Inputs, tmp_path: Path) -> None:
    short = Inputs(tmp_path / "short", random_chromosome(6000), TINY)
    Path(short.sequences).write_text(">only\nACGT\n")  # one sequence of two
    row = whole_runs.measure(
        genomics_verbs.predict, (models, short, "cpu"), (models, inputs, "cpu"), "cpu", "genomics_verbs"
    )
    assert row["status"] == "FAIL"
    assert "AssertionError" in row["detail"]


def test_a_verb_that_runs_out_of_memory_is_told_from_others(
    models: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: list[str]) -> int:
        return report_failure(torch.OutOfMemoryError("CUDA out of memory. Tried"), show_traceback=False)

    monkeypatch.setattr(genomics_verbs, "seqmamba", refuse)
    with pytest.raises(
        RuntimeError, match="genomics predict ended with 1: OutOfMemoryError: CUDA"
    ) as failure:
        genomics_verbs.predict(models, inputs, "cpu")
    assert whole_runs._ran_out(failure.value)
    assert not whole_runs._ran_out(RuntimeError("genomics predict ended with 2: no such file"))


def test_the_script_measures_and_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    genome, file = tmp_path / "g.fa", tmp_path / "verbs.json"
    genome.write_text(">short\nACGT\n>long\n" + "ACGTTGCA" * 600 + "\n")
    sizes = "--chromosome 99999 --bases 2048 --sequences 2 --d-model 8 --layers 1 --recipe 8 1"
    command = [
        "--device",
        "cpu",
        "--genome",
        str(genome),
        "--only",
        "predict",
        "-o",
        str(file),
        *sizes.split(),
    ]
    assert genomics_verbs.main(command) == 0
    printed = capfd.readouterr().out
    document = read(file)
    (row,) = document["rows"]
    assert (row["run"], row["status"], row["amount"]) == ("`predict`", "ok", 4096)
    assert row["seconds"] > 0
    assert row["cpu_bytes"] > 2**27  # libraries are in memory
    assert row["gpu_bytes"] is None
    assert document["command"].startswith("python tests/benchmarks/genomics_verbs.py --device cpu --genome ")
    assert genomics_verbs.main(["--table", str(file)]) == 0
    table = capfd.readouterr().out
    assert table in printed
    assert re.search(
        r"\| `predict` \| classifier \| 2 x 2,048 bases \| [\d.]+ s \| [\d,.]+ bases/s \|  \| ", table
    )


def test_rows_that_are_missing_are_measured_and_the_others_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [case for case in CASES if case.verb in ("predict", "attribute")][:3]
    monkeypatch.setattr(genomics_verbs, "CASES", chosen)
    monkeypatch.setattr(
        whole_runs, "measure", lambda *_: {"status": "ok", "amount": 1, "seconds": 1.0} | size
    )
    size = {"cpu_bytes": 1, "gpu_bytes": None}
    sizes = "--device cpu --chromosome 6000 --bases 2048 --sequences 2 --d-model 8 --layers 1 --recipe 8 1"
    first, second, third = (str(tmp_path / f"{n}.json") for n in "123")

    def revisions(*words: str) -> list[str]:
        assert genomics_verbs.main([*sizes.split(), *words]) == 0
        rows = read(Path(words[1]))["rows"]
        assert all(row["date"][:2] == "20" for row in rows)
        return [row["revision"] for row in rows]

    assert revisions("-o", first, "--only", "predict", "--revision", "one") == ["one"]
    assert revisions("-o", second, "--merge", first, "--revision", "two") == ["one", "two", "two"]
    document = read(Path(second))
    document["rows"][2] |= {"status": "OOM", "detail": "too large"}
    Path(second).write_text(json.dumps(document))
    assert revisions("-o", third, "--merge", second, "--revision", "three") == ["one", "two", "three"]
    again = ("--merge", second, "--only", "predict", "--revision", "four")
    assert revisions("-o", third, *again) == ["four", "two"]  # a row that failed is not kept
    assert "| one |" not in capfd.readouterr().out
    with pytest.raises(SystemExit, match=r"--merge .*1\.json: scale are .*'bases': 2048.*'bases': 1024"):
        genomics_verbs.main([*sizes.replace("2048", "1024").split(), "--merge", first])
    Path(first).write_text(json.dumps(read(Path(first)) | {"hardware": {"name": "another"}}))
    with pytest.raises(SystemExit, match=r"--merge .*1\.json: was measured with another, this is"):
        genomics_verbs.main([*sizes.split(), "--merge", first])


def test_a_revision_is_that_of_the_folder(tmp_path: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", whole_runs.revision(ROOT))
    assert whole_runs.revision(tmp_path) == "?"


def test_a_genome_that_is_too_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">x\nACGT\n")
    with pytest.raises(SystemExit, match="--genome: expected 4 x 1,048,576 bases, got 4"):
        genomics_verbs.main(["--device", "cpu", "--genome", str(tmp_path / "g.fa"), "--d-model", "8"])


def test_a_table_takes_its_place_in_a_document(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "verbs.json"
    page.write_text("# a\n<!-- genomics-verbs verbs.json -->\nold\n<!-- /genomics-verbs -->\nb\n")
    row = {"run": "r", "model": "m", "input": "i", "unit": "bases", "status": "ok", "amount": 2**20}
    row |= {"seconds": 2.0, "cpu_bytes": 2**30, "gpu_bytes": 3 * 2**29}
    row |= {"date": "2026-11-25T10:00", "revision": "abc1234"}
    header = {"schema": 1, "hardware": {"device": "cuda", "name": "a GPU"}, "versions": {"torch": "2.11"}}
    document = {**header, "models": {"m": "small"}, "command": "c", "rows": [row]}
    file.write_text(json.dumps(document))
    assert genomics_verbs.main(["--table", str(file), "--into", str(page)]) == 0
    assert page.read_text().startswith("# a\n<!-- genomics-verbs verbs.json -->\n| run | model |")
    assert page.read_text().endswith(
        "| r | m | i | 2 s | 524,288 bases/s | 1.5 GiB | 1 GiB | 2026-11-25, abc1234 |\n\n"
        "a GPU, torch 2.11. m: small. `c` repeats it.\n<!-- /genomics-verbs -->\nb\n"
    )
    with pytest.raises(SystemExit, match=r"page\.md: has no block <!-- genomics-verbs other\.json -->"):
        whole_runs.replace_block(page, "genomics-verbs other.json", "x")


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_the_readme_shows_the_kept_results(file: Path) -> None:
    shown = whole_runs.blocks((ROOT / "genomics/README.md").read_text(), "genomics-verbs")
    assert all(row["status"] == "ok" for row in json.loads(file.read_text())["rows"])
    script = "python tests/benchmarks/genomics_verbs.py"
    assert shown[file.name] == whole_runs.markdown(read(file)), (
        f"run `{script} --table {file.relative_to(ROOT)} --into genomics/README.md`"
    )
