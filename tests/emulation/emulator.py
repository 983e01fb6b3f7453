"""Runs CUDA kernels on a CPU: the same .cu source, built by g++ against a host version of primitives.cuh.

`emulate` takes what `seqmamba.ops.cuda.runtime.launch` takes. What a chip would leave undefined is an error
here: lanes that wait at different collectives, shared or device memory written outside its bounds, pointers
of another type than the tensor's. Memory that nobody wrote, or whose copy nobody waited for, is NaN.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqmamba.ops.cuda.sources import PRIMITIVES, flatten

HERE = Path(__file__).parent
CACHE_VARIABLE = "SEQMAMBA_EMULATOR_CACHE"
FLAGS_VARIABLE = "SEQMAMBA_EMULATOR_FLAGS"
"""More flags for the compiler, such as ``-fsanitize=undefined -g``."""
ORDER_VARIABLE = "SEQMAMBA_EMULATOR_ORDER"
ORDERS = ("forward", "backward", "both")
MOST_THREADS = 1024
MOST_SHARED_BYTES = 227 * 1024
_GUARD_BYTES = 64 * 1024
_GUARD = torch.tensor([0xE5, 0xFF], dtype=torch.uint8)  # the same NaN as in scheduler.cpp
_ALIGNMENT = 256
_MOST_BUILDS = 1000
_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-w",
)
_TYPES = {
    "float32": {torch.float32},
    "float64": {torch.float64},
    "bfloat16": {torch.bfloat16},
    "float16": {torch.float16},
    "int64": {torch.int64},
    "int32": {torch.int32},
    "byte": {torch.uint8, torch.int8, torch.bool},
}
_CHIP_ONLY = re.compile(r"^#ifdef __CUDACC__$.*?^#endif", re.MULTILINE | re.DOTALL)
_KERNEL = re.compile(r"^KERNEL void (?:__launch_bounds__\([^)]*\) )?(\w+)\(", re.MULTILINE)


class EmulationError(RuntimeError):
    """The kernel does something that a chip leaves undefined, or does not compile."""


class _Launch(ctypes.Structure):
    _fields_ = (
        ("invoke", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("threads", ctypes.c_uint),
        ("shared_bytes", ctypes.c_ulonglong),
        ("backward", ctypes.c_int),
        ("early_copies", ctypes.c_int),
        ("first_block", ctypes.c_ulonglong),
        ("block_step", ctypes.c_ulonglong),
        ("message", ctypes.c_char_p),
        ("message_bytes", ctypes.c_ulonglong),
    )


@dataclass(frozen=True)
class _Kernel:
    library: ctypes.CDLL
    invoke: int
    parameters: tuple[tuple[str, str], ...]  # (kind, type): kind is input, output or value


def host_compiler() -> str | None:
    """Return the C++ compiler that builds kernels for the CPU, or None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def emulate(
    source: Path,
    kernel: str,
    constants: Mapping[str, int | str],
    grid: tuple[int, int, int],
    threads: int,
    shared_bytes: int,
    arguments: Sequence[Tensor | int | float | None],
    *,
    order: str | None = None,
    os_threads: int = 1,
) -> None:
    """Run a kernel of a .cu file on CPU tensors.

    Args:
        source: The .cu file; ``primitives.cuh`` is the host version, other includes come from the file's
            folder and from seqmamba/ops/cuda.
        kernel: Name of the ``KERNEL`` function.
        constants: Preprocessor definitions.
        grid: Number of blocks along x, y and z.
        threads: Threads a block, a multiple of 32.
        shared_bytes: Dynamic shared memory a block.
        arguments: Tensor -> pointer, None -> null, int -> 64 bits, float -> float32.
        order: "forward" runs blocks, warps and lanes in ascending order and copies as late as the waits
            allow; "backward" in descending order, copying at once; "both" runs both and requires bitwise
            equal results, which a missing barrier breaks. Default: ``$SEQMAMBA_EMULATOR_ORDER``, or forward.
        os_threads: Blocks run on this many system threads.

    Raises:
        EmulationError: See the module's docstring.
    """
    order = order or os.environ.get(ORDER_VARIABLE, "forward")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    _check_shape(grid, threads, shared_bytes)
    loaded = _load(Path(source), kernel, tuple(sorted(constants.items())))
    _check_arguments(kernel, loaded.parameters, arguments)
    launch = functools.partial(_run, loaded, kernel, grid, threads, shared_bytes, arguments, os_threads)
    if order != "both":
        launch(order == "backward").write_back()
        return
    first, second = launch(False), launch(True)
    for storage, copy in first.copies.items():
        if not torch.equal(copy.body, second.copies[storage].body):
            raise EmulationError(
                f"{kernel}: argument {copy.position} depends on the order in which threads run: "
                "a barrier or a wait is missing"
            )
    first.write_back()


