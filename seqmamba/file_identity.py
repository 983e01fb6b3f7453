"""What tells one input file from another, for work that goes on later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def identify(path: str | Path) -> str:
    """Return the name of a file, its size and the time of its last change, as one line of text.

    Whoever goes on with unfinished work compares these: another place of the same file is fine, another
    content is not. Reading a whole genome to compare it would take longer than much of the work.

    Args:
        path: A file that is there.
    """
    path = Path(path)
    status = path.stat()
    return f"{path.name} ({status.st_size} bytes, changed at {status.st_mtime_ns})"


def identify_all(paths: Iterable[str | Path]) -> str:
    """Return one line of text for files in their order: of one file `identify`, of more a hash.

    Args:
        paths: Files that are there.
    """
    lines = [identify(path) for path in paths]
    if len(lines) == 1:
        return lines[0]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{len(lines)} files (sha256 of names, sizes and times {digest[:16]})"
