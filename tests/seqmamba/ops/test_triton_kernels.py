"""The Triton kernels where there is no GPU: interpreted, and compiled for several GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")
FILES = (
    "test_causal_conv1d.py",
    "test_draw.py",
    "test_rms_norm.py",
    "test_state_step.py",
    "test_lti_step.py",
    "test_steps_in_place.py",
)
CAPABILITIES = (80, 90, 100)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


@pytest.mark.parametrize("file", FILES)
def test_the_interpreted_kernels_pass_their_tests(file: str) -> None:
    path = Path(__file__).with_name(file)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", str(path)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stdout + done.stderr


def spilled_bytes(kernel: Any, capability: int, types: dict[str, str], warps: int, **options: Any) -> int:
    """Compile for GPUs of this compute capability, and look for registers that were spilled."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {name: options.pop(name) for name in kernel.arg_names if name in options}
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    constants |= {
        name: None for name, kind in signature.items() if kind == "constexpr" and name not in constants
    }
    any_value = {p.name for p in kernel.params if p.do_not_specialize or p.do_not_specialize_on_alignment}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if name not in any_value and (signature[name].startswith("*") or name.endswith(("dim", "stride")))
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, **options},
    )
    return local_memory(compiled.asm["cubin"])


def local_memory(cubin: bytes) -> int:
    """Bytes of a thread's stack, where spilled registers go."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True)
    stacks = re.findall(r"STACK:(\d+)", usage.stdout)
    assert stacks
    return max(map(int, stacks))


def conv_types(dtype: torch.dtype, full: bool) -> dict[str, str]:
    x, state = f"*{NAMES[dtype]}", "*fp32"
    types = {"x": x, "y": x, "grad_y": x, "grad_x": x, "weight": state, "bias": state, "partials": state}
    types |= {"final_state": state, "grad_final": state}
    sizes = ("length", "dim", "batch_stride", "row_stride", "grad_batch_stride", "grad_row_stride", "groups")
    types |= dict.fromkeys(sizes, "i32")
    return types | ({"initial_state": state, "grad_initial": state, "reset": "*i1"} if full else {})


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("dtype", "width", "full"),
    [
        (torch.bfloat16, 4, False),
        (torch.bfloat16, 4, True),
        (torch.float32, 6, True),
        (torch.bfloat16, 1, False),
    ],
)
def test_the_convolution_compiles_without_spills(
    capability: int, direction: str, dtype: torch.dtype, width: int, full: bool
) -> None:
    from seqmamba.ops.causal_conv1d import triton_gpu, triton_launch

    tiling = triton_launch.choose_tiling(direction, 2, 10**6, 512, width, dtype.itemsize, full)
    kernel = triton_gpu.conv_forward if direction == "forward" else triton_gpu.conv_backward
    constants = triton_launch.compile_options(tiling, width, True, full, fast=True)
    spilled = spilled_bytes(
        kernel, capability, conv_types(dtype, full), constants.pop("num_warps"), **constants
    )
    assert spilled == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dim", [64, 8192])
def test_the_norm_compiles_without_spills(capability: int, direction: str, dim: int) -> None:
    from seqmamba.ops.rms_norm import triton_gpu, triton_launch

    tiling = triton_launch.choose_tiling(direction, 10**6, dim)
    kernel = triton_gpu.norm_forward if direction == "forward" else triton_gpu.norm_backward
    wide = ("residual", "stream", "weight", "scale", "grad_stream", "grad_sum", "partials")
    types = dict.fromkeys(("x", "y", "grad_y", "grad_x"), "*bf16") | dict.fromkeys(wide, "*fp32")
    types |= {"rows": "i32", "dim": "i32", "tiles": "i32", "eps": "fp32"}
    sizes = {"ROWS": tiling.rows, "COLUMNS": tiling.columns}
    assert spilled_bytes(kernel, capability, types, tiling.warps, **sizes) == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_step_and_the_sums_compile_without_spills(capability: int) -> None:
    from seqmamba.ops import triton_sums
    from seqmamba.ops.selective_scan.triton_gpu_step import step_kernel

    wide = ("state", "A", "D", "delta_bias", "new_state", "partials", "main", "last")
    types = dict.fromkeys(("u", "delta", "B", "C", "z", "y"), "*bf16") | dict.fromkeys(wide, "*fp32")
    sizes = ("dim", "n_state", "channels_per_group", "count")
    strides = ("u_stride", "delta_stride", "z_stride", "B_stride", "C_stride")
    types |= dict.fromkeys((*sizes, *strides), "i32")
    assert (
        spilled_bytes(step_kernel, capability, types, 4, SOFTPLUS=True, LOG=True, CHANNELS=32, STATES=16) == 0
    )
    tile = {"PARTS": 5, "ROWS": triton_sums.ROWS, "COLUMNS": triton_sums.COLUMNS}
    assert spilled_bytes(triton_sums.sum_kernel, capability, types, 4, **tile) == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("dtype", "states"), [(torch.bfloat16, 32), (torch.float32, 512)])
def test_the_step_of_a_diagonal_system_compiles_without_spills(
    capability: int, dtype: torch.dtype, states: int
) -> None:
    from seqmamba.ops.lti import triton_gpu_step

    types = dict.fromkeys(("state", "transition", "drive", "C", "D", "new_state"), "*fp32")
    types |= dict.fromkeys(("u", "y"), f"*{NAMES[dtype]}") | dict.fromkeys(
        ("dim", "n_state", "u_stride"), "i32"
    )
    sizes = {"CHANNELS": triton_gpu_step._ELEMENTS // states, "STATES": states}
    kernel = triton_gpu_step.step_kernel
    assert spilled_bytes(kernel, capability, types, 4, GELU=True, **sizes) == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
@pytest.mark.parametrize(
    ("dtype", "vocabulary"), [(torch.float32, 256), (torch.bfloat16, 50_280), (torch.float32, 200_000)]
)
def test_drawing_compiles_without_spills(
    capability: int, temperature: float, dtype: torch.dtype, vocabulary: int
) -> None:
    from seqmamba.ops.draw import triton_gpu

    types = dict.fromkeys(("vocabulary", *triton_gpu.STEPS), "i32") | {"temperature": "fp64"}
    types |= {"logits": f"*{NAMES[dtype]}", "uniforms": "*fp64", "tokens": "*i64"}
    types |= {"log_probs": "*fp32", "sampled_log_probs": "*fp32"}
    options = triton_gpu.compile_options(vocabulary, temperature)
    warps = options.pop("num_warps")
    kernel = triton_gpu.draw_kernel
    assert spilled_bytes(kernel, capability, types, warps, logits_column_step=1, **options) == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_step_of_the_dual_form_compiles_without_spills(capability: int) -> None:
    from seqmamba.ops.ssd import triton_gpu_step

    kernel, pointers = triton_gpu_step.step_kernel, ("x", "delta", "B", "C", "z", "y")
    types = dict.fromkeys(pointers, "*bf16") | dict.fromkeys(
        ("state", "A", "D", "bias", "new_state"), "*fp32"
    )
    flags = dict.fromkeys(("SOFTPLUS", "HAS_BIAS", "HAS_D", "HAS_GATE", "LOG"), True)
    sizes = {"CHANNELS": triton_gpu_step._ELEMENTS // 128, "STATE": 128}
    types |= {name: "i32" for name in kernel.arg_names if name not in types | flags | sizes}
    assert spilled_bytes(kernel, capability, types, 4, **flags, **sizes) == 0
