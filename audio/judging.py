"""What a classifier says of many recordings: features and probabilities, kept for when it is asked again."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audio.file_answers import FileAnswers
from audio.generation_metrics import Judged
from audio.inference import Answer
from audio.manifests import Clip
from audio.models import WaveformClassifier
from seqmamba.errors import UserError
from seqmamba.file_identity import identify
from seqmamba.model_identity import fingerprint
from seqmamba.nn.options import is_whole, require, require_whole
from seqmamba.nn.packing import length_mask
from seqmamba.progress import Progress
from seqmamba.resumable import ResumableFile


@dataclass(frozen=True)
class JudgeConfig:
    """How recordings are judged.

    Args:
        crops: Stretches of each recording, where the classifier's training cut recordings.
        batch_size: Recordings read and judged at once.
        bootstrap: Resamples behind the intervals; 0 gives none.
        bins: Clusters of the number of statistically different bins.
        splits: Parts of the Inception Score by parts.
        seed: Of everything that is drawn.
        stop: Whether to stop at a recording that cannot be read, rather than leave it out.

    Raises:
        UserError: If a value is out of range.
    """

    _: KW_ONLY
    crops: int = 1
    batch_size: int = 64
    bootstrap: int = 1000
    bins: int = 50
    splits: int = 10
    seed: int = 0
    stop: bool = False

    def __post_init__(self) -> None:
        for name in ("crops", "batch_size", "bins", "splits"):
            require_whole(name, getattr(self, name))
        for name in ("bootstrap", "seed"):
            require(is_whole(getattr(self, name), 0), name, "a whole number >= 0", getattr(self, name))


@dataclass(frozen=True)
class JudgedClips:
    """Recordings with what the classifier says of them.

    Attributes:
        name: Of the set.
        clips: Those that can be read.
        judged: Features and probabilities.
        level: Root of the mean square of each.
        skipped: Those that cannot be read, and why.
    """

    name: str
    clips: list[Clip]
    judged: Judged
    level: Float[np.ndarray, " n"]
    skipped: dict[str, str]


def judge_clips(
    model: WaveformClassifier, name: str, clips: Sequence[Clip], cache: Path, config: JudgeConfig
) -> JudgedClips:
    """Let a classifier look at recordings; what it says is kept, so that an interrupted run goes on.

    Args:
        model: A classifier.
        name: Of the set.
        clips: Its recordings.
        cache: Folder for what it says, in a file that another model, list of recordings or version of one of
            them does not match.
        config: How.

    Raises:
        UserError: If none of the recordings can be read, or one cannot and `config` says to stop.
    """
    if model.config.task != "classification":
        raise UserError(
            f"the classifier: expected one that tells classes apart, got one for {model.config.task}"
        )
    identity = hashlib.sha256(repr([_identity(clip) for clip in clips]).encode()).hexdigest()
    settings = {"clips": identity, "model": fingerprint(model), "crops": config.crops}
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    table = ResumableFile(cache / f"{key}.f64", settings, bgzip=False, resume=True, overwrite=False)
    if not table.complete:
        _fill(model, clips, table, config)
    rows = np.fromfile(table.output, dtype="<f8").reshape(len(clips), -1)
    read = np.isfinite(rows).all(axis=1)
    answers = FileAnswers(model, _answer_of(model), config.crops)
    skipped = {str(clips[i].path): _reason(answers, clips[i]) for i in np.flatnonzero(~read).tolist()}
    for reason in skipped.values():
        if config.stop:
            raise UserError(reason)
        print(f"left out: {reason}", file=sys.stderr)
    if not read.any():
        raise UserError(
            f"{name}: none of {len(clips):,} recordings can be judged; {next(iter(skipped.values()))}"
        )
    classes = len(model.config.classes)
    power, probabilities, features = np.split(rows[read], [1, 1 + classes], axis=1)
    kept = [clip for clip, good in zip(clips, read, strict=True) if good]
    return JudgedClips(name, kept, Judged(features, probabilities), np.sqrt(power[:, 0]), skipped)


def _fill(
    model: WaveformClassifier, clips: Sequence[Clip], table: ResumableFile, config: JudgeConfig
) -> None:
    """Write a row for each recording: power, probabilities, features; NaN where it cannot be read."""
    answers = FileAnswers(model, _answer_of(model), config.crops)
    width = 1 + len(model.config.classes) + model.head.linear.in_features
    unread = np.full(width, np.nan)
    progress = Progress(len(clips), table.records, unit="recordings")
    with table:
        for start in range(table.records, len(clips), config.batch_size):
            part = clips[start : start + config.batch_size]
            found = answers.of(part, stop=config.stop)
            rows = np.stack([unread if isinstance(row, str) else row for row in found])
            table.write(rows.astype("<f8").tobytes(), len(part), {})
            progress.advance(len(part))
        table.finish()
    progress.finish()


def _answer_of(model: WaveformClassifier) -> Answer:
    """Return a function from waveforms to power, probabilities and features, float64."""

    def answer(waveform: Tensor, lengths: Tensor | None) -> Tensor:
        features = model.embed(waveform, lengths)
        probabilities = model.head(features).double().softmax(dim=-1)
        energy = waveform.double().square().mean(dim=-1)
        true = torch.full((len(waveform),), waveform.shape[1], device=energy.device)
        if lengths is not None:
            true, energy = lengths, energy * length_mask(lengths, waveform.shape[1])
        return torch.cat(((energy.sum(dim=1) / true)[:, None], probabilities, features.double()), dim=1)

    return answer


def _reason(answers: FileAnswers, clip: Clip) -> str:
    """Say why there is no answer to a recording."""
    found = answers.of([clip], stop=False)[0]
    return found if isinstance(found, str) else f"{clip.path}: the classifier's answer is not finite"


def _identity(clip: Clip) -> tuple[str, float, float | None]:
    """Return what tells a recording from another, or from what was once under its name."""
    file = identify(clip.path) if clip.path.exists() else str(clip.path)
    return file, clip.start_seconds, clip.duration_seconds
