from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seqmamba.cli import diagnosis
from seqmamba.cli.main import main
from seqmamba.cli.operator_check import check_operators
from seqmamba.ops import selective_scan


def test_a_sound_installation_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    names = {finding["name"] for finding in report["findings"]}
    assert {"torch", "torchaudio with torch", "cpu", "data cache", "seqmamba genomics"} <= names
    assert sum("(default)" in name for name in names) >= 2  # one implementation of each operator would run


def test_a_wrong_operator_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def slightly_wrong(**arguments: object) -> torch.Tensor:
        y = selective_scan(**arguments)
        return y * 1.001 if arguments["impl"] == "chunked" else y

    monkeypatch.setattr("seqmamba.cli.operator_check.selective_scan", slightly_wrong)
    wrong = [(v.operator, v.impl) for v in check_operators(torch.device("cpu")) if not v.ok]
    assert wrong == [("selective_scan", "chunked")]


def test_an_operator_that_crashes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(**arguments: object) -> torch.Tensor:
        if arguments["impl"] == "numba":
            raise RuntimeError("compiler missing")
        return selective_scan(**arguments)

    monkeypatch.setattr("seqmamba.cli.operator_check.selective_scan", crash)
    (wrong,) = [v for v in check_operators(torch.device("cpu")) if not v.ok]
    assert (wrong.operator, wrong.impl) == ("selective_scan", "numba")
    assert "compiler missing" in wrong.detail


@pytest.mark.parametrize(
    ("broken", "name"), [("torchaudio", "torchaudio with torch"), ("safetensors", "safetensors")]
)
def test_a_package_that_does_not_import_is_named_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str, name: str
) -> None:
    real_import = diagnosis.importlib.import_module

    def broken_import(module: str) -> object:
        if module == broken:
            raise OSError("libcudart.so.12: cannot open shared object file")
        return real_import(module)

    monkeypatch.setattr(diagnosis.importlib, "import_module", broken_import)
    monkeypatch.setattr(diagnosis, "_operators", list)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert f"error: {name}: OSError: libcudart.so.12" in printed.err
    assert "hint: install" in printed.err
    assert "BAD" in printed.out


def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(diagnosis, "_operators", list)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().err
    assert "error: data cache: " in printed
    assert "hint: set SEQMAMBA_DATA" in printed


def test_a_full_cache_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(diagnosis, "LEAST_FREE", 2**80)
    finding = diagnosis._folder("data cache", tmp_path / "a" / "b", "set it elsewhere")
    assert not finding.ok
    assert "GiB free" in finding.detail
    assert not (tmp_path / "a").exists()