def _check_shape(grid: tuple[int, int, int], threads: int, shared_bytes: int) -> None:
    if not 0 < threads <= MOST_THREADS or threads % 32:
        raise EmulationError(f"threads must be a multiple of 32 up to {MOST_THREADS}, got {threads}")
    if not 0 <= shared_bytes <= MOST_SHARED_BYTES:
        raise EmulationError(f"shared_bytes must be at most {MOST_SHARED_BYTES}, got {shared_bytes}")
    if len(grid) != 3 or min(grid) < 1 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
        raise EmulationError(f"grid must be three sizes from 1 to (2^31 - 1, 65535, 65535), got {grid}")


def _check_arguments(
    kernel: str, parameters: tuple[tuple[str, str], ...], arguments: Sequence[Tensor | int | float | None]
) -> None:
    if len(parameters) != len(arguments):
        raise EmulationError(f"{kernel} takes {len(parameters)} arguments, got {len(arguments)}")
    for position, ((kind, type_), argument) in enumerate(zip(parameters, arguments, strict=True)):
        place = f"{kernel}, argument {position}"
        pointer = kind != "value"
        if isinstance(argument, Tensor):
            if not pointer:
                raise EmulationError(f"{place}: the kernel takes a {type_}, got a tensor")
            if argument.device.type != "cpu":
                raise EmulationError(f"{place}: a tensor must be on the CPU, got {argument.device}")
            if type_ in _TYPES and argument.dtype not in _TYPES[type_]:
                raise EmulationError(f"{place}: the kernel takes a pointer to {type_}, got {argument.dtype}")
        elif argument is None:
            if not pointer:
                raise EmulationError(f"{place}: the kernel takes a {type_}, got None")
        else:
            given = "float32" if isinstance(argument, float) else "int64"
            if pointer or type_ != given:
                wanted = "a pointer" if pointer else f"a value of type {type_}"
                raise EmulationError(f"{place}: the kernel takes {wanted}, got {given} ({argument!r})")


class _Copy:
    """A storage's bytes between two guard zones of NaN, at the alignment that storages have."""

    def __init__(self, tensor: Tensor, position: int) -> None:
        self.position = position
        self.written = False
        self.original = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        size = self.original.numel()
        memory = torch.empty(2 * _GUARD_BYTES + size + 2 * _ALIGNMENT, dtype=torch.uint8)
        start = -memory.data_ptr() % _ALIGNMENT
        self.before = memory[start : start + _GUARD_BYTES]
        self.body = memory[start + _GUARD_BYTES :][:size]
        self.after = memory[start + _GUARD_BYTES + size :][:_GUARD_BYTES]
        self.pattern = _GUARD.repeat(_GUARD_BYTES // 2)
        self.before.copy_(self.pattern)
        self.body.copy_(self.original)
        self.after.copy_(self.pattern)

    def check(self, kernel: str) -> None:
        place = f"{kernel}: argument {self.position}"
        if not torch.equal(self.before, self.pattern):
            first = int((self.before != self.pattern).nonzero()[-1])
            raise EmulationError(f"{place} was written {_GUARD_BYTES - first} bytes before its start")
        if not torch.equal(self.after, self.pattern):
            first = int((self.after != self.pattern).nonzero()[0])
            raise EmulationError(f"{place} was written {first} bytes past its end")
        if not self.written and not torch.equal(self.body, self.original):
            raise EmulationError(f"{place} was written although the kernel takes it as const")


class _Memory:
    """Guarded copies of the storages behind the tensors of a launch; aliases stay aliases."""

    def __init__(
        self, parameters: tuple[tuple[str, str], ...], arguments: Sequence[Tensor | int | float | None]
    ) -> None:
        self.copies: dict[int, _Copy] = {}
        self.values: list[ctypes._SimpleCData] = []
        for position, ((kind, _), argument) in enumerate(zip(parameters, arguments, strict=True)):
            if isinstance(argument, Tensor):
                storage = argument.untyped_storage()
                key = storage.data_ptr() or -1 - position
                if key not in self.copies:
                    self.copies[key] = _Copy(argument, position)
                copy = self.copies[key]
                copy.written |= kind == "output"
                offset = argument.storage_offset() * argument.element_size()
                self.values.append(ctypes.c_void_p(copy.body.data_ptr() + offset))
            elif argument is None:
                self.values.append(ctypes.c_void_p(None))
            elif isinstance(argument, float):
                self.values.append(ctypes.c_float(argument))
            else:
                self.values.append(ctypes.c_longlong(argument))

    def write_back(self) -> None:
        for copy in self.copies.values():
            if copy.written:
                copy.original.copy_(copy.body)


def _run(
    loaded: _Kernel,
    kernel: str,
    grid: tuple[int, int, int],
    threads: int,
    shared_bytes: int,
    arguments: Sequence[Tensor | int | float | None],
    os_threads: int,
    backward: bool,
) -> _Memory:
    memory = _Memory(loaded.parameters, arguments)
    pointers = (ctypes.c_void_p * max(1, len(memory.values)))(*map(ctypes.addressof, memory.values))

    def run(first_block: int) -> str | None:
        message = ctypes.create_string_buffer(2048)
        launch = _Launch(
            invoke=loaded.invoke,
            arguments=ctypes.addressof(pointers),
            grid=(ctypes.c_uint * 3)(*grid),
            threads=threads,
            shared_bytes=shared_bytes,
            backward=backward,
            early_copies=backward,
            first_block=first_block,
            block_step=os_threads,
            message=ctypes.addressof(message),
            message_bytes=len(message),
        )
        return message.value.decode() if loaded.library.emulator_run(ctypes.byref(launch)) else None

    loaded.library.emulator_catch_signals(1)
    try:
        if os_threads == 1:
            failures = [run(0)]
        else:
            with ThreadPoolExecutor(os_threads) as pool:
                failures = list(pool.map(run, range(os_threads)))
    finally:
        loaded.library.emulator_catch_signals(0)
    for failure in failures:
        if failure is not None:
            raise EmulationError(f"{kernel}: {failure}")
    for copy in memory.copies.values():
        copy.check(kernel)
    return memory


def _load(source: Path, kernel: str, constants: tuple[tuple[str, int | str], ...]) -> _Kernel:
    text = flatten(source, (HERE, source.parent, PRIMITIVES))
    return _load_text(text, kernel, constants, os.environ.get(FLAGS_VARIABLE, ""))


@functools.cache
def _load_text(text: str, kernel: str, constants: tuple[tuple[str, int | str], ...], extra: str) -> _Kernel:
    flags = [*shlex.split(extra), *(f"-D{name}={value}" for name, value in constants)]
    # one library for all kernels of the file: g++ compiles them anyway
    names = sorted({kernel, *_KERNEL.findall(_CHIP_ONLY.sub("", text))})
    exports = "".join(f"EMULATED_KERNEL({name})\n" for name in names)
    library = ctypes.CDLL(str(_build(f"{text}\n{exports}", flags)))
    words = getattr(library, f"emulated_parameters_{kernel}")
    words.restype = ctypes.POINTER(ctypes.c_char_p)
    return _Kernel(
        library=library,
        invoke=ctypes.cast(getattr(library, f"emulated_call_{kernel}"), ctypes.c_void_p).value or 0,
        parameters=_parameters(words()),
    )


def _parameters(words: ctypes._Pointer[ctypes.c_char_p]) -> tuple[tuple[str, str], ...]:
    count = next(i for i in range(1000) if words[i] is None)
    return tuple((words[i].decode(), words[count + 1 + i].decode()) for i in range(count))


def _cache() -> Path:
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured or Path(tempfile.gettempdir()) / f"seqmamba-emulation-{os.getuid()}")


