from __future__ import annotations

import hashlib
import http.server
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from recipe_builders import write_wheel

from recipes.sources import DebSource, UrlSource, WheelSource, obtain
from seqmamba.errors import UserError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A server on the loopback interface and what it was asked for."""

    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    resumes: bool = True
    cut_after: int | None = None


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/data.bin":
                self.send_error(404)
                return
            asked = self.headers.get("Range")
            site.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.resumes else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : start + (site.cut_after or len(CONTENT))])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/data.bin"
        yield site
        server.shutdown()
        thread.join()


def test_a_download_is_kept(site: Site, tmp_path: Path) -> None:
    source = UrlSource(site.url, "data.bin", SHA256)
    for _ in range(2):
        assert obtain(source, tmp_path).read_bytes() == CONTENT
    assert site.ranges == [None]
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["data.bin"]


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_continues(site: Site, tmp_path: Path, resumes: bool) -> None:
    source = UrlSource(site.url, "data.bin", SHA256)
    site.cut_after = 1000
    with pytest.raises(UserError, match=r"closed after 1,000 of 256,000 bytes"):
        obtain(source, tmp_path)
    site.cut_after, site.resumes = None, resumes
    assert obtain(source, tmp_path).read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=1000-"]


def test_a_complete_but_unmoved_download_is_used(site: Site, tmp_path: Path) -> None:
    partial = tmp_path / ".data.bin.partial"
    partial.mkdir()
    (partial / "data.bin").write_bytes(CONTENT)
    assert obtain(UrlSource(site.url, "data.bin", SHA256), tmp_path).read_bytes() == CONTENT


def test_a_wrong_beginning_is_not_continued_for_ever(site: Site, tmp_path: Path) -> None:
    partial = tmp_path / ".data.bin.partial"
    partial.mkdir()
    (partial / "data.bin").write_bytes(b"wrong")
    source = UrlSource(site.url, "data.bin", SHA256)
    with pytest.raises(UserError, match="expected sha256"):
        obtain(source, tmp_path)
    assert obtain(source, tmp_path).read_bytes() == CONTENT


def test_a_damaged_copy_in_the_cache_is_replaced(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    assert obtain(UrlSource(site.url, "data.bin", SHA256), tmp_path).read_bytes() == CONTENT


def test_another_file_than_expected_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, got {SHA256}"):
        obtain(UrlSource(site.url, "data.bin", "0" * 64), tmp_path)
    assert not (tmp_path / "data.bin").exists()


def test_what_the_server_says_is_passed_on(site: Site, tmp_path: Path) -> None:
    missing = UrlSource(site.url.replace("data.bin", "other"), "data.bin", SHA256)
    with pytest.raises(UserError, match="answered 404") as caught:
        obtain(missing, tmp_path)
    assert "--source PATH" in (caught.value.hint or "")


def test_no_server_and_no_web_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be fetched"):
        obtain(UrlSource("http://127.0.0.1:1/x", "x", SHA256), tmp_path)
    with pytest.raises(UserError, match="expected an http"):
        obtain(UrlSource("file:///etc/hostname", "x", SHA256), tmp_path)


def test_a_copy_on_disk_needs_no_network(tmp_path: Path) -> None:
    copy = tmp_path / "copy.bin"
    copy.write_bytes(CONTENT)
    source = UrlSource("http://127.0.0.1:1/x", "data.bin", SHA256)
    assert obtain(source, tmp_path / "cache", copy) == copy
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="no such file"):
        obtain(source, tmp_path / "cache", folder)
    (folder / "data.bin").write_bytes(CONTENT)
    assert obtain(source, tmp_path / "cache", folder) == folder / "data.bin"
    copy.write_bytes(b"something else")
    with pytest.raises(UserError, match="expected sha256"):
        obtain(source, tmp_path / "cache", copy)


def test_pip_fetches_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    index.mkdir()
    wheel = write_wheel(index / "tinydata-1.0-py3-none-any.whl", {"tinydata/x.fa": ">a\nACGT\n"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    cache = tmp_path / "cache"
    kept = obtain(WheelSource("tinydata", "1.0", wheel.name, sha256), cache)
    assert kept == cache / wheel.name
    assert kept.read_bytes() == wheel.read_bytes()
    with pytest.raises(UserError, match=r"tinydata==2\.0: cannot be fetched") as caught:
        obtain(WheelSource("tinydata", "2.0", "tinydata-2.0-py3-none-any.whl", sha256), cache)
    assert "--source PATH" in (caught.value.hint or "")


def _fake_apt(folder: Path, script: str) -> None:
    folder.mkdir()
    program = folder / "apt-get"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_apt_fetches_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served.deb").write_bytes(CONTENT)
    _fake_apt(
        tmp_path / "bin",
        f'[ "$*" = "download --quiet tiny=1:2-3" ] && cp {tmp_path}/served.deb tiny_1%3a2-3_all.deb',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    source = DebSource("tiny", "1:2-3", "tiny_1%3a2-3_all.deb", SHA256)
    assert obtain(source, tmp_path / "cache").read_bytes() == CONTENT


def test_what_apt_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_apt(tmp_path / "bin", "echo 'E: Version 1 was not found' >&2; exit 100")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(UserError, match=re.escape("(E: Version 1 was not found)")) as caught:
        obtain(DebSource("tiny", "1", "tiny_1_all.deb", SHA256), tmp_path / "cache")
    assert (caught.value.hint or "").startswith("refresh the package lists")


def test_without_apt_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="has no apt-get") as caught:
        obtain(DebSource("tiny", "1", "tiny_1_all.deb", SHA256), tmp_path / "cache")
    assert "tiny_1_all.deb" in (caught.value.hint or "")
