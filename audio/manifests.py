"""Which recordings there are, or stretches of them, and what is known of each: from folders or from tables.

Layouts that are understood:

- a folder for each class; or ``train``, ``validation`` and ``test`` with a folder for each class inside;
- a flat folder, for models that need no labels, or with labels in the file names (`SourceConfig.pattern`);
- Speech Commands: class folders beside ``validation_list.txt`` and ``testing_list.txt``;
- a table, see `audio.manifest_tables`; a folder that holds ``metadata.csv`` or the like is read by it.

Nothing is decoded here: see `audio.measuring`.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

from audio.files import SUFFIXES
from audio.manifest_tables import TABLE_SUFFIXES, ColumnsConfig, Row, read_rows
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require
from seqmamba.paths import expand

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "validate"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What people call the parts of a data set, and what they are called here."""

_METADATA = tuple(f"metadata{suffix}" for suffix in TABLE_SUFFIXES)
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_SPEAKER_MARK = "_nohash_"
_NO_CLASS = "_background_noise_"  # Speech Commands: minutes of noise, no class


@dataclass(frozen=True)
class Clip:
    """A recording, or a stretch of one.

    Attributes:
        path: The file.
        start_seconds: Where the stretch begins.
        duration_seconds: Its length; None up to the end of the file.
        labels: Names of its classes; for regression, its numbers.
        group: What it shares with others, a speaker or a place; None if unknown.
        split: ``train``, ``validation`` or ``test`` where the data say so.
        fold: Name of its fold where the data say so.
        source: What it was read from, for messages: a folder, or ``table:line``.
    """

    path: Path
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    _: KW_ONLY
    fold: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        where = self.source or str(self.path)
        start, duration = self.start_seconds, self.duration_seconds
        require(is_number(start) and start >= 0, f"{where}: start", "seconds >= 0", start)
        fits = duration is None or (is_number(duration) and duration > 0)
        require(fits, f"{where}: duration", "seconds > 0", duration)

    @property
    def whole(self) -> bool:
        """Whether it is all of its file."""
        return self.start_seconds == 0 and self.duration_seconds is None


@dataclass(frozen=True)
class SourceConfig:
    """How a folder or a table is read.

    Args:
        pattern: Regular expression for the names of files, without their ending, that finds ``label``,
            ``group``, ``split`` or ``fold`` by named groups, for example
            ``(?P<label>[0-9])_(?P<group>[a-z]+)_[0-9]+``. The whole name must match.
        folder: Folder that the paths in a table start from; by default that of the table, or the folder
            ``audio`` in it or beside it where the first file lies there.
        columns: Names of the columns of a table; found by their usual names where not given.

    Raises:
        UserError: If the pattern is none, or finds nothing that a clip has.
    """

    pattern: str | None = None
    folder: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)

    def __post_init__(self) -> None:
        if self.pattern is None:
            return
        try:
            found = re.compile(self.pattern).groupindex
        except re.error as error:
            raise UserError(f"pattern: {self.pattern!r} is no regular expression ({error})") from None
        known = {"label", "group", "split", "fold"}
        if not found or not set(found) <= known:
            raise UserError(
                f"pattern: expected named groups among {', '.join(sorted(known))}, got "
                f"{', '.join(found) or 'none'}",
                hint="write (?P<label>...)",
            )


def find_clips(source: str | Path, config: SourceConfig | None = None) -> list[Clip]:
    """Find the clips of a folder or a table.

    Args:
        source: The folder, the table, or a single recording.
        config: How to read it.

    Returns:
        Clips in the order of the table, or of the sorted paths.

    Raises:
        UserError: If there is no such source, it holds no recordings, mixes layouts, or a line or a name
            cannot be understood.
    """
    source, config = expand(source), config or SourceConfig()
    if source.suffix.lower() in SUFFIXES and source.is_file():
        clips = [Clip(source, source=str(source))]
    elif source.is_file():
        clips = _clips_of_table(source, config)
    elif source.is_dir():
        tables = [source / name for name in _METADATA if (source / name).is_file()]
        clips = _clips_of_table(tables[0], config) if tables else _clips_of_folder(source)
    else:
        raise UserError(f"{source}: no such folder or table")
    if config.pattern is None:
        return clips
    return [_read_name(clip, re.compile(config.pattern)) for clip in clips]