@functools.cache
def _host_flags() -> tuple[str, ...]:
    """Let g++ use fused multiply-adds where the processor has them: the C library's are slow."""
    cpu = Path("/proc/cpuinfo")
    if cpu.exists() and {"avx2", "fma", "bmi2"} <= set(cpu.read_text().split()):
        return ("-march=haswell",)
    return ()


def _build(text: str, flags: Sequence[str]) -> Path:
    """Compile a kernel's text into a shared library, once per content."""
    scheduler = _object((HERE / "scheduler.cpp").read_text(), flags)
    return _compiled(text, "cu", [*flags, "-shared"], "so", [str(scheduler)])


def _object(text: str, flags: Sequence[str]) -> Path:
    sanitizers = [flag for flag in flags if not flag.startswith("-D")]
    return _compiled(text, "cpp", [*sanitizers, "-c", f"-I{HERE}"], "o", [])


def _compiled(text: str, kind: str, flags: Sequence[str], suffix: str, inputs: Sequence[str]) -> Path:
    compiler = host_compiler()
    if compiler is None:
        raise EmulationError("no C++ compiler (g++, or $CXX) is installed")
    dialect = ("-mtls-dialect=gnu2",) if os.uname().machine == "x86_64" and "g++" in compiler else ()
    command = [compiler, *_FLAGS, *_host_flags(), *dialect, *flags]
    key = hashlib.sha256("\0".join([text, *command, *inputs, (HERE / "scheduler.h").read_text()]).encode())
    built = _cache() / f"{key.hexdigest()[:32]}.{suffix}"
    if built.exists():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent, prefix=".build-") as folder:
        source, output = Path(folder, f"source.{kind}"), Path(folder, built.name)
        source.write_text(text)
        done = subprocess.run(
            [*command, "-x", "c++", str(source), "-x", "none", *inputs, "-o", str(output)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmulationError(f"{' '.join(command)}\n{done.stderr}")
        os.replace(output, built)
    _prune(built.parent)
    return built


def _prune(folder: Path) -> None:
    """Remove the oldest libraries of a large cache; a loaded one stays usable."""
    builds = []
    for path in folder.glob("*.so"):
        try:
            builds.append((path.stat().st_mtime, path))
        except FileNotFoundError:  # another process prunes too
            continue
    for _, path in sorted(builds)[:-_MOST_BUILDS]:
        path.unlink(missing_ok=True)
