"""The table of predictions for files: ``seqmamba audio predict`` writes it, and goes on with it."""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audio.files import SUFFIXES, AudioInfo, describe
from audio.inference import predict_batch
from audio.loading import load
from audio.models import WaveformClassifier
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.model_identity import fingerprint
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.paths import expand
from seqmamba.predictions import Predictions
from seqmamba.progress import Progress
from seqmamba.resumable import ResumableFile

OnError = Literal["skip", "stop"]
_LONG = 4  # times the longest waveform of training, up to which a recording is read whole
_WINDOWS = 32  # of a long recording, held at once


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

    Recordings are brought to the model's sampling rate and channels. A long one is read in stretches of the
    length of training, whose predictions are averaged, so memory does not depend on its length. Files that
    are skipped are listed in a second table beside the first, ``NAME.unreadable.tsv``.

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
        "files": hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest(),
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
    outputs: dict[Path, np.ndarray] = {}
    short: dict[Path, Tensor] = {}
    skipped: dict[str, str] = {}
    with torch.inference_mode():
        for path in files:
            try:
                info = describe(path)
                if _is_long(info, model, config.crops):
                    outputs[path] = _predict_long(model, info)
                else:
                    short[path] = load(info, model.config.rate, model.config.channels)
            except UserError as error:
                if config.on_error == "stop":
                    raise
                skipped[str(path)] = error.message
        outputs |= _predict_short(model, short, config.crops)
    read = [path for path in files if path in outputs]
    rows = StringIO()
    if read:
        _rows(model, read, np.stack([outputs[path] for path in read])).write_rows(rows)
    return rows.getvalue().encode(), skipped


def _predict_short(
    model: WaveformClassifier, waveforms: dict[Path, Tensor], crops: int
) -> dict[Path, np.ndarray]:
    """Predict recordings that are in memory, side by side."""
    if not waveforms:
        return {}
    device = next(model.parameters()).device
    lengths = torch.tensor([len(waveform) for waveform in waveforms.values()])
    batch = torch.nn.utils.rnn.pad_sequence(list(waveforms.values()), batch_first=True)
    found = predict_batch(model, batch.to(device), lengths.to(device), crops).double().cpu().numpy()
    return dict(zip(waveforms, found, strict=True))


def _is_long(info: AudioInfo, model: WaveformClassifier, crops: int) -> bool:
    """Say whether a recording is to be read in stretches."""
    known = model.config.crop_length or model.config.max_length
    times = max(_LONG, crops) if model.config.crop_length else _LONG
    return known is not None and info.seconds * model.config.rate > times * known


def _predict_long(model: WaveformClassifier, info: AudioInfo) -> np.ndarray:
    """Average the predictions of a recording's stretches, which lie end to end."""
    size = model.config.crop_length or model.config.max_length
    assert size is not None
    seconds = size / model.config.rate
    count = math.ceil(info.seconds / seconds)
    starts = np.linspace(0, info.seconds - seconds, count)
    device = next(model.parameters()).device
    total = np.zeros(len(model.config.classes))
    for first in range(0, count, _WINDOWS):
        parts = [_window(model, info, start, size) for start in starts[first : first + _WINDOWS]]
        total += model.predict(torch.stack(parts).to(device)).double().sum(dim=0).cpu().numpy()
    return total / count


def _window(model: WaveformClassifier, info: AudioInfo, start: float, size: int) -> Tensor:
    """Read a stretch of exactly so many samples; resampling may leave one too few or too many."""
    rate, channels = model.config.rate, model.config.channels
    waveform = load(info, rate, channels, start=start, seconds=size / rate)[:size]
    return torch.nn.functional.pad(waveform, (0, 0, 0, size - len(waveform)))


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
