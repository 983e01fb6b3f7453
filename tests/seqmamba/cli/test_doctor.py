from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seqmamba.cli import device_diagnosis, diagnosis
from seqmamba.cli.finding import Finding
from seqmamba.cli.implementations import PARTS, examine_implementations
from seqmamba.cli.main import main
from seqmamba.cli.operator_check import check_operators
from seqmamba.ops import selective_scan


def test_a_sound_installation_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    names = {finding["name"] for finding in report["findings"]}
    assert {"torch", "torchaudio with torch", "cpu", "data cache", "seqmamba genomics"} <= names
    used = {f["name"]: f["detail"] for f in report["findings"] if f["group"] == "what runs on the CPU"}
    assert set(used) == {*PARTS, "decoding"}
    assert used["scan"].startswith("numba: ")
    assert "(not cuda: it runs on an NVIDIA GPU" in used["scan"]
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
    assert f"error: {name}: " in printed.err
    assert "OSError: libcudart.so.12" in printed.err
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


def test_a_folder_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diagnosis.tempfile, "TemporaryFile", refuse)
    finding = diagnosis._folder("data cache", tmp_path, "set it elsewhere")
    assert (finding.ok, finding.fix) == (False, "set it elsewhere")
    assert finding.detail.endswith("Permission denied")


def test_torchaudio_that_is_missing_or_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_with(failure: Exception) -> Finding:
        def importer(module: str) -> object:
            raise failure

        monkeypatch.setattr(diagnosis.importlib, "import_module", importer)
        return diagnosis._torchaudio()

    missing = fail_with(ModuleNotFoundError("No module named 'torchaudio'"))
    assert (missing.ok, missing.fix) == (False, "install it: pip install torchaudio")
    wrong = fail_with(RuntimeError("Detected that PyTorch and TorchAudio were compiled with different CUDA"))
    assert not wrong.ok
    assert f"torch {diagnosis.version('torch')} do not fit" in wrong.detail
    assert "of one CUDA version together" in str(wrong.fix)


@pytest.mark.parametrize(
    ("driver", "present", "built_for", "hip", "hidden", "detail", "fix"),
    [
        (None, False, "13.0", None, None, "no NVIDIA GPU here; everything runs on the CPU", None),
        ((13, 0), True, None, None, None, "built for CPUs only", "install a PyTorch with CUDA"),
        ((13, 0), True, None, "6.4", None, "built for AMD GPUs", "install a PyTorch with CUDA"),
        (None, True, "13.0", None, None, "libcuda does not load", "the NVIDIA driver 580.65 or newer"),
        ((12, 4), True, "13.0", None, None, "up to 12.4, this PyTorch was built for 13.0", "driver 580.65"),
        ((12, 4), True, "14.0", None, None, "up to 12.4", "install NVIDIA a newer driver"),
        ((13, 0), True, "13.0", None, "", "CUDA_VISIBLE_DEVICES='' hides every GPU", None),
        ((13, 0), True, "13.0", None, None, "PyTorch finds no GPU that works", "nvidia-smi"),
    ],
)
def test_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
    driver: tuple[int, int] | None,
    present: bool,
    built_for: str | None,
    hip: str | None,
    hidden: str | None,
    detail: str,
    fix: str | None,
) -> None:
    monkeypatch.setattr(device_diagnosis, "driver_cuda", lambda: driver)
    monkeypatch.setattr(device_diagnosis, "gpu_present", lambda: present)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # NVML counts also what cannot be used
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    _, finding = device_diagnosis.examine_devices()
    assert finding.ok == (fix is None)
    assert detail in finding.detail
    assert fix is None or fix in str(finding.fix)


class _Library:
    """libcuda of a driver that runs CUDA 12.4, or that fails."""

    def __init__(self, status: int) -> None:
        self.status = status

    def cuDriverGetVersion(self, number: object) -> int:
        number._obj.value = 12040  # type: ignore[attr-defined]
        return self.status


def test_the_version_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_diagnosis.ctypes, "CDLL", lambda name: _Library(0))
    assert device_diagnosis.driver_cuda() == (12, 4)
    monkeypatch.setattr(device_diagnosis.ctypes, "CDLL", lambda name: _Library(100))
    assert device_diagnosis.driver_cuda() is None

    def no_library(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device_diagnosis.ctypes, "CDLL", no_library)
    assert device_diagnosis.driver_cuda() is None


@pytest.mark.parametrize(
    ("failure", "capability", "detail", "fix"),
    [
        (None, (9, 0), "80 GiB, compute capability 9.0", None),
        (None, (7, 5), "the kernels need 8.0, so plain PyTorch runs", None),
        ("no kernel image is available for execution", (12, 0), "no kernel image", "compute capability 12.0"),
        ("out of memory", (9, 0), "RuntimeError: out of memory", "nvidia-smi"),
    ],
)
def test_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    failure: str | None,
    capability: tuple[int, int],
    detail: str,
    fix: str | None,
) -> None:
    class Properties:
        name, total_memory, major, minor = "NVIDIA X", 80 * 2**30, *capability

    def ones(n: int, device: str) -> torch.Tensor:
        if failure is not None:
            raise RuntimeError(failure)
        return torch.zeros(n)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    monkeypatch.setattr(torch, "ones", ones)
    _, gpu, *_ = device_diagnosis.examine_devices()
    assert gpu.name == "cuda:0"
    assert gpu.ok == (fix is None)
    assert detail in gpu.detail
    assert fix is None or fix in str(gpu.fix)


@pytest.mark.parametrize(
    ("missing", "package", "consequence"),
    [("triton", "triton", "norm and ssd run in plain"), ("cuda.bindings", "cuda-bindings", "selective scan")],
)
def test_a_gpu_without_its_compilers(
    monkeypatch: pytest.MonkeyPatch, missing: str, package: str, consequence: str
) -> None:
    monkeypatch.setattr(device_diagnosis, "find_spec", lambda name: None if name == missing else object())
    (finding,) = device_diagnosis._compilers()
    assert (finding.name, finding.fix) == (package, f"install it: pip install {package}")
    assert not finding.ok
    assert consequence in finding.detail


def test_the_namespace_of_a_compiler_may_be_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        raise ModuleNotFoundError("No module named 'cuda'")

    monkeypatch.setattr(device_diagnosis, "find_spec", find)
    assert len(device_diagnosis._compilers()) == 2


@pytest.mark.gpu
def test_what_runs_on_a_gpu() -> None:
    used = {f.name: f.detail for f in examine_implementations() if f.group == "what runs on a GPU"}
    assert used["scan"].startswith("cuda: ")
    assert all(used[part].startswith("triton: ") for part in ("conv", "norm", "ssd"))
    assert "CUDA graphs" in used["decoding"]
