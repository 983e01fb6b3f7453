from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipe_builders import write_wheel

from recipes.prepared import Preparation, is_whole, prepare_set
from recipes.sources import WheelSource, file_sha256
from seqmamba.errors import UserError

WHEEL = "tinydata-1.0-py3-none-any.whl"


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    letters = (unpacked / "x.txt").read_text()
    (folder / "one.txt").write_text(letters.lower())
    (folder / "two.txt").write_text(letters.upper())
    return {"letters": len(letters)}


@pytest.fixture
def preparation(tmp_path: Path) -> Preparation:
    wheel = write_wheel(tmp_path / WHEEL, {"tinydata/x.txt": "aBc"})
    source = WheelSource("tinydata", "1.0", WHEEL, file_sha256(wheel))
    return Preparation("tiny", 1, source, ("tinydata/x.txt",), build)


def test_a_set_and_its_manifest(preparation: Preparation, tmp_path: Path) -> None:
    folder = prepare_set(preparation, tmp_path / "data", tmp_path)
    assert folder == tmp_path / "data" / "tiny"
    assert (folder / "two.txt").read_text() == "ABC"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["summary"] == {"letters": 3}
    assert manifest["source"]["sha256"] == preparation.source.sha256
    assert manifest["files"]["one.txt"] == {"sha256": file_sha256(folder / "one.txt"), "bytes": 3}
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "one.txt", "two.txt"]


def test_a_whole_set_is_left_alone(preparation: Preparation, tmp_path: Path) -> None:
    folder = prepare_set(preparation, tmp_path / "data", tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (tmp_path / WHEEL).unlink()  # neither source nor network is needed again
    (folder / "one.txt.fai").write_text("an index that a reader left")
    assert prepare_set(preparation, tmp_path / "data") == folder
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize("damage", ["change", "remove", "manifest", "version", "source"])
def test_a_damaged_or_outdated_set_is_made_anew(
    preparation: Preparation, tmp_path: Path, damage: str
) -> None:
    folder = prepare_set(preparation, tmp_path / "data", tmp_path)
    if damage == "change":
        (folder / "one.txt").write_text("abd")
    elif damage == "remove":
        (folder / "two.txt").unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text('{"name": "ti')
    elif damage == "version":
        preparation = replace(preparation, version=2)
    else:
        wheel = write_wheel(tmp_path / WHEEL, {"tinydata/x.txt": "aBc", "tinydata/more": "!"})
        preparation = replace(preparation, source=WheelSource("tinydata", "1.0", WHEEL, file_sha256(wheel)))
    assert not is_whole(folder, preparation)
    assert prepare_set(preparation, tmp_path / "data", tmp_path) == folder
    assert is_whole(folder, preparation)
    assert (folder / "one.txt").read_text() == "abc"


def test_a_failing_build_leaves_the_old_set_or_none(preparation: Preparation, tmp_path: Path) -> None:
    def fail(unpacked: Path, folder: Path) -> dict[str, Any]:
        build(unpacked, folder)
        raise UserError("no")

    failing = replace(preparation, version=2, build=fail)
    for expected in (False, True):
        if expected:
            prepare_set(preparation, tmp_path / "data", tmp_path)
        with pytest.raises(UserError, match="no"):
            prepare_set(failing, tmp_path / "data", tmp_path)
        assert is_whole(tmp_path / "data" / "tiny", preparation) is expected
        assert not list((tmp_path / "data").glob("*.part"))
        assert not list((tmp_path / "data").glob(".*.part"))


def test_a_data_folder_that_cannot_be_made(preparation: Preparation, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match=r"the data folder .*data cannot be made") as caught:
        prepare_set(preparation, tmp_path / "data", tmp_path)
    assert "SEQMAMBA_DATA" in (caught.value.hint or "")


SCRIPT = """
import sys, time
from pathlib import Path
from recipes.prepared import Preparation, prepare_set
from recipes.sources import WheelSource

def build(unpacked, folder):
    for name in ("one.txt", "two.txt"):
        with (folder / name).open("w") as out:
            for letter in (unpacked / "x.txt").read_text():
                out.write(letter)
                out.flush()
                if "slow" in sys.argv:
                    Path(sys.argv[3]).touch()
                    time.sleep(0.1)
    return {}

source = WheelSource("tinydata", "1.0", sys.argv[2] + ".whl", sys.argv[4])
tiny = Preparation("tiny", 1, source, ("tinydata/x.txt",), build)
prepare_set(tiny, Path(sys.argv[1]) / "data", Path(sys.argv[1]))
"""


def test_kill_9_leaves_no_set_and_the_next_call_makes_it(preparation: Preparation, tmp_path: Path) -> None:
    mark = tmp_path / "building"
    words = [
        *(sys.executable, "-c", SCRIPT, str(tmp_path), WHEEL.removesuffix(".whl")),
        *(str(mark), preparation.source.sha256),
    ]
    slow = subprocess.Popen([*words, "slow"])
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    # A second call meanwhile waits for the first; when that one dies, it takes over.
    waiting = subprocess.Popen(words)
    time.sleep(0.1)
    assert not (tmp_path / "data" / "tiny").exists()
    os.kill(slow.pid, signal.SIGKILL)
    slow.wait()
    assert waiting.wait(60) == 0
    folder = tmp_path / "data" / "tiny"
    assert is_whole(folder, preparation)
    assert (folder / "two.txt").read_text() == "aBc"
    assert not list((tmp_path / "data").glob(".*.part"))
