"""Kernel files are compiled, kept, found again and launched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

from seqmamba.errors import UserError
from seqmamba.ops.cuda import cache, compiler, runtime
from seqmamba.ops.cuda.cache import cache_key, compiled, decode, encode
from seqmamba.ops.cuda.compiler import Resources, architecture_of, compile_source, options, parse_resources
from seqmamba.ops.cuda.sources import flatten

SAMPLES = Path(__file__).parents[2] / "emulation" / "kernels" / "samples.cu"
ROOT = Path(__file__).parents[3]

needs_nvrtc = pytest.mark.skipif(
    compiler.runtime_obstacle() is not None, reason=str(compiler.runtime_obstacle())
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMAMBA_KERNELS", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count what is compiled instead of found."""
    names: list[str] = []

    def counted(text: str, name: str, given: tuple[str, ...]) -> compiler.Compiled:
        names.append(name)
        return compiler.compile_text(text, name, given)

    monkeypatch.setattr(cache, "compile_text", counted)
    return names


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_compiles_without_a_gpu(architecture: str) -> None:
    found = compile_source(SAMPLES, {"ELEMENT": "bf16"}, architecture)
    assert found.cubin.startswith(b"\x7fELF")
    assert {"scale", "prefix", "multiply", "spilling"} <= set(found.kernels)
    assert 8 <= found.kernels["scale"].registers <= 64
    assert found.kernels["prefix"].spill_bytes == 0


@needs_nvrtc
def test_spills_show() -> None:
    spilling = compile_source(SAMPLES, {}, "sm_90").kernels["spilling"]
    assert spilling.registers <= 64
    assert spilling.spill_bytes > 0
    assert spilling.stack_bytes > 0


@needs_nvrtc
def test_virtual_architecture_gives_ptx() -> None:
    found = compile_source(SAMPLES, {}, "compute_90")
    assert b".target sm_90" in found.cubin
    assert found.kernels == {}


def test_resources_of_a_log() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
ptxas         .     24 bytes stack frame, 16 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 24 bytes cumulative stack size, 512 bytes smem
ptxas info    : Function properties for called
    640 bytes stack frame, 99 bytes spill stores, 99 bytes spill loads
