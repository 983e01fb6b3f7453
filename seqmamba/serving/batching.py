"""Requests that wait for a worker, and leave together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from seqmamba.serving.answering import Answer
from seqmamba.serving.limits import Limits
from seqmamba.serving.workers import Worker, WorkerLost

_TRIES = 2
_IDLE_SECONDS = 1.0  # after which a worker is looked at


@dataclass
class _Waiting:
    body: Path
    answer: asyncio.Future[Answer]
    tries: int = 0


@dataclass
class Batcher:
    """Hands requests to workers, as many at once as wait for one.

    A request whose worker dies is tried once more, alone: it may be the one that killed it.

    Args:
        workers: Started.
        limits: Of the server.

    Attributes:
        counts: Batches, and requests answered in them, for the metrics.
    """

    workers: Sequence[Worker]
    limits: Limits
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(self.limits.waiting)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken."""
        return self._queue.qsize()

    def begin(self) -> None:
        """Let the workers take requests."""
        self._tasks = [asyncio.create_task(self._serve(worker)) for worker in self.workers]

    async def end(self) -> None:
        """Take no more requests, and end the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def answer(self, body: Path) -> Answer:
        """Answer a request.

        Args:
            body: Its body; it must stay until the answer is there.

        Raises:
            asyncio.QueueFull: If too many wait.
        """
        waiting = _Waiting(body, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    async def _serve(self, worker: Worker) -> None:
        while True:
            try:
                first = await asyncio.wait_for(self._queue.get(), _IDLE_SECONDS)
            except TimeoutError:
                await self._revive(worker)
                continue
            batch = [first]
            while first.tries == 0 and len(batch) < self.limits.together and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            batch = [each for each in batch if not each.answer.done()]  # whoever asked may be gone
            if batch:
                await self._answer(worker, batch)

    async def _revive(self, worker: Worker) -> None:
        if not worker.ready:
            self.counts["workers lost"] += 1
            with suppress(Exception):  # tried again at the next request, which says what is wrong
                await worker.revive()

    async def _answer(self, worker: Worker, batch: list[_Waiting]) -> None:
        try:
            answers = await worker.answer([each.body for each in batch])
        except WorkerLost:
            self.counts["workers lost"] += 1
            await self._again(worker, batch)
            return
        except Exception as failure:  # the worker cannot be started any more
            answers = [Answer(500, error=f"the model cannot be loaded: {failure}")] * len(batch)
        self.counts["batches"] += 1
        self.counts["batched requests"] += len(batch)
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)

    async def _again(self, worker: Worker, batch: list[_Waiting]) -> None:
        for each in batch:
            each.tries += 1
            if each.answer.done():
                continue
            if each.tries >= _TRIES:
                each.answer.set_result(Answer(503, error="the process that was to answer died twice"))
            else:
                await self._answer(worker, [each])
