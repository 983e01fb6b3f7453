"""The Triton kernels of ssd, compiled for GPUs that are not here: what they need must fit."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.ops.ssd import tiles

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="compiles nothing")

SHARED_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}  # the most that a program can have
# Loop invariants that are kept in local memory and read once a pass; whole tiles would be thousands of bytes.
MOST_SPILLED = 1024
POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.uint8: "*u8"}


class Recorder:
    """Stands for a kernel and keeps its launches."""

    def __init__(self, kernel: Any, launches: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert len(grid) <= 3
        assert all(size > 0 for size in grid)
        assert all(size < 2**16 for size in grid[1:])
        return lambda *given, **named: self.launches.append((self.kernel, given, named))


def launches(
    monkeypatch: pytest.MonkeyPatch, length: int, head_dim: int, n_state: int, dtype: torch.dtype
) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Every launch of a forward and a backward on tensors without data."""
    from seqmamba.ops.ssd import triton_gpu

    recorded: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    for name, kernel in list(vars(triton_gpu).items()):
        if name.endswith("_kernel"):
            monkeypatch.setattr(triton_gpu, name, Recorder(kernel, recorded))
    monkeypatch.setattr(tiles, "multiprocessors", lambda device: 132)

    def meta(*shape: int, like: torch.dtype = dtype) -> Tensor:
        return torch.empty(*shape, dtype=like, device="meta")

    f32, heads = torch.float32, 8
    x, B = meta(1, length, heads, head_dim), meta(1, length, 1, n_state)
    initial, per_head = meta(1, heads, head_dim, n_state, like=f32), meta(heads, like=f32)
    delta, reset = meta(1, length, heads), meta(1, length, like=torch.bool)
    operands = (x, delta, per_head, B, B, per_head, x, per_head, initial, reset, True, False)
    y, final = triton_gpu.forward(*operands)
    triton_gpu.backward(y, final, *operands)
    return recorded


def compiled(kernel: Any, given: tuple[Any, ...], named: dict[str, Any], capability: int) -> Any:
    """Compile one launch as Triton would on a GPU of this capability."""
    values = dict(zip(kernel.arg_names, given, strict=False)) | named
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for i, name in enumerate(kernel.arg_names):
        value = values[name]
        if kernel.params[i].is_constexpr or value is None or (type(value) is int and value == 1):
            signature[name], constants[(i,)] = "constexpr", value
            continue
        wide = isinstance(value, Tensor)
        signature[name] = POINTERS[value.dtype] if wide else "i32" if abs(value) < 2**31 else "i64"
        if wide or value % 16 == 0:
            attributes[(i,)] = [["tt.divisibility", 16]]
    options = {name: named[name] for name in ("num_warps", "num_stages") if name in named}
    source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=options)


def spilled_bytes(ptx: str, capability: int, folder: Path) -> int:
    """What the assembler moves to local memory for want of registers."""
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    if capability >= 100 and assembler.with_name("ptxas-blackwell").exists():
        assembler = assembler.with_name("ptxas-blackwell")
    (folder / "kernel.ptx").write_text(ptx)
    architecture = f"--gpu-name=sm_{capability}{'a' if capability >= 90 else ''}"
    done = subprocess.run(
        [assembler, "-v", architecture, folder / "kernel.ptx", "-o", folder / "kernel.cubin"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"(\d+) bytes spill stores", done.stderr)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("capability", "head_dim", "n_state", "dtype"),
    [
        (80, 64, 128, torch.bfloat16),
        (90, 64, 64, torch.bfloat16),
        (90, 64, 128, torch.bfloat16),
        (100, 64, 128, torch.bfloat16),
        (80, 256, 256, torch.float16),
        (80, 64, 64, torch.float32),
    ],
)
def test_the_kernels_fit(
    capability: int,
    head_dim: int,
    n_state: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seen = set()
    for kernel, given, named in launches(monkeypatch, 2**20, head_dim, n_state, dtype):
        if (kernel, named.get("ADJOINT")) in seen:
            continue
        seen.add((kernel, named.get("ADJOINT")))
        binary = compiled(kernel, given, named, capability)
        assert binary.metadata.shared <= SHARED_BYTES[capability], kernel
        if n_state <= 128 and dtype == torch.bfloat16:
            assert spilled_bytes(binary.asm["ptx"], capability, tmp_path) <= MOST_SPILLED, kernel
    assert len(seen) == 10
