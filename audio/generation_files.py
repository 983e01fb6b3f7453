"""What stands beside generated recordings: ``samples.tsv``, a line for each, and ``generation.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.results import known_fields, load_results, save_results, stored_number

TABLE = "samples.tsv"
RECORD = "generation.json"
REPORT = "report.html"
_COLUMNS = ("file", "class", "number", "seconds", "bits_per_sample", "noise")


@dataclass(frozen=True)
class Sample:
    """A recording that was made.

    Attributes:
        path: Its file.
        label: Its class.
        number: Its number among the recordings of its class, before the choice.
        seconds: Its length, without a prefix.
        bits_per_sample: Mean surprise of the model, neither tempered nor cut.
        noise: Whether it is noise that the guard could not avoid.
    """

    path: Path
    label: str | None
    number: int
    seconds: float
    bits_per_sample: float
    noise: bool


@dataclass(frozen=True)
class NoiseEvent:
    """A stretch that the guard held for noise.

    Attributes:
        label: Class of the recording.
        number: Number of the recording among those of its class, before the choice.
        seconds: Where the stretch begins.
        tries: How often it was made again.
        replaced: Whether that helped; if not, the recording was left alone from there on.
    """

    label: str | None
    number: int
    seconds: float
    tries: int
    replaced: bool


@dataclass(frozen=True)
class GenerationRecord:
    """How recordings were made.

    Attributes:
        model: The folder or the name that the model was read from.
        rate: Samples a second of the recordings.
        seconds: Length of each.
        made: How many were made, those that were left out included.
        samples: Samples of all of them.
        wall_seconds: How long that took.
        start_up: How long the first block took, in which kernels are compiled.
        samples_per_second: Speed of the rest.
        real_time_factor: Seconds that a second of sound takes, all recordings together.
        restarts: How often the guard set a recording back.
        events: What it held for noise.
        settings: How samples were drawn, as nested plain dictionaries.
        created: ISO 8601 date and time.
        command: The command line.
        hardware: One line.
        versions: Package name to version.
    """

    model: str = ""
    rate: int = 0
    seconds: float = math.nan
    made: int = 0
    samples: int = 0
    wall_seconds: float = math.nan
    start_up: float = math.nan
    samples_per_second: float = math.nan
    real_time_factor: float = math.nan
    restarts: int = 0
    events: tuple[NoiseEvent, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    command: str = ""
    hardware: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write ``generation.json`` into a folder."""
        return save_results(self, folder / RECORD)

    @classmethod
    def load(cls, folder: Path) -> GenerationRecord:
        """Read what `save` wrote."""
        return load_results(folder / RECORD, _record)


def _record(stored: Mapping[str, Any]) -> GenerationRecord:
    values = known_fields(GenerationRecord, stored)
    for name in ("seconds", "wall_seconds", "start_up", "samples_per_second", "real_time_factor"):
        values[name] = stored_number(values.get(name))
    values["events"] = tuple(NoiseEvent(**known_fields(NoiseEvent, e)) for e in stored.get("events", ()))
    return GenerationRecord(**values)


def write_samples(folder: Path, samples: Sequence[Sample]) -> None:
    """Write ``samples.tsv``."""
    with atomic_path(folder / TABLE) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.write("\t".join(_COLUMNS) + "\n")
        for each in samples:
            numbers = (f"{each.seconds:g}", f"{each.bits_per_sample:.6f}", str(int(each.noise)))
            name = each.path.relative_to(folder).as_posix()
            file.write("\t".join((name, each.label or "", str(each.number), *numbers)) + "\n")


def read_samples(folder: Path) -> list[Sample]:
    """Read what `write_samples` wrote.

    Raises:
        UserError: If there is no such table, or a line of it is damaged.
    """
    path = folder / TABLE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a table of generated recordings, got {error}") from None
    samples = []
    for place, line in enumerate(lines, start=2):
        try:
            file, label, number, seconds, bits, noise = line.split("\t")
            numbers = int(number), float(seconds), float(bits), bool(int(noise))
        except ValueError:
            raise UserError(f"{path}:{place}: expected {', '.join(_COLUMNS)}, got {line!r}") from None
        samples.append(Sample(folder / file, label or None, *numbers))
    return samples
