"""Generated recordings as files: written while they are made, or chosen by likelihood first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from audio.class_rows import ClassRows, full_batches
from audio.files import describe, read
from audio.generation import (
    GenerationConfig,
    Generator,
    Speed,
    WaveformBlock,
    candidates_for,
    keep_likely,
)
from audio.generation_files import RECORD, REPORT, TABLE, GenerationRecord, NoiseEvent, Sample, write_samples
from audio.resampling import resample
from audio.waveform_model import WaveformModel
from audio.writer import Writer, WriterConfig
from seqmamba.errors import UserError
from seqmamba.finished import require_new
from seqmamba.nn.options import require, require_whole
from seqmamba.progress import Progress
from seqmamba.results import how_made
from seqmamba.training.hardware import describe_device, software_versions


@dataclass(frozen=True)
class Choice:
    """Which candidates are kept: see `audio.generation.keep_likely`.

    Args:
        drop_unlikely: Share of the least likely to leave out.
        drop_likely: Share of the most likely to leave out.
    """

    drop_unlikely: float = 0.4
    drop_likely: float = 0.05


@dataclass(frozen=True)
class GenerationJob:
    """What is to be made.

    Args:
        generation: How.
        labels: Classes; None stands for no class.
        count: Recordings of each.
        prefix: Codes that all continue; None starts from silence.
        write_prefix: Whether the prefix stands at the beginning of the files too.
        choice: How the recordings are chosen out of more; None keeps all and writes them while they are made.
        model: What the model was read from, for the record.
    """

    generation: GenerationConfig
    _: KW_ONLY
    labels: tuple[str | None, ...] = (None,)
    count: int = 1
    prefix: Int[Tensor, " length"] | None = None
    write_prefix: bool = False
    choice: Choice | None = None
    model: str = ""

    def __post_init__(self) -> None:
        require_whole("count", self.count)
        require(len(set(self.labels)) == len(self.labels), "labels", "distinct classes", self.labels)


@dataclass
class GenerationReport:
    """What was made, and how fast.

    Attributes:
        speed: Samples and time.
        samples: The recordings that were written.
        made: How many were made, those that were left out included.
        restarts: How often the guard set one back.
        events: What it held for noise.
    """

    speed: Speed
    samples: list[Sample] = field(default_factory=list)
    made: int = 0
    restarts: int = 0
    events: list[NoiseEvent] = field(default_factory=list)

    def describe(self) -> str:
        """Return the speed in a line."""
        speed = self.speed
        return (
            f"{speed.samples:,} samples in {speed.seconds:.1f} s, {speed.start_up or 0:.1f} s of it for the "
            f"first block; then {speed.samples_per_second:,.0f} samples/s, real-time factor "
            f"{speed.real_time_factor:.4g} ({1 / speed.real_time_factor:.4g} times real time)"
        )


def run_generation(model: WaveformModel, job: GenerationJob, output: Path) -> GenerationReport:
    """Make recordings and write them.

    Args:
        model: On the device where it is to run.
        job: What to make.
        output: A file for a single recording; else a folder, which gets a folder of each class,
            ``samples.tsv`` and ``generation.json``.

    Raises:
        UserError: If the model knows no such class, or a file cannot be written.
    """
    for label in job.labels:
        model.class_number(label)  # all of them, before the first is made
    report = GenerationReport(Speed(model.config.rate))
    each = job.count if job.choice is None else candidates_for(job.count, **asdict(job.choice))
    n_samples = round(job.generation.seconds * model.config.rate)
    single = job.count == 1 and len(job.labels) == 1
    paths = {label: [output] if single else _paths(output, label, job.count) for label in job.labels}
    run = _Run(model, job, report, Progress(each * len(job.labels) * n_samples, unit="samples"), paths)
    for batch in full_batches(job.labels, each, job.generation.batch_size):
        if job.choice is None:
            run.write_along(batch)
        else:
            run.hold(batch, each, job.choice)
    run.progress.finish()
    order = {label: number for number, label in enumerate(job.labels)}
    report.samples.sort(key=lambda sample: (order[sample.label], sample.number))
    report.events.sort(key=lambda event: (order[event.label], event.number))
    if not single:
        write_samples(output, report.samples)
        _record(model, job, report).save(output)
    return report


@dataclass
class _Held:
    """A candidate: its waveform, its mean bits, and whether it is noise."""

    waveform: Tensor
    bits: float
    noise: bool


@dataclass
class _Run:
    """Everything that making the recordings needs; ``paths`` are the files of each class."""

    model: WaveformModel
    job: GenerationJob
    report: GenerationReport
    progress: Progress
    paths: dict[str | None, list[Path]]
    held: dict[str | None, list[_Held]] = field(default_factory=dict)

    def write_along(self, batch: Sequence[ClassRows]) -> None:
        """Make recordings, each written while it is made."""
        generator, numbers = self._generator(batch), _numbers(batch)
        total = torch.zeros(len(numbers), dtype=torch.float64)
        paths = [self.paths[label][number] for label, number in numbers]
        with ExitStack() as stack:
            writers = [stack.enter_context(self._writer(path)) for path in paths]
            for block in self._blocks(generator, numbers):
                total += block.bits.double().sum(dim=1)
                for writer, waveform in zip(writers, block.waveform, strict=True):
                    writer.write(waveform[:, None])
        bits, noise = (total / generator.n_samples).tolist(), generator.noisy.tolist()
        for row, (label, number) in enumerate(numbers):
            self._report(paths[row], label, number, bits[row], noise[row])

    def hold(self, batch: Sequence[ClassRows], candidates: int, choice: Choice) -> None:
        """Make candidates and hold them; of a class that has all of its own, write the chosen ones."""
        generator, numbers = self._generator(batch), _numbers(batch)
        blocks = list(self._blocks(generator, numbers))
        waveforms = torch.cat([block.waveform for block in blocks], dim=1)
        bits = torch.cat([block.bits for block in blocks], dim=1).double().mean(dim=1).tolist()
        noise = generator.noisy.tolist()
        for row, (label, _) in enumerate(numbers):
            self.held.setdefault(label, []).append(_Held(waveforms[row], bits[row], noise[row]))
        for label in [label for label, held in self.held.items() if len(held) == candidates]:
            self._write_chosen(label, self.held.pop(label), choice)

    def _write_chosen(self, label: str | None, held: Sequence[_Held], choice: Choice) -> None:
        paths = self.paths[label]
        kept = keep_likely([candidate.bits for candidate in held], **asdict(choice))[: len(paths)]
        for path, number in zip(paths, kept, strict=True):
            with self._writer(path) as writer:
                writer.write(held[number].waveform[:, None])
            self._report(path, label, number, held[number].bits, held[number].noise)

    def _generator(self, batch: Sequence[ClassRows]) -> Generator:
        first, *beside = batch
        return Generator(
            self.model,
            self.job.generation,
            label=first.label,
            rows=first.rows,
            first_row=first.first_row,
            beside=beside,
            prefix=self.job.prefix,
            on_block=self._count,
        )

    def _count(self, samples: int) -> None:
        self.report.speed.count(samples)
        self.progress.advance(samples)

    def _blocks(
        self, generator: Generator, numbers: Sequence[tuple[str | None, int]]
    ) -> Iterator[WaveformBlock]:
        yield from generator.blocks()
        rate = self.model.config.rate
        self.report.events += [
            NoiseEvent(*numbers[back.row], back.token / rate, back.tries, back.replaced)
            for back in generator.setbacks
        ]
        self.report.made += len(generator.noisy)
        self.report.restarts += generator.restarts

    @contextmanager
    def _writer(self, path: Path) -> Iterator[Writer]:
        config = WriterConfig(self.model.config.rate, keep_unfinished=True)
        with Writer(path, config) as writer:
            if self.job.write_prefix and self.job.prefix is not None:
                writer.write(self.model.decode(self.job.prefix[None])[0])
            yield writer

    def _report(self, path: Path, label: str | None, number: int, bits: float, noise: bool) -> None:
        seconds = self.job.generation.seconds
        self.report.samples.append(Sample(path, label, number, seconds, bits, noise))


def _numbers(batch: Sequence[ClassRows]) -> list[tuple[str | None, int]]:
    """Return class and number of each recording of a batch."""
    return [number for rows in batch for number in rows.numbers]


def check_output(output: Path, *, single: bool, overwrite: bool) -> None:
    """Refuse to generate where files would be lost, before anything is made.

    Args:
        output: A file for a single recording, else a folder.
        single: Whether a single recording is to be made.
        overwrite: Whether what is there may be replaced.

    Raises:
        UserError: If there is something that may not be replaced, or a file where a folder is needed.
    """
    if not single and output.is_file():
        raise UserError(f"{output}: is a file, expected a folder for several recordings")
    require_new(output if single else output / TABLE, overwrite=overwrite)
    if not single and output.is_dir():
        _remove_samples(output)


def _remove_samples(folder: Path) -> None:
    """Remove the recordings that the folder's table names, and what was written about them; nothing else."""
    table = folder / TABLE
    if not table.exists():
        return
    for line in table.read_text(encoding="utf-8").splitlines()[1:]:
        file = (folder / line.split("\t")[0]).resolve()
        if file.is_relative_to(folder.resolve()):
            file.unlink(missing_ok=True)
    for file in (folder / RECORD, folder / REPORT, table):
        file.unlink(missing_ok=True)