def _clips_of_folder(folder: Path) -> list[Clip]:
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.relative_to(folder).parts[0] != _NO_CLASS
    )
    if not paths:
        raise UserError(f"{folder}: holds no recordings ({', '.join(SUFFIXES)})")
    tops = {path.relative_to(folder).parts[0] for path in paths}
    parted = all(top.lower() in PART_NAMES for top in tops)
    loose = [path for path in paths if len(path.relative_to(folder).parts) == (2 if parted else 1)]
    if loose and len(loose) < len(paths):
        raise UserError(
            f"{folder}: expected a folder for each class or a flat folder, got both: {loose[0].name} lies "
            "outside the class folders",
            hint="move such files into class folders, or write a table",
        )
    clips = []
    for path in paths:
        parts = path.relative_to(folder).parts
        split = PART_NAMES[parts[0].lower()] if parted else None
        label = () if loose else (parts[1] if parted else parts[0],)
        clips.append(Clip(path, labels=label, split=split, source=str(folder)))
    return _with_lists(clips, folder)


def _with_lists(clips: list[Clip], folder: Path) -> list[Clip]:
    """Apply the lists of held-out files of Speech Commands; its speakers are in the file names."""
    parts: dict[str, str] = {}
    for part, name in _LISTS.items():
        if (folder / name).is_file():
            try:
                lines = (folder / name).read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError:
                raise UserError(f"{folder / name}: is not text in UTF-8") from None
            parts |= {line.strip(): part for line in lines if line.strip()}
    if not parts:
        return clips
    listed = []
    for clip in clips:
        key = clip.path.relative_to(folder).as_posix()
        speaker, mark, _ = clip.path.stem.partition(_SPEAKER_MARK)
        listed.append(replace(clip, split=parts.pop(key, "train"), group=speaker if mark else None))
    # A copy with some of the classes is in use, too: ten digits, ten commands.
    parts = {key: part for key, part in parts.items() if (folder / key).parent.is_dir()}
    if parts:
        raise UserError(
            f"{folder}: its lists of held-out files name {len(parts):,} that are not there, "
            f"for example {next(iter(parts))}"
        )
    return listed


def _clips_of_table(table: Path, config: SourceConfig) -> list[Clip]:
    rows = read_rows(table, config.columns)
    root = expand(config.folder) if config.folder is not None else _find_root(table, rows[0])
    return [_clip_of_row(row, root) for row in rows]


def _find_root(table: Path, row: Row) -> Path:
    """Return the folder that the paths of a table start from."""
    likely = (table.parent, table.parent / "audio", table.parent.parent / "audio")
    return next((folder for folder in likely if (folder / expand(row.path)).is_file()), table.parent)


def _clip_of_row(row: Row, root: Path) -> Clip:
    split = None
    if row.split is not None:
        split = PART_NAMES.get(row.split.lower())
        if split is None:
            raise UserError(
                f"{row.source}: split: expected train, validation or test, got {row.split!r}",
                hint="give the numbers of folds in a column named fold",
            )
    return Clip(
        root / expand(row.path),
        row.start_seconds,
        row.duration_seconds,
        row.labels,
        row.group,
        split,
        fold=row.fold,
        source=row.source,
    )


def _read_name(clip: Clip, pattern: re.Pattern[str]) -> Clip:
    match = pattern.fullmatch(clip.path.stem)
    if match is None:
        raise UserError(
            f"{clip.path}: its name does not match the pattern {pattern.pattern}",
            hint=f"the pattern is for all of a name but its ending: {clip.path.stem}",
        )
    found: dict[str, Any] = {name: value for name, value in match.groupdict().items() if value is not None}
    label = found.pop("label", None)
    if "split" in found:
        name = found["split"]
        if name.lower() not in PART_NAMES:
            raise UserError(f"{clip.path}: split: expected train, validation or test, got {name!r}")
        found["split"] = PART_NAMES[name.lower()]
    return replace(clip, labels=clip.labels if label is None else (label,), **found)
