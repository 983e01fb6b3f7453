"""Kernels on a device: load machine code, keep what a launch needs ready, launch."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from seqmamba.errors import UserError

_UNASKED_SHARED_BYTES = 48 * 1024  # a kernel must ask for more than this

Argument = Tensor | int | float | None


@functools.cache
def _driver() -> Any:
    from cuda.bindings import driver

    _check(driver.cuInit(0))
    return driver


def _check(answer: tuple[Any, ...]) -> Any:
    """Return the result of a driver call.

    Raises:
        RuntimeError: The driver reports an error.
    """
    status, *results = answer
    if int(status) != 0:
        raise RuntimeError(f"the CUDA driver answers {status.name}")
    return results[0] if results else None


@functools.cache
def primary_context(device: int) -> Any:
    """Return the context of a device that torch computes in."""
    driver = _driver()
    return _check(driver.cuDevicePrimaryCtxRetain(_check(driver.cuDeviceGet(device))))


@contextmanager
def _inside(context: Any) -> Iterator[None]:
    driver = _driver()
    _check(driver.cuCtxPushCurrent(context))
    try:
        yield
    finally:
        _check(driver.cuCtxPopCurrent())


@contextmanager
def _allowed_while_capturing() -> Iterator[None]:
    """Let a module be loaded while this thread captures a CUDA graph: loading is no work of the stream."""
    driver = _driver()
    relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    before = _check(driver.cuThreadExchangeStreamCaptureMode(relaxed))
    try:
        yield
    finally:
        _check(driver.cuThreadExchangeStreamCaptureMode(before))


class Module:
    """Machine code loaded on one device."""

    def __init__(self, code: bytes, device: int, name: str) -> None:
        self.device = device
        self.name = name
        with _inside(primary_context(device)), _allowed_while_capturing():
            self.handle = _check(_driver().cuModuleLoadData(code))

    def function(self, kernel: str, shared_bytes: int) -> Any:
        """Return a kernel that may use this much dynamic shared memory.

        Raises:
            UserError: The file has no such kernel, or the device has less shared memory.
        """
        driver = _driver()
        with _inside(primary_context(self.device)), _allowed_while_capturing():
            status, function = driver.cuModuleGetFunction(self.handle, kernel.encode())
            if status == driver.CUresult.CUDA_ERROR_NOT_FOUND:
                raise UserError(f"{self.name} has no kernel {kernel}")
            _check((status,))
            if shared_bytes > _UNASKED_SHARED_BYTES:
                attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                (status,) = driver.cuFuncSetAttribute(function, attribute, shared_bytes)
                if status == driver.CUresult.CUDA_ERROR_INVALID_VALUE:
                    limit = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
                    most = _check(driver.cuDeviceGetAttribute(limit, self.device))
                    raise UserError(
                        f"{self.name}: {kernel} asks for {shared_bytes} bytes of shared memory a block, "
                        f"cuda:{self.device} has {most}"
                    )
                _check((status,))
        return function


class Launcher:
    """A kernel with the buffers that its arguments travel in.

    `__call__` runs hundreds of times a training step, hence buffers that are kept.
    """

    def __init__(self, function: Any, device: int, arguments: Sequence[Argument], name: str) -> None:
        self.function = function
        self.device = device
        self.name = name
        self.context = int(primary_context(device))
        self.layout = struct.Struct("=" + "".join(map(_slot, arguments)))
        self.count = len(arguments)
        # Two threads may launch at once (autograd has its own): each takes a buffer from here for the call.
        self.buffers: list[tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_void_p], int]] = []
        driver = _driver()
        self._launch = driver.cuLaunchKernel
        self._current = driver.cuCtxGetCurrent

    def __call__(
        self,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        values: list[int | float],
        stream: int,
    ) -> None:
        """Launch.

        Args:
            grid: Blocks along x, y, z.
            threads: Threads a block.
            shared_bytes: Dynamic shared memory a block.
            values: The arguments, tensors as addresses.
            stream: Handle of a stream of the device.

        Raises:
            RuntimeError: The driver refuses.
        """
        try:
            buffer = self.buffers.pop()
        except IndexError:
            buffer = self._buffer()
        self.layout.pack_into(buffer[0], 0, *values)
        (status, current) = self._current()
        if int(current) == self.context:
            (status,) = self._launch(self.function, *grid, threads, 1, 1, shared_bytes, stream, buffer[2], 0)
        else:  # another device's context, or a thread that has none yet
            with _inside(primary_context(self.device)):
                (status,) = self._launch(
                    self.function, *grid, threads, 1, 1, shared_bytes, stream, buffer[2], 0
                )
        self.buffers.append(buffer)
        if status != 0:
            raise RuntimeError(
                f"{self.name}: the CUDA driver answers {status.name} to a launch of {grid} blocks of "
                f"{threads} threads with {shared_bytes} bytes of shared memory"
            )

    def _buffer(self) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_void_p], int]:
        content = ctypes.create_string_buffer(8 * self.count + 8)
        start = ctypes.addressof(content)
        pointers = (ctypes.c_void_p * (self.count + 1))(*(start + 8 * i for i in range(self.count)))
        return content, pointers, ctypes.addressof(pointers)


def _slot(argument: Argument) -> str:
    """One argument in eight bytes: an address, an int64 or a float32."""
    if argument is None or isinstance(argument, Tensor):
        return "Q"
    return "f4x" if isinstance(argument, float) else "q"
