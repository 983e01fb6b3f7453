"""Inputs of recomputed blocks that wait for the backward pass in host memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

_IN_FLIGHT = 2  # copies to the host that the device may still hold the source of


class _Parked:
    """A tensor on its way to the host and back."""

    def __init__(self, place: int, x: Tensor) -> None:
        self.place = place
        self.source: Tensor | None = x
        self.host = torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda)
        self.back: Tensor | None = None
        self.done: Any = None


class HostInputs:
    """Keeps the inputs of a stack's blocks in pinned host memory between the forward and the backward pass.

    Copies run on a stream of their own, beside the computation: to the host behind the forward pass, and back
    one block ahead of the backward pass. On the device lie the inputs of two or three blocks at a time.

    Use one object for one forward pass.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._parked: list[_Parked] = []

    def parking(self, x: Tensor) -> AbstractContextManager[Any]:
        """Return a context in which what autograd saves of `x` itself goes to the host.

        Args:
            x: The input of the block that is called, through `torch.utils.checkpoint`, in the context.
        """
        address = x.data_ptr()  # not x: autograd holds what it calls

        def pack(saved: Tensor) -> Any:
            return self._send(saved) if saved.data_ptr() == address and saved.numel() else saved

        def unpack(kept: Any) -> Tensor:
            return self._receive(kept) if isinstance(kept, _Parked) else kept

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)

    def _send(self, x: Tensor) -> _Parked:
        parked = _Parked(len(self._parked), x.detach())
        self._parked.append(parked)
        if self._stream is None:
            parked.host.copy_(x)
            parked.source = None
            return parked
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            parked.host.copy_(parked.source, non_blocking=True)  # type: ignore[arg-type]
            parked.done = self._stream.record_event()
        if parked.place >= _IN_FLIGHT:
            self._let_go(self._parked[parked.place - _IN_FLIGHT])
        return parked

    def _let_go(self, parked: _Parked) -> None:
        """Give the source's memory back to the computation, which waits for the copy first."""
        if parked.source is not None:
            torch.cuda.current_stream(self._device).wait_event(parked.done)
            parked.source = None

    def _fetch(self, parked: _Parked) -> None:
        if parked.back is not None or parked.source is not None:
            return
        parked.back = torch.empty(parked.host.shape, dtype=parked.host.dtype, device=self._device)
        if self._stream is None:
            parked.back.copy_(parked.host)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))  # its memory may still be read
        with torch.cuda.stream(self._stream):
            parked.back.copy_(parked.host, non_blocking=True)
            parked.done = self._stream.record_event()

    def _receive(self, parked: _Parked) -> Tensor:
        self._fetch(parked)
        x = parked.source if parked.back is None else parked.back
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_event(parked.done)
        parked.back = parked.source = None
        if parked.place:
            self._fetch(self._parked[parked.place - 1])
        assert x is not None
        return x