ptxas info    : Compiling entry function 'second' for 'sm_90'
ptxas info    : Function properties for second
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 360 bytes cmem[0]"""
    assert parse_resources(log) == {"first": Resources(64, 28, 24, 512), "second": Resources(8, 0, 0, 0)}


@needs_nvrtc
def test_architecture_is_the_device_or_ptx_for_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert architecture_of((9, 0)) == "sm_90"
    monkeypatch.setattr(compiler, "supported_architectures", lambda: (80, 90, 100))
    assert architecture_of((10, 0)) == "sm_100"
    assert architecture_of((12, 1)) == "compute_100"
    assert architecture_of((8, 9)) == "compute_80"
    with pytest.raises(UserError, match=r"compute capability 8.0 and newer, this GPU has 7.5"):
        architecture_of((7, 5))


@needs_nvrtc
def test_compile_error_names_file_line_and_reason(tmp_path: Path) -> None:
    (tmp_path / "part.cuh").write_text("DEVICE float twice(float x) {\n  return 2.0f * nothing;\n}\n")
    source = tmp_path / "broken.cu"
    source.write_text('#include "primitives.cuh"\n#include "part.cuh"\nKERNEL void f() {}\n')
    with pytest.raises(UserError, match=r'^part.cuh:2: NVRTC: identifier "nothing" is undefined') as failure:
        compile_source(source, {"N": 3}, "sm_90")
    assert "-DN=3" in str(failure.value.hint)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the kernel source .*none.cu cannot be read: No such file"):
        flatten(tmp_path / "none.cu")
    (tmp_path / "lone.cu").write_text('\n#include "none.cuh"\n')
    with pytest.raises(UserError, match=r"lone.cu:2: no file none.cuh in "):
        flatten(tmp_path / "lone.cu")


def test_text_has_each_include_once_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.cuh").write_text('#pragma once\n#include "b.cuh"\nint a;\n')
    (tmp_path / "b.cuh").write_text("#pragma once\nint b;\n")
    (tmp_path / "c.cu").write_text('#include "a.cuh"\n#include "b.cuh"\nint c;\n')
    text = flatten(tmp_path / "c.cu")
    assert re.findall(r"int \w", text) == ["int b", "int a", "int c"]
    assert text.count("#pragma") == 0
    assert str(tmp_path) not in text
    assert '#line 3 "c.cu"\nint c;' in text


@pytest.mark.parametrize("missing", ["package", "library"])
def test_missing_nvrtc_is_said_in_words(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "package":
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        monkeypatch.delitem(sys.modules, "cuda.bindings.nvrtc", raising=False)
        reason = "the package cuda-bindings"
    else:
        nvrtc = pytest.importorskip("cuda.bindings.nvrtc")

        def absent() -> None:
            raise RuntimeError("libnvrtc.so was not found\nlong advice")

        monkeypatch.setattr(nvrtc, "nvrtcVersion", absent)
        reason = r"the library NVRTC cannot be loaded \(libnvrtc.so was not found\)"
    compiler.runtime_obstacle.cache_clear()
    try:
        assert re.match(reason, str(compiler.runtime_obstacle()))
        with pytest.raises(UserError, match=f"GPU kernels cannot be compiled here: {reason}") as failure:
            compile_source(SAMPLES, {}, "sm_90")
        assert "CUDA build of torch" in str(failure.value.hint)
    finally:
        compiler.runtime_obstacle.cache_clear()


def test_key_depends_on_everything_but_the_order_of_constants() -> None:
    base = cache_key("text", options({"A": 1, "B": 2}, "sm_90"))
    assert cache_key("text", options({"B": 2, "A": 1}, "sm_90")) == base
    others = {
        cache_key("other", options({"A": 1, "B": 2}, "sm_90")),
        cache_key("text", options({"A": 1, "B": 3}, "sm_90")),
        cache_key("text", options({"A": 1, "B": 2}, "sm_80")),
        cache_key("text", options({"A": 1}, "sm_90")),
    }
    assert len(others | {base}) == 5


@needs_nvrtc
def test_second_use_comes_from_the_disk(folder: Path, compilations: list[str]) -> None:
    first = compiled(SAMPLES, (), "sm_90")
    assert compiled(SAMPLES, (), "sm_90") == first
    assert compilations == ["samples.cu"]
    compiled(SAMPLES, (("ELEMENT", "f16"),), "sm_90")
    compiled(SAMPLES, (), "sm_80")
    assert len(compilations) == 3
    assert len(list(folder.iterdir())) == 3


@needs_nvrtc
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_damaged_entry_is_compiled_again(folder: Path, compilations: list[str], damage: str) -> None:
    first = compiled(SAMPLES, (), "sm_90")
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    contents = {"truncated": whole[:-7], "flipped": bytes(flipped), "empty": b"", "foreign": b"{}" * 99}
    entry.write_bytes(contents[damage])
    again = compiled(SAMPLES, (), "sm_90")
    assert (again.cubin, again.kernels) == (first.cubin, first.kernels)
    assert len(compilations) == 2
    assert decode(entry.read_bytes()) == again


def test_any_changed_byte_is_noticed() -> None:
    entry = encode(compiler.Compiled(b"code", "log", {"f": Resources(1, 2, 3, 4)}))
    assert decode(entry) is not None
    for position in range(len(entry)):
        changed = bytearray(entry)
        changed[position] ^= 16
        assert decode(bytes(changed)) is None


@needs_nvrtc
def test_unwritable_folder_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    monkeypatch.setenv("SEQMAMBA_KERNELS", str(tmp_path / "file" / "kernels"))
    with pytest.warns(RuntimeWarning, match=r"cannot be kept in .*SEQMAMBA_KERNELS names another folder"):
        first = compiled(SAMPLES, (), "sm_90")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(SAMPLES, (), "sm_90").kernels == first.kernels


@needs_nvrtc
def test_oldest_entries_and_abandoned_parts_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    folder.mkdir()
    for age, name in enumerate(("new.kernel", "old.kernel", "older.kernel"), 1):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    abandoned, busy = folder / ".a.kernel.1.part", folder / ".b.kernel.2.part"
    for part in (abandoned, busy):
        part.write_bytes(b"")
    os.utime(abandoned, (1e9, 1e9))
    compiled(SAMPLES, (), "sm_90")
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 3
    assert {"new.kernel", busy.name} < names


@needs_nvrtc
def test_processes_and_threads_fill_one_folder(folder: Path) -> None:
    code = f"""
