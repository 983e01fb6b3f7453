"""The server's addresses."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from seqmamba.serving.answering import Answer
from seqmamba.serving.batching import Batcher
from seqmamba.serving.bodies import save_body
from seqmamba.serving.limits import Limits
from seqmamba.serving.metrics import Metrics
from seqmamba.serving.workers import Worker

_PAGE = Path(__file__).with_name("page")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server:
    """Answers requests with the workers' models.

    Args:
        model: Folder of the run.
        device: Of the workers.
        workers: How many.
        limits: What is taken on.
    """

    def __init__(self, model: str, device: str, workers: int, limits: Limits) -> None:
        self._limits = limits
        self._workers = [Worker(model, device, limits) for _ in range(workers)]
        self._about: dict[str, Any] = {}
        self._folder = Path()
        self._batcher: Batcher
        self._metrics: Metrics

    def load(self) -> None:
        """Start the workers.

        Raises:
            UserError: If they cannot load the model, or it is none that can answer.
        """

        async def start() -> list[dict[str, Any]]:
            return await asyncio.gather(*(worker.start() for worker in self._workers))

        self._about = asyncio.run(start())[0]

    def application(self, hosts: Sequence[str]) -> Starlette:
        """Return the ASGI application; call `load` first.

        Args:
            hosts: Names under which it answers; a page of another name, which resolves to this machine, must
                not read what it says.
        """
        routes = [
            Route("/", self._page),
            Route("/page.js", self._page),
            Route("/page.css", self._page),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/model", self._model),
            Route("/metrics", self._show_metrics),
            Route("/predict", self._predict, methods=["POST"]),
        ]
        trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
        return Starlette(routes=routes, middleware=[trusted], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="seqmamba-serve-") as folder:
            self._folder = Path(folder)
            self._batcher = Batcher(self._workers, self._limits)
            self._metrics = Metrics(self._batcher)
            self._batcher.begin()
            try:
                yield
            finally:
                await self._batcher.end()

    async def _predict(self, request: Request) -> Response:
        begun = time.perf_counter()
        answer = await self._answer(request)
        self._metrics.note(answer.status, time.perf_counter() - begun)
        headers = {**_HEADERS, **({"Retry-After": "1"} if answer.status == 503 else {})}
        if answer.status == 200 and "text/tab-separated-values" in request.headers.get("accept", ""):
            return PlainTextResponse(_table(answer), media_type="text/tab-separated-values", headers=headers)
        return JSONResponse(answer.content(), answer.status, headers)

    async def _answer(self, request: Request) -> Answer:
        if not _same_origin(request):
            return Answer(403, error="requests of other sites' pages are refused")
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            body = Path(file.name)
            refusal = await save_body(request, body, self._limits)
            if refusal is not None:
                return refusal
            try:
                return await asyncio.wait_for(self._batcher.answer(body), self._limits.seconds)
            except asyncio.QueueFull:
                return Answer(503, error=f"{self._limits.waiting:,} requests wait already")
            except TimeoutError:
                return Answer(504, error=f"no answer within {self._limits.seconds} seconds")

    async def _page(self, request: Request) -> Response:
        return FileResponse(_PAGE / (request.url.path.strip("/") or "page.html"), headers=_HEADERS)

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def _ready(self, _: Request) -> Response:
        ready = sum(worker.ready for worker in self._workers)
        return JSONResponse({"workers": ready}, 200 if ready else 503, _HEADERS)

    async def _model(self, _: Request) -> Response:
        return JSONResponse({**self._about, "limits": vars(self._limits)}, headers=_HEADERS)

    async def _show_metrics(self, _: Request) -> Response:
        return PlainTextResponse(
            self._metrics.text(), media_type="text/plain; version=0.0.4", headers=_HEADERS
        )


def _same_origin(request: Request) -> bool:
    """Whether a page of this server asks, or no page at all."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _table(answer: Answer) -> str:
    """The rows, tab-separated: name, prediction, and a column a class or target."""
    lines: list[str] = []
    for row in answer.rows:
        values = row.get("probabilities", row["prediction"])
        said = row["prediction"]
        word = said if isinstance(said, str) else ";".join(said)
        if not lines:
            lines.append("\t".join(("name", "prediction", *values)))
        cells = (row["name"], word, *(f"{value:.6f}" for value in values.values()))
        lines.append("\t".join(" ".join(cell.split()) for cell in cells))
    return "\n".join(lines) + "\n"
