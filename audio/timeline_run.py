"""Timelines of files and of what arrives on standard input, written while they are read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from torch import Tensor, nn

from audio.files import blocks, describe, read
from audio.hops import StreamingConfig
from audio.models import WaveformClassifier
from audio.pcm_stream import PcmStream
from audio.resampling import resample
from audio.streaming import build_scorer
from audio.surprise import SurpriseScorer
from audio.timeline import (
    Moment,
    Timeline,
    TimelineConfig,
    describe_events,
    gives_probabilities,
    measure_deviation,
)
from audio.timeline_files import PARQUET, Recording, TimelineWriter, open_timeline
from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.progress import Progress

LIVE = "-"
"""Stands for standard input."""
_MOST_BLOCK = 2**20  # of a file, whatever is asked for: it makes no difference to anything but memory
_CHECKED_SECONDS = 30.0


@dataclass(frozen=True)
class TimelineJob:
    """What is to be written.

    Args:
        timeline: How recordings become timelines.
        outputs: Files; without any, events go to standard output.
        block: Samples that are read at once; makes no difference to the result.
        on_error: Whether a recording that cannot be read ends the work (``stop``) or is left out from where
            it breaks (``skip``).
        live: The recording on standard input, if that is to be read.

    Raises:
        UserError: If a value is out of range.
    """

    timeline: TimelineConfig
    _: KW_ONLY
    outputs: tuple[Path, ...] = ()
    block: int = 160_000
    on_error: str = "stop"
    live: PcmStream | None = None

    def __post_init__(self) -> None:
        require_whole("--block", self.block)
        require_choice("--on-error", self.on_error, ("stop", "skip"))


@dataclass
class TimelineReport:
    """What was read.

    Attributes:
        seconds: Seconds of sound.
        wall_seconds: Seconds that it took.
        events: Events that were found.
        failures: Recordings that could not be read to their end, and why.
    """

    seconds: float = 0.0
    wall_seconds: float = 0.0
    events: int = 0
    failures: list[str] = field(default_factory=list)


def run_timeline(model: nn.Module, files: Sequence[str], job: TimelineJob) -> TimelineReport:
    """Read recordings one after the other and write their timelines.

    Args:
        model: A `WaveformClassifier`, or a `WaveformModel`, which has values and no events.
        files: Recordings; ``-`` is `TimelineJob.live`.
        job: What to write.

    Raises:
        UserError: If a recording cannot be read, unless it is to be skipped, or the outputs do not fit the
            model.
    """
    if not gives_probabilities(model) and any(path.suffix != PARQUET for path in job.outputs or [Path()]):
        raise UserError(
            "--output: the model gives no probabilities, so there are no events",
            hint="write its values with -o FILE.parquet",
        )
    run = _Run(model, job, TimelineReport(), _progress(files, job))
    start = time.monotonic()
    with open_timeline(job.outputs, labels_of(model), recordings=len(files)) as writer:
        for file in files:
            run.read(file, writer)
    run.progress.finish()
    run.report.wall_seconds = time.monotonic() - start
    return run.report


def _progress(files: Sequence[str], job: TimelineJob) -> Progress:
    """Look at all recordings before the work begins; how long they are is not known if one may be skipped."""
    total: float | None = None
    if LIVE not in files and job.on_error == "stop":
        total = sum(describe(file).seconds for file in files)
    return Progress(None if total is None else round(total), unit="seconds of sound")


@dataclass
class _Run:
    """Everything that reading one recording after the other needs."""

    model: nn.Module
    job: TimelineJob
    report: TimelineReport
    progress: Progress

    def read(self, file: str, writer: TimelineWriter) -> None:
        """Read one recording and write what is found."""
        try:
            rate, channels, parts = self._source(file)
        except UserError as error:
            self._fail(error)
            return
        timeline = Timeline(self.model, rate, channels, self.job.timeline)
        recording = Recording("standard input" if file == LIVE else Path(file).name, rate)
        whole = 0
        try:
            for part in parts:
                self._write(timeline.push(part), recording, writer)
                self.progress.advance(int(timeline.seconds) - whole)
                whole = int(timeline.seconds)
        except UserError as error:
            self._fail(error)
        except KeyboardInterrupt:  # is how what is live ends
            if file != LIVE:
                raise
        self._write(timeline.finish(), recording, writer)
        self.report.seconds += timeline.seconds

    def _write(self, moment: Moment, recording: Recording, writer: TimelineWriter) -> None:
        writer.values(moment.values, moment.edges, recording.name)
        writer.events(moment.events, recording)
        self.report.events += len(moment.events)

    def _source(self, file: str) -> tuple[int, int, Iterator[Tensor]]:
        """Return the sampling rate, the channels and the blocks of a recording."""
        if file != LIVE:
            info = describe(file)
            return info.rate, info.channels, blocks(file, min(self.job.block, _MOST_BLOCK))
        if self.job.live is None:
            raise UserError("-: nothing was said of standard input")
        form = self.job.live.format
        return form.rate, form.channels, self.job.live.blocks(self.job.block)

    def _fail(self, error: UserError) -> None:
        """Go on, or do not."""
        if self.job.on_error == "stop":
            raise error
        print(f"warning: {error.message}", file=sys.stderr)
        self.report.failures.append(error.message)


def describe_job(model: nn.Module, job: TimelineJob) -> str:
    """Say how recordings are read and events found, before the work begins.

    Raises:
        UserError: If the model cannot read them so.
    """
    how = build_scorer(model, job.timeline.streaming).description
    if not gives_probabilities(model):
        return how
    return f"{how}; {describe_events(job.timeline.labels or labels_of(model), job.timeline.events)}"


def labels_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a model's values."""
    return model.config.classes if isinstance(model, WaveformClassifier) else SurpriseScorer.LABELS


def check_look_ahead(model: nn.Module, files: Sequence[str], config: StreamingConfig) -> str | None:
    """Measure what it changes that a bidirectional tagger reads windows, on the beginning of the first file.

    Args:
        model: Any model.
        files: Recordings.
        config: How windows are read.

    Returns:
        A sentence; None where windows change nothing, or there is no file.

    Raises:
        UserError: If the file cannot be read.
    """
    if LIVE in files or not isinstance(model, WaveformClassifier) or model.config.task != "tagging":
        return None
    info = describe(files[0])
    frames = min(info.frames, round(_CHECKED_SECONDS * info.rate))
    waveform = read(files[0], frames=frames)
    if model.config.channels == 1:
        waveform = waveform.mean(dim=1, keepdim=True)
    if info.rate != model.config.rate:
        waveform = resample(waveform, info.rate, model.config.rate)
    deviation = measure_deviation(model, waveform, config)
    if deviation is None:
        return None
    return (
        f"with {config.context:g} s of look-ahead the probabilities of the first {frames / info.rate:.0f} s "
        f"differ from those of the whole by at most {deviation:.2g}"
    )
