"""Float32 functions that LLVM can vectorise, and how the numba kernels are compiled.

The C library's exp is a scalar call, one lane at a time; the polynomials here stay inside the vector loop.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LOG2_E = np.float32(1.4426950408889634)
LN_2 = np.float32(0.6931471805599453)
_X86 = platform.machine().lower() in ("x86_64", "amd64")
_FLUSH = 0x8040  # flush-to-zero and denormals-are-zero in the control word MXCSR
_intrinsic: Any = intrinsic  # whose stubs do not know that callers leave the typing context out
# Adding and subtracting 1.5 * 2^23 rounds a float32 to an integer, which the low bits of the sum hold.
_ROUND = np.float32(12582912.0)


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A numba.njit that caches its machine code on disk where numba finds a writable place, else in memory.

    "contract" lets LLVM fuse a multiplication and an addition, never more unless a kernel asks for it.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, **options}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no directory to cache in: a read-only installation without a home
            return numba.njit(**options)(function)

    return decorate


@_intrinsic
def _bits(typing_context: Any, value: Any) -> Any:
    """The int32 with the bits of a float32."""
    return types.int32(types.float32), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(32))


@_intrinsic
def _float(typing_context: Any, value: Any) -> Any:
    """The float32 with the bits of an int32."""
    return types.float32(types.int32), lambda _, builder, __, args: builder.bitcast(args[0], ir.FloatType())


@_intrinsic
def prefer_wide_vectors(typing_context: Any) -> Any:
    """Let LLVM use 512-bit vectors in the calling function, where the CPU has them; its default is 256.

    The kernels are bound by arithmetic, where the wider vectors win by far more than any clock they cost.
    """

    def generate(_: Any, builder: Any, __: Any, ___: Any) -> Any:
        # llvmlite knows only the attributes without a value, but prints whatever the set holds
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return ir.Constant(ir.IntType(32), 0)

    return types.int32(), generate


@_intrinsic
def flush_denormals(typing_context: Any) -> Any:
    """Make this thread treat denormals as zero; gives what `restore_denormals` needs.

    A state or adjoint that decays towards zero ends as a denormal, where an x86 takes a hundred cycles an
    operation.
    """

    def generate(_: Any, builder: Any, __: Any, ___: Any) -> Any:
        if not _X86:
            return ir.Constant(ir.IntType(32), 0)
        before = _control_word(builder, "stmxcsr")
        _control_word(builder, "ldmxcsr", builder.or_(before, ir.Constant(ir.IntType(32), _FLUSH)))
        return before

    return types.int32(), generate


@_intrinsic
def restore_denormals(typing_context: Any, before: Any) -> Any:
    """Undo `flush_denormals`."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        if _X86:
            _control_word(builder, "ldmxcsr", arguments[0])
        return arguments[0]

    return types.int32(types.int32), generate


def _control_word(builder: Any, instruction: str, value: Any = None) -> Any:
    """Emit a read of the SSE control word, or a write if a value is given."""
    word = ir.IntType(32)
    address = builder.alloca(word)
    if value is not None:
        builder.store(value, address)
    pointer = word.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [pointer])
    name = f"llvm.x86.sse.{instruction}"
    builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [address])
    return builder.load(address)


@kernel()
def exp2(x: Any) -> Any:
    """2^x to a relative error of 2e-7, exactly 1 at 0; below -126 it is 2^-126, which stands for zero."""
    x = min(max(x, np.float32(-126.0)), np.float32(127.0))
    shifted = x + _ROUND
    f = x - (shifted - _ROUND)
    # minimax of (2^f - 1) / f on [-1/2, 1/2]
    p = np.float32(0.00132647272470578)
    p = p * f + np.float32(0.009671512688149255)
    p = p * f + np.float32(0.05550733743574317)
    p = p * f + np.float32(0.2402224208463512)
    p = p * f + np.float32(0.6931469775987161)
    p = p * f + np.float32(1.0)
    return _float(np.int32(_bits(p) + np.int32(_bits(shifted) << np.int32(23))))


@kernel()
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return np.float32(1.0) / (np.float32(1.0) + exp2(-x * LOG2_E))


@kernel()
def softplus(x: Any) -> Any:
    """log(1 + e^x) to a relative error of 3e-7, for very negative x too."""
    w = exp2(-abs(x) * LOG2_E)
    s = w / (np.float32(2.0) + w)  # log(1 + w) = 2 atanh(s)
    q = s * s
    p = np.float32(0.2817833534411754)
    p = p * q + np.float32(0.2796060275680233)
    p = p * q + np.float32(0.4002491027231974)
    p = p * q + np.float32(0.6666631468259303)
    p = p * q + np.float32(2.000000007920966)
    return max(x, np.float32(0.0)) + s * p
