"""A lock between processes that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock for the length of a ``with`` block; a second process waits.

    The lock is the kernel's (``flock``), not the file's existence: nothing has to be cleaned up after kill
    -9.

    Args:
        path: The lock file, made if it is missing and left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
