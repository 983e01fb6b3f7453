"""Sets of files out of one archive, or a folder with a copy."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from recipes.archived_files import ArchivedFiles, prepare_archived
from seqmamba.errors import UserError

CONTENT = {"001 - Dog bark/1-a.ogg": b"dog", "002 - Rain/2-b.ogg": b"rain"}


def described() -> ArchivedFiles:
    files = {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}
    return ArchivedFiles("sounds", 1, "https://host.invalid/c/", files, archive="https://host.invalid/c.zip")


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    count = 0
    for path, content in files:
        (folder / Path(path).name).write_bytes(content)
        count += 1
    return {"files": count}


def archive(path: Path, content: dict[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, data in content.items():
            out.writestr(f"sounds-1234/{name}", data)
    return path


def test_an_archive_makes_the_set_and_a_second_call_finds_it(tmp_path: Path) -> None:
    copy = archive(tmp_path / "c.zip")
    folder = prepare_archived(described(), tmp_path / "data", copy, write)
    assert {path.name for path in folder.iterdir()} == {"1-a.ogg", "2-b.ogg", "manifest.json"}
    copy.unlink()
    assert prepare_archived(described(), tmp_path / "data", copy, write) == folder


@pytest.mark.parametrize("layout", ["001 - Dog bark/1-a.ogg", "1-a.ogg", "audio/1-a.ogg"])
def test_a_folder_may_hold_them_as_released_flat_or_in_one_folder(tmp_path: Path, layout: str) -> None:
    for path, content in ((layout, b"dog"), (str(Path(layout).with_name("2-b.ogg")), b"rain")):
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(content)
    folder = prepare_archived(described(), tmp_path / "data", tmp_path / "copy", write)
    assert (folder / "2-b.ogg").read_bytes() == b"rain"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT | {"002 - Rain/2-b.ogg": b"hail"}, "2-b.ogg: expected sha256"),
        ({"001 - Dog bark/1-a.ogg": b"dog"}, "does not hold 002 - Rain/2-b.ogg"),
    ],
)
def test_other_files_are_refused_and_leave_nothing(
    tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare_archived(described(), tmp_path / "data", archive(tmp_path / "c.zip", content), write)
    assert not (tmp_path / "data" / "sounds").exists()


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.zip").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"c\.zip: is not a zip file"):
        prepare_archived(described(), tmp_path / "data", tmp_path / "c.zip", write)
    with pytest.raises(UserError, match="gone: is not a zip file"):
        prepare_archived(described(), tmp_path / "data", tmp_path / "gone", write)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--source .*empty: does not hold 1-a.ogg"):
        prepare_archived(described(), tmp_path / "data", tmp_path / "empty", write)


def test_the_archive_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def download(self: Any, folder: Path) -> Path:
        fetched.append(self.url)
        return archive(folder / self.filename)

    monkeypatch.setattr("recipes.sources.UrlSource.download", download)
    for data in ("data", "data"):
        prepare_archived(described(), tmp_path / data, None, write)
    assert fetched == ["https://host.invalid/c.zip"]
    assert (tmp_path / "data/downloads/sounds.zip").is_file()
