from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.file_sets import FileSet, prepare_files, read_digests
from seqmamba.errors import UserError

FILES = {"a b/train.csv": b"sequence,label\n", "a b/test.csv": b"test\n", "top.txt": b"top\n"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def file_set(base: str = "https://example.org/x/") -> FileSet:
    return FileSet("tiny", 1, base, {path: digest(content) for path, content in FILES.items()})


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        (tmp_path / "release" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "release" / path).write_bytes(content)
    return tmp_path / "release"


@pytest.fixture
def server(release: Path) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(release))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_address[1]}/", asked
        http_server.shutdown()


def test_a_local_copy_in_the_layout_of_the_release(release: Path, tmp_path: Path) -> None:
    folder = prepare_files(file_set(), tmp_path / "data", release)
    assert folder == tmp_path / "data" / "tiny"
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"]["a b/train.csv"] == {"sha256": digest(FILES["a b/train.csv"]), "bytes": 15}
    assert manifest["source"]["origin"] == "https://example.org/x/"


def test_fetched_once_and_again_only_if_damaged(server: tuple[str, list[str]], tmp_path: Path) -> None:
    base, asked = server
    folder = prepare_files(file_set(base), tmp_path / "data")
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert sorted(asked) == ["/a%20b/test.csv", "/a%20b/train.csv", "/top.txt"]
    (folder / "top.txt").write_text("changed")
    assert prepare_files(file_set(base), tmp_path / "data") == folder
    assert (folder / "top.txt").read_bytes() == FILES["top.txt"]
    assert len(asked) == 3  # from the downloads that were kept


def test_a_set_that_lost_a_file_on_the_way_is_none(
    server: tuple[str, list[str]], release: Path, tmp_path: Path
) -> None:
    (release / "a b" / "test.csv").unlink()
    with pytest.raises(UserError, match="the server answered 404"):
        prepare_files(file_set(server[0]), tmp_path / "data")
    assert not (tmp_path / "data" / "tiny").exists()


def test_a_copy_with_other_bytes_is_refused(release: Path, tmp_path: Path) -> None:
    (release / "top.txt").write_text("other\n")
    with pytest.raises(UserError, match=r"top\.txt: expected sha256"):
        prepare_files(file_set(), tmp_path / "data", release)
    (release / "top.txt").unlink()
    with pytest.raises(UserError, match="no such file"):
        prepare_files(file_set(), tmp_path / "data", release)
    assert not (tmp_path / "data" / "tiny").exists()


def test_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "files.sha256").write_text("".join(f"{digest(c)}  {path}\n" for path, c in FILES.items()))
    assert read_digests(tmp_path / "files.sha256") == file_set().files


def test_without_a_network_it_says_how_to_put_the_files_by_hand(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be fetched") as refused:
        prepare_files(file_set("http://127.0.0.1:9/x/"), tmp_path / "data")
    assert refused.value.hint is not None
    assert "get the 3 files below http://127.0.0.1:9/x/" in refused.value.hint
    assert "--source PATH" in refused.value.hint
