"""Processes that hold the model, watched by the server: one that dies or hangs is replaced."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from seqmamba.errors import UserError
from seqmamba.serving.answering import Answer, answer_bodies, find_answerer
from seqmamba.serving.limits import Limits

_CONTEXT = multiprocessing.get_context("spawn")  # a fork would share the threads and GPUs of the server
_START_SECONDS = 120.0
_END_SECONDS = 5.0


class WorkerLost(Exception):
    """The process died, or did not answer in time; another one has taken its place."""


class Worker:
    """One process with the model.

    Args:
        model: Folder of the run.
        device: See `find_device`.
        limits: Of the server.
    """

    def __init__(self, model: str, device: str, limits: Limits) -> None:
        self._arguments = (model, device, limits)
        self._seconds = limits.seconds
        self._thread = ThreadPoolExecutor(1)
        self._process: Any = None
        self._connection: Connection | None = None
        self.starts = 0
        self._loaded = False

    @property
    def ready(self) -> bool:
        """Whether there is a process that has the model."""
        process = self._process
        return self._loaded and process is not None and process.is_alive()

    @property
    def process_id(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> dict[str, Any]:
        """Start the process, and return what it says of the model.

        Raises:
            UserError: If it cannot load the model.
        """
        return await self._in_thread(self._start)

    async def answer(self, bodies: Sequence[Path]) -> list[Answer]:
        """Answer some requests.

        Args:
            bodies: A file each.

        Raises:
            WorkerLost: If the process died or took too long.
        """
        return await self._in_thread(self._answer, bodies)

    async def revive(self) -> None:
        """Start another process if this one has died; called while nobody asks for anything."""
        if not self.ready:
            await self._in_thread(self._end)
            await self._in_thread(self._start)

    async def stop(self) -> None:
        """End the process."""
        await self._in_thread(self._end)
        self._thread.shutdown()

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _start(self) -> dict[str, Any]:
        own, other = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(other, *self._arguments), daemon=True)
        self._process.start()
        other.close()
        self._connection = own
        self.starts += 1
        said = self._receive(_START_SECONDS)
        if "error" in said:
            raise UserError(said["error"], hint=said["hint"])
        self._loaded = True
        return said

    def _answer(self, bodies: Sequence[Path]) -> list[Answer]:
        try:
            if not self.ready or self._connection is None:
                self._start()
            assert self._connection is not None
            self._connection.send(list(bodies))
            found: list[Answer] = self._receive(self._seconds)
        except (EOFError, OSError, TimeoutError) as failure:
            self._end()
            raise WorkerLost(str(failure)) from failure
        return found

    def _receive(self, seconds: float) -> Any:
        assert self._connection is not None
        if not self._connection.poll(seconds):
            raise TimeoutError(f"no answer in {seconds:g} seconds")
        return self._connection.recv()

    def _end(self) -> None:
        self._loaded = False
        if self._process is not None:
            self._process.kill()
            self._process.join(_END_SECONDS)
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _work(connection: Connection, model: str, device: str, limits: Limits) -> None:
    """What the process does: load the model, then answer until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    from seqmamba.training.exported import load_any_model
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    try:
        answerer = find_answerer(load_any_model(model, device), limits)
    except UserError as error:
        connection.send({"error": error.message, "hint": error.hint})
        return
    connection.send({"task": answerer.task, "classes": answerer.classes, "takes": answerer.takes})
    while True:
        try:
            bodies = connection.recv()
        except EOFError:
            return
        connection.send(answer_bodies(answerer, bodies))
