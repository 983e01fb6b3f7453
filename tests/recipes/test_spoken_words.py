"""Speech Commands and SC09, on a small copy in the released layout."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.datasets import WaveformDataModule
from audio.manifests import find_clips
from audio.splits import SplitConfig
from recipes.audio import spoken_words
from recipes.audio.sc09.prepare import PREPARATION as SC09
from recipes.audio.speech_commands.prepare import COUNTS, PREPARATION
from recipes.audio.spoken_words import LISTS, NOISE, SOURCE, Words, part_of, prepare_words
from recipes.sources import file_sha256
from seqmamba.errors import UserError

WORDS = {"one": 20, "two": 12, "cat": 8}
TINY = replace(PREPARATION, counts=WORDS)
DIGITS = replace(SC09, counts={"one": 20, "two": 12})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder as the archive unpacks to, speakers with several recordings included."""
    folder = tmp_path / "copy"
    lists: dict[str, list[str]] = {part: [] for part in LISTS}
    for word, count in WORDS.items():
        (folder / word).mkdir(parents=True)
        for number in range(count):
            name = f"{number // 2:08x}_nohash_{number % 2}.wav"
            wave = 0.1 * np.random.default_rng(number).standard_normal(1600)
            soundfile.write(folder / word / name, wave, 16_000)
            lists.get(part_of(name), []).append(f"{word}/{name}")
    (folder / NOISE).mkdir()
    soundfile.write(folder / NOISE / "pink_noise.wav", np.zeros(100), 16_000)
    (folder / NOISE / "README.md").write_text("noise")
    (folder / "README.md").write_text("release")
    for part, names in lists.items():
        assert names
        (folder / LISTS[part]).write_text("".join(f"{name}\n" for name in reversed(names)))
    return folder


@pytest.fixture
def archive(copy: Path) -> Path:
    path = copy.parent / SOURCE.filename
    with tarfile.open(path, "w:gz") as tar:
        tar.add(copy, ".")
        link = tarfile.TarInfo("./one/ffffffff_nohash_0.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def tiny_of(archive: Path) -> Words:
    """The tiny set, out of this archive."""
    return replace(TINY, source=replace(SOURCE, sha256=file_sha256(archive)))


def test_the_release_is_described() -> None:
    assert sum(COUNTS.values()) == 105_829
    assert len(COUNTS) == 35
    assert sum(SC09.counts.values()) == 38_908


@pytest.mark.parametrize(
    ("speaker", "part"),
    [("2aa787cf", "test"), ("ffa76c4a", "test"), ("24ad3ebe", "test"), ("3c257192", "train")],
)
def test_the_rule_divides_as_the_released_lists(speaker: str, part: str) -> None:
    """Speakers of the released list of the test part, and one of the training part."""
    assert part_of(f"{speaker}_nohash_0.wav") == part_of(f"{speaker}_nohash_3.wav") == part


def test_the_rule_holds_out_tenths() -> None:
    parts = [part_of(f"{number:08x}_nohash_0.wav") for number in range(4000)]
    assert abs(parts.count("validation") / 4000 - 0.1) < 0.02
    assert abs(parts.count("test") / 4000 - 0.1) < 0.02


@pytest.mark.parametrize("source", ["archive", "its folder", "unpacked"])
def test_a_copy_makes_the_set(copy: Path, archive: Path, source: str, tmp_path: Path) -> None:
    place = {"archive": archive, "its folder": archive.parent, "unpacked": copy}[source]
    released = {name: (copy / name).read_text() for name in LISTS.values()}
    words = tiny_of(archive)
    folder = prepare_words(words, tmp_path / "data", place)
    names = {path.relative_to(folder / "recordings").as_posix() for path in folder.rglob("*.wav")}
    assert len(names) == 40 + 1
    assert f"{NOISE}/pink_noise.wav" in names
    for name in LISTS.values():
        made = (folder / "recordings" / name).read_text()
        assert sorted(made.split()) == sorted(released[name].split())
        assert (copy / name).read_text() == released[name]  # the copy stays as it is
    summary = json.loads((folder / "manifest.json").read_text())["summary"]
    assert sum(summary["recordings"].values()) == 40
    assert prepare_words(words, tmp_path / "data") == folder  # neither copy nor network is needed again


def test_the_archive_is_fetched_without_a_copy(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny_of(archive)

    def download(self, folder):
        assert self.url.startswith("https://storage.googleapis.com/")
        return Path(archive.rename(folder / self.filename))

    monkeypatch.setattr("recipes.sources.UrlSource.download", download)
    assert (prepare_words(words, tmp_path / "data") / "recordings" / "cat").is_dir()


def test_digits_alone_and_their_parts_reach_the_data_module(copy: Path, tmp_path: Path) -> None:
    folder = prepare_words(DIGITS, tmp_path / "data", copy)
    clips = find_clips(folder / "recordings")
    assert {clip.labels[0] for clip in clips} == {"one", "two"}
    assert all(clip.split == part_of(clip.path.name) for clip in clips)
    assert not (folder / "recordings" / NOISE).exists()
    data = WaveformDataModule(str(folder / "recordings"), split=SplitConfig(by="split"))
    data.setup()
    assert data.rate == 16_000
    assert data.classes == ("one", "two")
    assert [str(part) for part in data.assignment] == [part_of(Path(name).name) for name in data.names]


def test_a_copy_without_lists_gets_those_of_the_rule(copy: Path, tmp_path: Path) -> None:
    expected = {name: sorted((copy / name).read_text().split()) for name in LISTS.values()}
    for name in LISTS.values():
        (copy / name).unlink()
    folder = prepare_words(TINY, tmp_path / "data", copy)
    assert {name: (folder / "recordings" / name).read_text().split() for name in expected} == expected


def test_what_is_not_the_release_is_refused_and_leaves_nothing(
    copy: Path, archive: Path, tmp_path: Path
) -> None:
    def refused(source: Path, message: str, words: Words = TINY) -> None:
        with pytest.raises(UserError, match=message):
            prepare_words(words, tmp_path / "data", source)
        assert not (tmp_path / "data" / TINY.name).exists()

    refused(tmp_path / "nowhere", "nowhere: no such file")
    whole = (copy / LISTS["test"]).read_text()
    (copy / LISTS["test"]).write_text(whole + "cat/00000000_nohash_0.wav\n")
    refused(copy, r"testing_list.txt and the rule of the release differ in 1 recordings, for example cat/0")
    (copy / LISTS["test"]).write_text(whole)
    (copy / "cat" / "00000000_nohash_0.wav").unlink()
    refused(copy, "expected 8 recordings of cat, found 7")
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    refused(archive, "expected sha256")
    refused(archive, "is damaged", tiny_of(archive))


def test_a_huge_member_is_not_unpacked(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoken_words, "_LARGEST", 100)
    with pytest.raises(UserError, match="would unpack to"):
        prepare_words(tiny_of(archive), tmp_path / "data", archive)