from pathlib import Path
from seqmamba.ops.cuda.cache import compiled
for architecture in ("sm_80", "sm_90"):
    assert compiled(Path({str(SAMPLES)!r}), (), architecture).kernels
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    threads = [threading.Thread(target=compiled, args=(SAMPLES, (), "sm_90")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    entries = list(folder.iterdir())
    assert len(entries) == 2
    assert all(decode(entry.read_bytes()) is not None for entry in entries)


def test_importing_operators_loads_no_cuda_package() -> None:
    code = "import sys, seqmamba.ops, seqmamba.ops.cuda.runtime; print('cuda.bindings.nvrtc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_tensors_must_be_on_one_gpu() -> None:
    with pytest.raises(UserError, match=r"scale: its tensors must be on one NVIDIA GPU, got cpu"):
        runtime.launch(SAMPLES, "scale", {}, (1, 1, 1), 32, 0, [torch.zeros(1), None, 1, 1.0])
    with pytest.raises(UserError, match=r"scale: its tensors must be on one NVIDIA GPU, got none"):
        runtime.launch(SAMPLES, "scale", {}, (1, 1, 1), 32, 0, [None, None, 1, 1.0])


def scale(x: torch.Tensor, factor: float, size: int | None = None) -> torch.Tensor:
    y = torch.full_like(x, torch.nan)
    count = x.numel() if size is None else size
    runtime.launch(SAMPLES, "scale", {}, (-(-x.numel() // 128), 1, 1), 128, 0, [x, y, count, factor])
    return y


@pytest.mark.gpu
class TestOnGpu:
    """What only a GPU can show."""

    def test_launch(self, folder: Path) -> None:
        x = torch.randn(1000, device="cuda")
        assert torch.equal(scale(x, 3.0), 3.0 * x)
        y = torch.full((1000,), -1.0, device="cuda")
        runtime.launch(SAMPLES, "scale", {"ELEMENT": "float"}, (8, 1, 1), 128, 0, [x[3:], y[5:], 9, -2.0])
        assert torch.equal(y[5:14], -2.0 * x[3:12])
        assert y.eq(-1.0).sum() >= 1000 - 9

    def test_threads_of_autograd_have_a_context(self) -> None:
        x = torch.randn(1000, device="cuda")
        results: list[torch.Tensor] = []
        threads = [threading.Thread(target=lambda: results.append(scale(x, 2.0))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.cuda.synchronize()
        assert len(results) == 4
        assert all(torch.equal(result, 2.0 * x) for result in results)

    def test_order_on_the_current_stream(self) -> None:
        x = torch.randn(1 << 22, device="cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)
            late = x * 2.0
            y = scale(late, 5.0)
        stream.synchronize()
        assert torch.equal(y, 10.0 * x)

    def test_graph_capture_and_replay(self) -> None:
        x = torch.randn(1000, device="cuda")
        scale(x, 1.5)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = scale(x, 1.5)
        x.copy_(torch.arange(1000.0))
        graph.replay()
        assert torch.equal(y, 1.5 * x)

    def test_first_use_inside_a_capture(self) -> None:
        x = torch.randn(32, device="cuda")
        y = torch.empty_like(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            arguments = [x, y, 32, 4.0]
            runtime.launch(SAMPLES, "scale", {"UNUSED": 17}, (1, 1, 1), 32, 0, arguments)
        graph.replay()
        assert torch.equal(y, 4.0 * x)

    def test_much_shared_memory_and_too_much(self) -> None:
        x = torch.ones(64, device="cuda")
        y = torch.empty_like(x)
        runtime.launch(SAMPLES, "prefix", {}, (1, 1, 1), 64, 99 * 1024, [x, y])
        assert torch.equal(y, x.cumsum(0))
        with pytest.raises(UserError, match=r"prefix asks for 1048576 bytes of shared memory a block"):
            runtime.launch(SAMPLES, "prefix", {}, (1, 1, 1), 64, 1 << 20, [x, y])

    def test_unknown_kernel_and_bad_launch(self) -> None:
        x = torch.ones(64, device="cuda")
        with pytest.raises(UserError, match=r"samples.cu has no kernel nothing"):
            runtime.launch(SAMPLES, "nothing", {}, (1, 1, 1), 32, 0, [x])
        with pytest.raises(RuntimeError, match=r"prefix: the CUDA driver answers CUDA_ERROR_INVALID_VALUE"):
            runtime.launch(SAMPLES, "prefix", {}, (1, 1, 1), 2048, 0, [x, x])
        with pytest.raises(UserError, match=r"one NVIDIA GPU, got cpu, cuda:0"):
            runtime.launch(SAMPLES, "prefix", {}, (1, 1, 1), 32, 0, [x, x.cpu()])

    def test_second_device(self) -> None:
        if torch.cuda.device_count() < 2:
            pytest.skip("needs two GPUs")
        x = torch.randn(1000, device="cuda:1")
        assert torch.cuda.current_device() == 0
        assert torch.equal(scale(x, 3.0), 3.0 * x)
        assert torch.cuda.current_device() == 0
        assert torch.equal(scale(x.to("cuda:0"), 3.0), 3.0 * x.to("cuda:0"))

    def test_chip_agrees_with_what_the_emulator_promises(self) -> None:
        bits = torch.arange(65536).to(torch.int32).to(torch.uint16).cuda()
        x, y = bits.view(torch.bfloat16), bits.view(torch.float16)
        first, second, pairs = (torch.empty(n, device="cuda") for n in (65536, 65536, 131072))
        runtime.launch(SAMPLES, "convert_to", {}, (64, 1, 1), 1024, 0, [x, y, first, second, pairs])
        torch.testing.assert_close(first, x.float(), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(second, y.float(), rtol=0, atol=0, equal_nan=True)
        values = torch.randn(4, 32, 4, device="cuda")
        sums = torch.empty(32, device="cuda")
        runtime.launch(SAMPLES, "copied_sums", {}, (1, 1, 1), 32, 1024, [values, sums, 4, 0])
        torch.testing.assert_close(sums, values.sum((0, 2)))
        a, b, d = (torch.randn(n, 8, device="cuda") for n in (16, 8, 16))
        runtime.launch(SAMPLES, "multiply", {}, (1, 1, 1), 32, 0, [a, b, d])
        kept = [(m.view(torch.int32) & -8192).view(torch.float32).double() for m in (a, b)]
        torch.testing.assert_close(d.double(), kept[0] @ kept[1], rtol=0, atol=2e-6)
