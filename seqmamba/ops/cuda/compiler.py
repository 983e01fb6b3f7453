"""From CUDA C++ to machine code by NVRTC, the compiler library that comes with torch; needs no GPU."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmamba.errors import UserError
from seqmamba.ops.cuda.sources import flatten

_INSTALL = "install seqmamba with the CUDA build of torch, which brings NVRTC, and the package cuda-bindings"
_OPTIONS = ("--std=c++17", "--ptxas-options=-v")
_FUNCTION = re.compile(r"Function properties for (?:'([^']+)'|(\S+))")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_ERROR = re.compile(r"^(.*)\((\d+)\): (?:catastrophic )?error(?: #\S+)?: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Resources:
    """What one kernel occupies on a multiprocessor.

    Attributes:
        registers: Registers a thread.
        spill_bytes: Bytes a thread stores to and loads from local memory for want of registers.
        stack_bytes: Bytes of local memory a thread.
        shared_bytes: Bytes of static shared memory a block.
    """

    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Compiled:
    """Machine code of a kernel file.

    Attributes:
        cubin: The code; for a virtual architecture (compute_XY) its PTX, which the driver translates.
        log: What the compiler said.
        kernels: Resources by kernel name; empty for PTX.
    """

    cubin: bytes
    log: str
    kernels: dict[str, Resources]


@functools.cache
def runtime_obstacle() -> str | None:
    """Say in words why NVRTC cannot be used here, or None if it can."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as failure:
        if isinstance(failure, ModuleNotFoundError) and (failure.name or "").split(".")[0] == "cuda":
            return "the package cuda-bindings is not installed"
        return f"the package cuda-bindings cannot be imported ({_first_line(failure)})"
    try:
        (status, *_) = nvrtc.nvrtcVersion()
    except Exception as failure:  # the search for the library raises errors of several packages
        return f"the library NVRTC cannot be loaded ({_first_line(failure)})"
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return f"the library NVRTC does not work ({status.name})"
    return None


def compiler_version() -> tuple[int, int]:
    """Return the version of NVRTC.

    Raises:
        UserError: NVRTC cannot be used here.
    """
    major, minor = _call("nvrtcVersion")
    return major, minor


@functools.cache
def supported_architectures() -> tuple[int, ...]:
    """Return the architectures that this NVRTC compiles for, ascending, 90 for sm_90.

    Raises:
        UserError: NVRTC cannot be used here.
    """
    (architectures,) = _call("nvrtcGetSupportedArchs")
    return tuple(sorted(architectures))


def architecture_of(capability: tuple[int, int]) -> str:
    """Return what to compile for: exactly the device, or for one that NVRTC does not know yet, PTX.

    Args:
        capability: Compute capability, (9, 0).

    Returns:
        ``sm_90``; ``compute_XY`` of the newest architecture below a newer device's.

    Raises:
        UserError: NVRTC is too new for this device, or cannot be used here.
    """
    wanted = 10 * capability[0] + capability[1]
    known = supported_architectures()
    if wanted in known:
        return f"sm_{wanted}"
    older = [architecture for architecture in known if architecture < wanted]
    if not older:
        raise UserError(
            f"NVRTC {'.'.join(map(str, compiler_version()))} compiles for compute capability "
            f"{known[0] // 10}.{known[0] % 10} and newer, this GPU has {capability[0]}.{capability[1]}",
            hint="use impl='chunked', or a torch built for an older CUDA",
        )
    return f"compute_{older[-1]}"


def compile_source(source: Path, constants: Mapping[str, int | str], architecture: str) -> Compiled:
    """Compile a kernel file; needs no GPU.

    Args:
        source: A .cu file; its includes come from its folder and from this package.
        constants: Preprocessor definitions.
        architecture: ``sm_90``, or ``compute_90`` for PTX.

    Returns:
        Code, log and resources.

    Raises:
        UserError: NVRTC cannot be used here, or the source does not compile.
    """
    return compile_text(flatten(source), Path(source).name, options(constants, architecture))


def options(constants: Mapping[str, int | str], architecture: str) -> tuple[str, ...]:
    """Return the compiler's options, in an order that does not depend on that of the constants."""
    definitions = (f"-D{name}={value}" for name, value in sorted(constants.items()))
    return (*_OPTIONS, f"--gpu-architecture={architecture}", *definitions)


def compile_text(text: str, name: str, given: tuple[str, ...]) -> Compiled:
    """Compile the whole text of a kernel file.

    Args:
        text: Without includes.
        name: Of the file, for messages.
        given: Options.

    Returns:
        Code, log and resources.

    Raises:
        UserError: NVRTC cannot be used here, or the source does not compile.
    """
    (program,) = _call("nvrtcCreateProgram", text.encode(), name.encode(), 0, None, None)
    try:
        from cuda.bindings import nvrtc

        (status,) = nvrtc.nvrtcCompileProgram(program, len(given), [option.encode() for option in given])
        log = _bytes("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise UserError(_failure(name, log, status.name), hint=f"options: {' '.join(given)}")
        ptx = any(option.startswith("--gpu-architecture=compute_") for option in given)
        return Compiled(_bytes("nvrtcGetPTX" if ptx else "nvrtcGetCUBIN", program), log, parse_resources(log))
    finally:
        _call("nvrtcDestroyProgram", program)


def parse_resources(log: str) -> dict[str, Resources]:
    """Read what ptxas says of each kernel in the compiler's log."""
    entries = set(_ENTRY.findall(log))
    found: dict[str, Resources] = {}
    name, stack, spills = "", 0, 0
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            name, stack, spills = match[1], 0, 0
        elif match := _FUNCTION.search(line):
            # A device function that is called, not inlined, has properties of its own and no register count.
            of = match[1] or match[2]
            name = of if of in entries else ""
        elif (match := _STACK.search(line)) and name:
            stack, spills = int(match[1]), int(match[2]) + int(match[3])
        elif (match := _USED.search(line)) and name:
            shared = _SHARED.search(line)
            found[name] = Resources(int(match[1]), spills, stack, int(shared[1]) if shared else 0)
    return found


def _failure(name: str, log: str, status: str) -> str:
    error = _ERROR.search(log)
    if error is not None:
        return f"{error[1]}:{error[2]}: NVRTC: {error[3]}"
    return f"{name}: NVRTC: {log.splitlines()[0] if log else status}"


def _call(function: str, *arguments: Any) -> tuple[Any, ...]:
    """Call NVRTC; its results without the status."""
    obstacle = runtime_obstacle()
    if obstacle is not None:
        raise UserError(f"GPU kernels cannot be compiled here: {obstacle}", hint=_INSTALL)
    from cuda.bindings import nvrtc

    status, *results = getattr(nvrtc, function)(*arguments)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise UserError(
            f"GPU kernels cannot be compiled here: {function} answers {status.name}", hint=_INSTALL
        )
    return tuple(results)


def _bytes(function: str, program: Any) -> bytes:
    (size,) = _call(f"{function}Size", program)
    buffer = bytes(bytearray(size))  # an object of its own: the bindings write into it
    _call(function, program, buffer)
    return buffer


def _first_line(failure: BaseException) -> str:
    return (str(failure).strip() or type(failure).__name__).splitlines()[0]