def _record(model: WaveformModel, job: GenerationJob, report: GenerationReport) -> GenerationRecord:
    speed, config = report.speed, job.generation
    guard = None if config.guard is None else asdict(config.guard)
    choice = None if job.choice is None else asdict(job.choice)
    return GenerationRecord(
        model=job.model,
        rate=model.config.rate,
        seconds=config.seconds,
        made=report.made,
        samples=speed.samples,
        wall_seconds=speed.seconds,
        start_up=speed.start_up or 0.0,
        samples_per_second=speed.samples_per_second,
        real_time_factor=speed.real_time_factor,
        restarts=report.restarts,
        events=tuple(report.events),
        settings={"sampling": asdict(config.sampling), "guard": guard, "choice": choice},
        hardware=describe_device(next(model.parameters()).device),
        versions=software_versions(),
        **how_made(),
    )


def read_prefix(
    model: WaveformModel, path: str | Path, seconds: float | None = None
) -> Int[Tensor, " length"]:
    """Return the codes of a recording that others are to continue.

    Args:
        model: For which rate and codec.
        path: The recording; its channels are averaged, and it is brought to the model's rate.
        seconds: How much of its end to take; None: all.

    Raises:
        UserError: If it cannot be read, or is shorter than that.
    """
    info = describe(path)
    frames = info.frames if seconds is None else round(seconds * info.rate)
    if not 0 < frames <= info.frames:
        raise UserError(f"--prefix-seconds: expected more than 0, at most the {info.seconds:g} s of {path}")
    waveform = read(path, start=info.frames - frames).mean(dim=1, keepdim=True)
    return model.encode(resample(waveform, info.rate, model.config.rate)[None])[0]


def _paths(folder: Path, label: str | None, count: int) -> list[Path]:
    """Return the files of a class, numbered with as many digits as needed."""
    if label is not None:
        folder = folder / label.replace("/", "_")
    width = max(4, len(str(count)))
    return [folder / f"{number:0{width}}.wav" for number in range(1, count + 1)]
