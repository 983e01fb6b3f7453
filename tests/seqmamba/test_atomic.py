from __future__ import annotations

from pathlib import Path

import pytest

from seqmamba.atomic import atomic_folder, atomic_path, remove_parts


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as part:
        part.write_text("whole")
        assert part.parent == target.parent  # a rename across file systems would be a copy
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(failure), atomic_path(target) as part:  # noqa: PT012
        part.write_text("ne")
        raise failure
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("first", "second"):
        with atomic_folder(target) as part:
            (part / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(ValueError), atomic_folder(target) as part:  # noqa: PT012
        (part / "new").touch()
        raise ValueError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_of_a_write_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_path(tmp_path / "file.txt"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "file.txt")


def test_left_overs_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".last.ckpt.123.part").touch()
    (tmp_path / ".pretrained.123.part").mkdir()
    (tmp_path / "song.part").touch()  # not one of ours
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["song.part", "sub"]
