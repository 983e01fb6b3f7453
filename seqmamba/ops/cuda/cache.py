"""Compiled kernels on disk: verified when read, written whole, bounded in number."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path

from seqmamba.atomic import PART_SUFFIX, atomic_path
from seqmamba.ops.cuda.compiler import Compiled, Resources, compile_text, compiler_version, options
from seqmamba.ops.cuda.sources import flatten
from seqmamba.paths import KERNELS_VARIABLE, kernels_dir

MOST_ENTRIES = 256
_FORMAT = "seqmamba kernel 1"
_DIGEST_BYTES = 32
_PART_SECONDS = 3600.0  # nobody writes an entry for an hour
_warned: set[str] = set()


def compiled(source: Path, constants: tuple[tuple[str, int | str], ...], architecture: str) -> Compiled:
    """Return a kernel file's code from the disk, or compile it and keep it there.

    A damaged entry is compiled again. A folder that cannot be written costs the compilation each time, and
    one warning.

    Args:
        source: A .cu file.
        constants: Preprocessor definitions.
        architecture: As for `compile_source`.

    Returns:
        Code, log and resources.

    Raises:
        UserError: NVRTC cannot be used here, or the source does not compile.
    """
    text, given = flatten(source), options(dict(constants), architecture)
    key = cache_key(text, given)
    folder = kernels_dir()
    entry = folder / f"{Path(source).stem}-{architecture}-{key}.kernel"
    found = _read(entry)
    if found is None:
        found = compile_text(text, Path(source).name, given)
        try:
            with atomic_path(entry) as part:
                part.write_bytes(encode(found))
            _prune(folder)
        except OSError as failure:
            _warn_once(folder, failure)
    return found


def cache_key(text: str, given: tuple[str, ...]) -> str:
    """Return a name for what the compiler is given: text, options and the compiler's version."""
    parts = [_FORMAT, ".".join(map(str, compiler_version())), *given, text]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def encode(content: Compiled) -> bytes:
    """Return the bytes of an entry: a digest, a line of JSON, the code."""
    kernels = {name: asdict(resources) for name, resources in content.kernels.items()}
    body = json.dumps({"log": content.log, "kernels": kernels}).encode() + b"\n" + content.cubin
    return hashlib.sha256(body).digest() + body


def decode(entry: bytes) -> Compiled | None:
    """Return an entry's content, or None if a byte of it is missing or changed."""
    digest, body = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    head, _, cubin = body.partition(b"\n")
    described = json.loads(head)
    kernels = {name: Resources(**resources) for name, resources in described["kernels"].items()}
    return Compiled(cubin, described["log"], kernels)


def _read(entry: Path) -> Compiled | None:
    try:
        content = decode(entry.read_bytes())
    except OSError:
        return None
    if content is not None:
        with contextlib.suppress(OSError):  # in somebody else's folder: theirs to prune
            os.utime(entry)  # the oldest use is pruned first
    return content


def _prune(folder: Path) -> None:
    """Remove the entries that were not used for longest, and what killed processes left half-written."""
    kept: list[tuple[float, Path]] = []
    abandoned = folder.stat().st_mtime - _PART_SECONDS
    for path in folder.iterdir():
        try:
            used = path.stat().st_mtime
        except FileNotFoundError:  # another process prunes too
            continue
        if path.suffix == ".kernel":
            kept.append((used, path))
        elif path.name.endswith(PART_SUFFIX) and used < abandoned:
            path.unlink(missing_ok=True)
    for _, path in sorted(kept)[:-MOST_ENTRIES]:
        path.unlink(missing_ok=True)


def _warn_once(folder: Path, failure: OSError) -> None:
    if str(folder) in _warned:
        return
    _warned.add(str(folder))
    reason = failure.strerror or type(failure).__name__
    warnings.warn(
        f"compiled GPU kernels cannot be kept in {folder} ({reason}): each process compiles them again; "
        f"{KERNELS_VARIABLE} names another folder",
        RuntimeWarning,
        stacklevel=2,
    )
