"""The emulator computes what the chip computes, and refuses what the chip leaves undefined."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from emulator import HERE, PRIMITIVES, EmulationError, emulate, host_compiler
from torch import Tensor

SAMPLES = HERE / "kernels" / "samples.cu"
MAPS = Path("/proc/self/maps")

pytestmark = pytest.mark.skipif(host_compiler() is None, reason="no C++ compiler is installed")


def run(kernel: str, arguments: list[Tensor | int | float | None], **options: object) -> None:
    """One block of 32 threads unless told otherwise."""
    given = {"constants": {}, "grid": (1, 1, 1), "threads": 32, "shared_bytes": 0, **options}
    emulate(SAMPLES, kernel, arguments=arguments, **given)


def test_both_headers_offer_the_same_names() -> None:
    def names(path: Path) -> set[str]:
        text = path.read_text()
        functions = re.findall(
            r"^(?:template <[^>]*> )?(?:DEVICE|inline) [\w ]+?\b(\w+)(?:<\w+>)?\(", text, re.M
        )
        templates = re.findall(r"^template <class T> (?:DEVICE )?\w+ (\w+)\(", text, re.M)
        structs = re.findall(r"^struct (?:(?:alignas|__align__)\(\d+\) )?(\w+)", text, re.M)
        macros = re.findall(r"^#define ([A-Z_]+)", text, re.M)
        types = re.findall(r"^typedef .* (\w+);", text, re.M)
        return {*functions, *templates, *structs, *macros, *types}

    chip, host = names(PRIMITIVES / "primitives.cuh"), names(HERE / "primitives.cuh")
    assert {"mma_tf32", "copy_async", "from_float", "float4_t", "SHARED_MEMORY", "int64"} <= chip
    assert chip <= host, f"missing in the emulator: {chip - host}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_elements_grid_and_constants(dtype: torch.dtype) -> None:
    name = {torch.float32: "float", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    x = torch.randn(301).to(dtype)
    y = torch.full((301,), torch.nan, dtype=dtype)
    run("scale", [x, y, 301, 1.5], constants={"ELEMENT": name}, grid=(3, 1, 1), threads=128)
    torch.testing.assert_close(y, (1.5 * x.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("os_threads", [1, 2])
def test_every_thread_of_every_block_runs_once(os_threads: int) -> None:
    out = torch.full((2 * 3 * 4 * 64,), -1)
    run("place", [out], grid=(2, 3, 4), threads=64, os_threads=os_threads)
    blocks = torch.arange(24)[:, None] * 1000
    assert torch.equal(out, (blocks + torch.arange(64)).flatten())


@pytest.mark.parametrize("order", ["forward", "backward", "both"])
def test_shuffles(order: str) -> None:
    x = torch.randint(0, 100, (64,)).float()
    sums, firsts, some = torch.empty(64), torch.empty(64), torch.empty(64)
    x[40] = 2000.0
    run("shuffles", [x, sums, firsts, some], threads=64, order=order)
    warps = x.reshape(2, 32)
    assert torch.equal(sums, warps.sum(1, keepdim=True).expand(2, 32).flatten())
    assert torch.equal(firsts, warps.roll(-5, 1).flatten())
    assert torch.equal(some, torch.tensor([0.0, 1.0]).repeat_interleave(32))


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_matrix_instruction_truncates_to_tf32(order: str) -> None:
    a, b, d = torch.randn(16, 8), torch.randn(8, 8), torch.empty(16, 8)
    run("multiply", [a, b, d], order=order)

    def truncated(x: Tensor) -> np.ndarray:
        return (x.numpy().view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)

    exact = truncated(a) @ truncated(b)
    np.testing.assert_allclose(d.numpy(), exact, rtol=0, atol=2e-6)
    assert np.abs(d.numpy() - a.double().numpy() @ b.double().numpy()).max() > 1e-4


@pytest.mark.parametrize("threads", [32, 256, 1024])
def test_block_barriers(threads: int) -> None:
    x = torch.randint(-9, 9, (3, threads)).float()
    y = torch.empty_like(x)
    run("prefix", [x, y], grid=(3, 1, 1), threads=threads, shared_bytes=4 * threads, order="both")
    assert torch.equal(y, x.cumsum(1))


def test_missing_barrier_is_caught() -> None:
    x, y = torch.ones(64), torch.empty(64)
    with pytest.raises(EmulationError, match="depends on the order in which threads run"):
        run("prefix", [x, y], threads=64, shared_bytes=256, constants={"WITHOUT_BARRIER": 1}, order="both")


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_copies_arrive_at_their_wait(order: str) -> None:
    x, y = torch.randn(7, 32, 4), torch.empty(32)
    run("copied_sums", [x, y, 7, 0], shared_bytes=2 * 32 * 16, order=order)
    torch.testing.assert_close(y, x.sum((0, 2)))


def test_missing_wait_is_caught() -> None:
    x, y = torch.randn(7, 32, 4), torch.zeros(32)
    run("copied_sums", [x, y, 7, 0], shared_bytes=1024, constants={"WITHOUT_WAIT": 1})
    assert y.isnan().all()


def test_misaligned_copy_is_reported() -> None:
    x, y = torch.randn(7, 32, 4), torch.zeros(32)
    with pytest.raises(EmulationError, match=r"samples.cu:\d+: copy_async: the device address is not"):
        run("copied_sums", [x, y, 7, 1], shared_bytes=1024)


def test_conversions_to_float_of_all_values() -> None:
    bits = torch.arange(65536).to(torch.int32).to(torch.uint16)
    x, y = bits.view(torch.bfloat16), bits.view(torch.float16)
    first, second, pairs = torch.empty(65536), torch.empty(65536), torch.empty(65536, 2)
    run("convert_to", [x, y, first, second, pairs], grid=(64, 1, 1), threads=1024)
    for ours, theirs in ((first, x), (second, y), (pairs[:, 0], x), (pairs[:, 1], y)):
        torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=0, equal_nan=True)


def test_conversions_from_float() -> None:
    every = torch.arange(65536).to(torch.int32)
    patterns = [every << 16, (every << 16) + 0x8000, (every << 16) + 0x7FFF, (every << 13) ^ 0x1000, every]
    patterns += [torch.randint(-(2**31), 2**31, (100_000,)).to(torch.int32)]
    x = torch.cat(patterns).view(torch.float32)
    halves = torch.arange(65536).to(torch.int32).to(torch.uint16).view(torch.float16).float()
    x = torch.cat([x, halves, (halves + halves.roll(-1)) / 2])  # every value and every tie
    size = x.numel()
    bf16, f16 = torch.empty(size, dtype=torch.bfloat16), torch.empty(size, dtype=torch.float16)
    pairs = torch.empty(2, size, dtype=torch.int32)
    run("convert_from", [x, bf16, f16, pairs[0], pairs[1], size], grid=(-(-size // 1024), 1, 1), threads=1024)
    for row, ours in enumerate((bf16, f16)):
        torch.testing.assert_close(ours, x.to(ours.dtype), rtol=0, atol=0, equal_nan=True)
        both = pairs[row].view(ours.dtype).reshape(size, 2)
        torch.testing.assert_close(both, torch.stack([ours, -ours], 1), rtol=0, atol=0, equal_nan=True)


def test_fast_functions_flush_subnormal_numbers() -> None:
    x = torch.linspace(-30, 30, 1024)
    x[:8] = torch.tensor([-127.0, -126.0, 1e-40, 0.0, 5e37, 2e38, torch.inf, torch.nan])
    exp2s, log2s, inverses = torch.empty(1024), torch.empty(1024), torch.empty(1024)
    run("functions", [x, exp2s, log2s, inverses], grid=(32, 1, 1))
    assert exp2s[:3].tolist() == [0.0, 2.0**-126, 1.0]
    assert log2s[2] == -torch.inf
    assert inverses[2:6].tolist() == [torch.inf, torch.inf, float(1 / x[4]), 0.0]
    assert exp2s[7].isnan()
    assert log2s[7].isnan()
    torch.testing.assert_close(exp2s[8:], torch.exp2(x[8:]))
    torch.testing.assert_close(log2s[8:], torch.log2(x[8:]), equal_nan=True)
    torch.testing.assert_close(inverses[8:], 1 / x[8:])


def test_divergence_is_reported() -> None:
    message = (
        r"samples.cu:\d+: divergence: lane 7 is at sync_warp and lane 0 waits at shuffle_xor \(samples.cu:"
    )
    with pytest.raises(EmulationError, match=message):
        run("divergent", [torch.empty(32)])
    with pytest.raises(EmulationError, match="warp 1 is at the end of the kernel and warp 0 waits"):
        run("leaves_early", [torch.empty(64)], threads=64)
    with pytest.raises(EmulationError, match="warp 0 is at sync_block and warp 1 has left the kernel"):
        run("leaves_early", [torch.empty(64)], threads=64, order="backward")


def test_shared_memory_has_bounds() -> None:
    y = torch.empty(32)
    run("shared_past_end", [y, 24], shared_bytes=100)
    with pytest.raises(EmulationError, match="written 0 bytes past its 100 bytes"):
        run("shared_past_end", [y, 25], shared_bytes=100)
    with pytest.raises(EmulationError, match="bytes before its 100 bytes"):
        run("shared_past_end", [y, -1], shared_bytes=100)


def test_unwritten_shared_memory_is_nan() -> None:
    y = torch.zeros(32)
    run("unwritten_shared", [y], shared_bytes=128)
    assert y.isnan().all()


def test_device_memory_has_bounds() -> None:
    y = torch.zeros(40)
    run("write_at", [y, 39])
    assert y[39] == 1.0
    for index, message in (
        (40, "0 bytes past its end"),
        (55, "60 bytes past its end"),
        (-1, "before its start"),
    ):
        with pytest.raises(EmulationError, match=f"argument 0 was written .*{message}"):
            run("write_at", [y, index])
    assert y.count_nonzero() == 1
    for index in (40, -1):
        out = torch.zeros(32)
        run("read_at", [y, out, index])
        assert out.isnan().all()


def test_faults_are_errors_not_crashes() -> None:
    y = torch.zeros(32)
    for arguments in ([None, 0], [y, 1 << 40]):
        with pytest.raises(EmulationError, match=r"thread 0: segmentation fault \(address "):
            run("write_at", arguments)
    with pytest.raises(EmulationError, match="stack overflow"):
        run("recurse", [y, 10_000])
    run("recurse", [y, 10])


def test_views_keep_strides_and_aliases() -> None:
    memory = torch.arange(96.0)
    run("scale", [memory[32:], memory, 32, 2.0])
    assert torch.equal(memory[:32], torch.arange(32, 64) * 2.0)
    assert torch.equal(memory[32:], torch.arange(32.0, 96.0))


def test_arguments_are_checked() -> None:
    x = torch.zeros(32)
    wrong = {
        "takes 4 arguments, got 2": [x, x],
        "argument 0: the kernel takes a pointer to float32, got torch.float64": [x.double(), x, 32, 1.0],
        "argument 2: the kernel takes a value of type int64, got float32": [x, x, 32.0, 1.0],
        "argument 3: the kernel takes a float32, got None": [x, x, 32, None],
        "argument 1: the kernel takes a pointer, got int64": [x, 1, 32, 1.0],
    }
    for message, arguments in wrong.items():
        with pytest.raises(EmulationError, match=message):
            run("scale", arguments)
    with pytest.raises(EmulationError, match="argument 0 was written although the kernel takes it as const"):
        run("write_const", [x])
    with pytest.raises(EmulationError, match="threads must be a multiple of 32"):
        run("scale", [x, x, 32, 1.0], threads=33)
    with pytest.raises(EmulationError, match="shared_bytes must be at most"):
        run("scale", [x, x, 32, 1.0], shared_bytes=2**20)


def test_compile_errors_name_file_and_line(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text('#include "primitives.cuh"\n\nKERNEL void f(float* y) { y[0] = nothing; }\n')
    with pytest.raises(EmulationError, match=r"broken.cu:3:.*nothing"):
        emulate(source, "f", {}, (1, 1, 1), 32, 0, [torch.zeros(1)])


def test_processes_share_the_cache(tmp_path: Path) -> None:
    code = f"""
import sys, torch
sys.path.insert(0, {str(HERE)!r})
from emulator import HERE, emulate
y = torch.zeros(32)
emulate(HERE / "kernels" / "samples.cu", "write_at", {{}}, (1, 1, 1), 32, 0, [y, 3])
assert y[3] == 1
"""
    environment = {"SEQMAMBA_EMULATOR_CACHE": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    environment["PYTHONPATH"] = str(PRIMITIVES.parents[2])
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".o", ".so"]


@pytest.mark.skipif(not MAPS.exists(), reason="counts the mappings that Linux lists")
def test_a_launch_leaves_no_mappings_behind() -> None:
    """Each kernel is a library of its own: what it keeps, hundreds of them would multiply."""
    out = torch.zeros(1024, dtype=torch.int64)
    run("place", [out], grid=(1, 1, 1), threads=1024)
    before = len(MAPS.read_text().splitlines())
    run("place", [out], grid=(1, 1, 1), threads=1024, constants={"OTHER_BUILD": 1})
    assert len(MAPS.read_text().splitlines()) < before + 50
