"""The table of predictions for files: ``seqmamba audio predict`` writes it, and goes on with it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np

from audio.file_answers import FileAnswers
from audio.files import SUFFIXES
from audio.manifests import Clip
from audio.models import WaveformClassifier
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.file_identity import identify_all
from seqmamba.model_identity import fingerprint
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.paths import expand
from seqmamba.predictions import Predictions
from seqmamba.progress import Progress
from seqmamba.resumable import ResumableFile

OnError = Literal["skip", "stop"]


@dataclass(frozen=True)
class PredictConfig:
    """How files are predicted.

    Args:
        crops: Stretches of each recording whose predictions are averaged, where training cut recordings.
        batch_size: Recordings read and predicted at once.
        on_error: Whether a file that cannot be read is ``skip``ped and listed, or makes everything ``stop``.
        resume: Go on with the table that an interrupted run left.
        overwrite: Replace a table that is there.

    Raises:
        UserError: If a value is out of range.
    """

    crops: int = 10
    batch_size: int = 16
    on_error: OnError = "skip"
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_whole("crops", self.crops)
        require_whole("batch_size", self.batch_size)
        require_choice("on_error", self.on_error, ("skip", "stop"))


def find_files(sources: Sequence[str | Path]) -> list[Path]:
    """Return the recordings that are meant: files as given, and those in folders, by their names' endings.

    Args:
        sources: Files and folders, the latter with all their subfolders.

    Raises:
        UserError: If a source is not there, or a folder holds no recording.
    """
    files: list[Path] = []
    for source in map(expand, sources):
        if source.is_dir():
            found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not found:
                raise UserError(
                    f"{source}: holds no recordings", hint=f"their names end in {', '.join(SUFFIXES)}"
                )
            files += found
        elif source.exists():
            files.append(source)
        else:
            raise UserError(f"{source}: no such file or folder")
    return list(dict.fromkeys(files))


def predict_files(
    model: WaveformClassifier, files: Sequence[Path], output: Path, config: PredictConfig
) -> dict[str, str]:
    """Write a table of predictions, one row a file, in the order of the files.

    How they are read, see `audio.file_answers`. Files that are skipped are listed in a second table beside
    the first, ``NAME.unreadable.tsv``.

    Args:
        model: A trained model.
        files: The recordings.
        output: The table to write.
        config: How.

    Returns:
        The files that were skipped, and why.

    Raises:
        UserError: If the model tags frames, a file cannot be read and `config` says ``stop``, or a table is
            in the way.
    """
    if model.config.task == "tagging":
        raise UserError("the model tags frames, not recordings", hint="use `seqmamba audio timeline`")
    settings = {
        "files": identify_all(files),
        "model": fingerprint(model),
        "crops": config.crops,
    }
    table = ResumableFile(output, settings, bgzip=False, resume=config.resume, overwrite=config.overwrite)
    if table.complete:
        print(f"{output}: finished before", file=sys.stderr)
        return {}
    model.eval()
    progress = Progress(len(files), table.records, unit="files")
    with table:
        skipped: dict[str, str] = dict(table.notes.get("skipped", {}))
        if not table.size:
            header = StringIO()
            _rows(model, [], np.empty((0, len(model.config.classes)))).write_header(header)
            table.write(header.getvalue().encode(), 0, {"skipped": {}})
        for start in range(table.records, len(files), config.batch_size):
            part = files[start : start + config.batch_size]
            text, bad = _predict_part(model, part, config)
            skipped |= bad
            table.write(text, len(part), {"skipped": skipped})
            progress.advance(len(part))
        table.finish()
    progress.finish()
    _write_skipped(output, skipped)
    return skipped


def _predict_part(
    model: WaveformClassifier, files: Sequence[Path], config: PredictConfig
) -> tuple[bytes, dict[str, str]]:
    """Predict some files: the lines of those that can be read, and why the others cannot."""
    answers = FileAnswers(model, model.predict, config.crops)
    found = answers.of([Clip(path) for path in files], stop=config.on_error == "stop")
    outputs = {path: row for path, row in zip(files, found, strict=True) if not isinstance(row, str)}
    skipped = {str(path): row for path, row in zip(files, found, strict=True) if isinstance(row, str)}
    rows = StringIO()
    if outputs:
        _rows(model, list(outputs), np.stack(list(outputs.values()))).write_rows(rows)
    return rows.getvalue().encode(), skipped


def _rows(model: WaveformClassifier, files: Sequence[Path], outputs: np.ndarray) -> Predictions:
    config = model.config
    if config.task == "classification":
        labels = np.full(len(files), -1, dtype=np.int64)
    else:
        labels = np.full((len(files), len(config.classes)), np.nan)
    return Predictions(
        config.task, config.classes, [str(path) for path in files], [""] * len(files), labels, outputs
    )


def _write_skipped(output: Path, skipped: dict[str, str]) -> None:
    """List the files that were skipped, beside the table; without any, no list."""
    path = output.with_name(f"{output.stem}.unreadable.tsv")
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, delimiter="\t", lineterminator="\n")
        rows.writerow(("name", "reason"))
        rows.writerows(skipped.items())
    print(f"skipped {len(skipped):,} files that cannot be read: {path}", file=sys.stderr)
    for name, reason in list(skipped.items())[:5]:
        print(f"  {reason if name in reason else f'{name}: {reason}'}", file=sys.stderr)
