"""What a finished file was made from, and which inputs are the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from seqmamba.errors import UserError
from seqmamba.file_identity import identify, identify_all
from seqmamba.finished import check_finished, note_settings, require_new, settings_file
from seqmamba.resumable import ResumableFile

SETTINGS = {"input": "x.fa", "window": 64, "scores": ("llr", "delta")}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "out.tsv"
    path.write_text("a\tb\n")
    return path


def test_nothing_is_replaced_unasked(output: Path) -> None:
    with pytest.raises(UserError, match=r"out\.tsv: exists already \(--overwrite replaces it\)"):
        require_new(output, overwrite=False)
    require_new(output, overwrite=True)
    require_new(output.with_name("other.tsv"), overwrite=False)
    with pytest.raises(UserError, match="is a folder, expected the file to write"):
        require_new(output.parent, overwrite=True)


def test_the_same_settings_are_the_same_file(output: Path) -> None:
    note_settings(output, SETTINGS)
    check_finished(output, SETTINGS)  # a tuple became a list on its way through JSON
    assert list(output.parent.glob("*")) in ([output, settings_file(output)], [settings_file(output), output])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"window": 32}, "--resume: window was 64, now it is 32"),
        ({"scores": ["llr"]}, "--resume: scores was ['llr', 'delta'], now it is ['llr']"),
        ({"strands": "both"}, "--resume: strands was None, now it is both"),
    ],
)
def test_other_settings_are_named(output: Path, change: dict[str, object], sentence: str) -> None:
    note_settings(output, SETTINGS)
    with pytest.raises(UserError, match=re.escape(sentence)):
        check_finished(output, SETTINGS | change)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"bytes": 4, "settings": 1}', "\x00"])
def test_a_file_of_unknown_making_is_not_taken_for_finished(output: Path, content: str | None) -> None:
    if content is not None:
        settings_file(output).write_text(content)
    with pytest.raises(UserError, match=r"out\.tsv exists, and nothing says what it was made from"):
        check_finished(output, SETTINGS)


def test_a_file_that_was_changed_is_not_taken_for_finished(output: Path) -> None:
    note_settings(output, SETTINGS)
    with output.open("a") as handle:
        handle.write("c\td\n")
    with pytest.raises(UserError, match=r"out\.tsv was changed since it was made"):
        check_finished(output, SETTINGS)


def test_a_resumable_file_says_what_it_was_made_from(tmp_path: Path) -> None:
    def write(window: int, *, resume: bool) -> bool:
        settings = {"window": window}
        with ResumableFile(
            tmp_path / "o.tsv", settings, bgzip=False, resume=resume, overwrite=not resume
        ) as file:
            if not file.complete:
                file.write(b"row\n" * window, window, {})
                file.finish()
        return not file.complete

    assert write(2, resume=True)  # nothing is there yet
    assert not write(2, resume=True)
    with pytest.raises(UserError, match="--resume: window was 2, now it is 3"):
        write(3, resume=True)
    assert (tmp_path / "o.tsv").read_text() == "row\nrow\n"
    assert write(3, resume=False)
    assert not write(3, resume=True)


def test_an_input_is_known_by_name_size_and_time(tmp_path: Path) -> None:
    first, copy = tmp_path / "x.fa", tmp_path / "elsewhere" / "x.fa"
    copy.parent.mkdir()
    for path in (first, copy):
        path.write_text(">a\nACGT\n")
        os.utime(path, ns=(1, 2))
    assert identify(first) == identify(str(copy)) == "x.fa (8 bytes, changed at 2)"
    assert identify_all([first]) == identify(first)
    os.utime(copy, ns=(1, 3))
    assert identify(first) != identify(copy)
    many = identify_all([first, copy])
    assert re.fullmatch(r"2 files \(sha256 of names, sizes and times [0-9a-f]{16}\)", many)
    assert many != identify_all([copy, first])
