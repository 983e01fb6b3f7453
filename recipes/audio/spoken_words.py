"""Words of Speech Commands (version 0.02), divided as released: out of its archive, or out of a copy on disk.

The archive is recognised by its sha256, which torchaudio and TensorFlow Datasets have, too. A folder has no
digest: the number of recordings of each word has to be that of the release. The lists of held-out recordings
have to be those that the release's rule makes; a copy without lists gets them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.prepared import DOWNLOADS, make_set
from recipes.sources import UrlSource, obtain
from seqmamba.errors import UserError

SOURCE = UrlSource(
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "speech_commands_v0.02.tar.gz",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
NOISE = "_background_noise_"

_HELD_OUT = 10.0  # percent of the speakers that validate, and that test
_BUCKETS = 2**27
_RECORDING = re.compile(r"[^/]+_nohash_\d+\.wav")
_LARGEST = 1 << 26  # bytes that one file may have; a minute of noise has 2 MB


@dataclass(frozen=True)
class Words:
    """Some words of the release.

    Attributes:
        name: Folder of the set in the data folder.
        version: Raised whenever what is written changes, so that old sets are made anew.
        counts: Word -> number of its recordings in the release (Warden 2018, arXiv:1804.03209, table 1).
        noise: Whether the minutes of background noise belong to the set.
        source: The archive of the release.
    """

    name: str
    version: int
    counts: Mapping[str, int]
    noise: bool = False
    source: UrlSource = SOURCE


def part_of(recording: str) -> str:
    """Return ``train``, ``validation`` or ``test`` by the release's rule: a hash of the speaker decides.

    Warden 2018, section 4, and the README of the release: the sha1 of the name in front of ``_nohash_``,
    modulo 2^27, in percent; below 10 validates, below 20 tests.

    Args:
        recording: Name of the file.
    """
    digest = hashlib.sha1(recording.split("_nohash_")[0].encode(), usedforsecurity=False).hexdigest()
    percent = int(digest, 16) % _BUCKETS * (100.0 / (_BUCKETS - 1))
    if percent < _HELD_OUT:
        return "validation"
    return "test" if percent < 2 * _HELD_OUT else "train"


def prepare_words(words: Words, cache: Path, source: Path | None = None) -> Path:
    """Make a set of words unless a whole one is there.

    Args:
        words: What to make.
        cache: The data folder (`seqmamba.paths.data_dir`).
        source: A copy on disk: the archive, the folder that holds it, or the folder that it unpacks to;
            nothing is fetched then.

    Returns:
        The folder of the set: ``recordings`` with a folder for each word and the lists of recordings that
        validate and test, and ``manifest.json``.

    Raises:
        UserError: If the source cannot be had, or is not the release.
    """
    places: list[Path] = []

    def fetch() -> None:
        unpacked = source is not None and source.is_dir() and not (source / words.source.filename).is_file()
        if source is not None and unpacked:
            places.append(source)
        else:
            places.append(obtain(words.source, cache / DOWNLOADS, source))

    def fill(folder: Path) -> dict[str, Any]:
        recordings = folder / "recordings"
        copy = _from_folder if places[0].is_dir() else _from_archive
        copy(places[0], words, recordings)
        _check_counts(recordings, words, places[0])
        return {"recordings": _divide(recordings, places[0])}

    identity = {
        "name": words.name,
        "version": words.version,
        "source": {"origin": words.source.origin, "sha256": words.source.sha256},
    }
    return make_set(words.name, identity, cache, fetch, fill)


def _wanted(path: str, words: Words) -> bool:
    """Say whether a file of the release belongs to the set."""
    folder, _, name = path.rpartition("/")
    if folder in words.counts:
        return _RECORDING.fullmatch(name) is not None
    if folder == NOISE:
        return words.noise and "/" not in name and name.endswith(".wav")
    return folder == "" and name in LISTS.values()


def _from_folder(source: Path, words: Words, recordings: Path) -> None:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if _wanted(name, words) and path.is_file():
            _link(path, _place(recordings, name))


def _from_archive(archive: Path, words: Words, recordings: Path) -> None:
    try:
        with tarfile.open(archive, "r|gz") as tar:  # read once, forward
            for entry in tar:
                name = entry.name.removeprefix("./")
                if not entry.isreg() or not _wanted(name, words):
                    continue
                if entry.size > _LARGEST:
                    raise UserError(f"{archive}: {name} would unpack to {entry.size:,} bytes")
                content = tar.extractfile(entry)
                assert content is not None
                with _place(recordings, name).open("wb") as out:
                    shutil.copyfileobj(content, out)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: is damaged ({error})", hint="delete it and try again") from None


def _place(recordings: Path, name: str) -> Path:
    path = recordings / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, which takes no space; copy it where the disk is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _check_counts(recordings: Path, words: Words, place: Path) -> None:
    """Compare the number of recordings of each word with that of the release."""
    found = Counter(path.parent.name for path in recordings.glob("*/*.wav"))
    for word, count in words.counts.items():
        if found[word] != count:
            raise UserError(
                f"{place}: expected {count:,} recordings of {word}, found {found[word]:,}",
                hint=f"the recipe needs {words.source.filename}, or the whole folder that it unpacks to",
            )


def _divide(recordings: Path, place: Path) -> dict[str, int]:
    """Write the lists of held-out recordings of the set; compare released ones with the rule first.

    Returns:
        The number of recordings of each part.
    """
    names = sorted(
        path.relative_to(recordings).as_posix()
        for path in recordings.glob("*/*.wav")
        if path.parent.name != NOISE
    )
    parts = {name: part_of(Path(name).name) for name in names}
    for part, file in LISTS.items():
        expected = [name for name in names if parts[name] == part]
        if (recordings / file).is_file():
            listed = (recordings / file).read_text(encoding="utf-8").split()
            differ = set(expected) ^ {name for name in listed if name in parts}
            if differ:
                raise UserError(
                    f"{place}: {file} and the rule of the release differ in {len(differ):,} recordings, for "
                    f"example {min(differ)}",
                    hint="the recipe needs the list of the release; without one the rule makes it",
                )
            (recordings / file).unlink()  # it may be a second name of the copy's file
        (recordings / file).write_text("".join(f"{name}\n" for name in expected), encoding="utf-8")
    return {part: list(parts.values()).count(part) for part in ("train", "validation", "test")}
