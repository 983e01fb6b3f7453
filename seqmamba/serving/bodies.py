"""Bodies of requests, read in bounded memory and time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request

from seqmamba.serving.answering import Answer
from seqmamba.serving.limits import Limits


async def save_body(request: Request, path: Path, limits: Limits) -> Answer | None:
    """Write the body of a request to a file.

    Args:
        request: Whose body was not read yet.
        path: The file.
        limits: Of the server.

    Returns:
        None, or the refusal: 413 if it is too large, 408 if it comes too slowly, 400 if it is empty or breaks
        off.
    """
    too_large = Answer(413, error=f"body: expected at most {limits.body_bytes:,} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limits.body_bytes:
        return too_large
    try:
        with path.open("wb") as file:
            size = await asyncio.wait_for(_copy(request, file, limits.body_bytes), limits.seconds)
    except TimeoutError:
        return Answer(408, error=f"body: expected all of it within {limits.seconds} seconds")
    except ClientDisconnect:
        return Answer(400, error="body: it broke off")
    if size > limits.body_bytes:
        return too_large
    return None if size else Answer(400, error="body: expected a file, got nothing")


async def _copy(request: Request, file: BinaryIO, most: int) -> int:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            break
        file.write(part)
    return size
