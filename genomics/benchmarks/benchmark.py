"""What a benchmark is: its reader, its metric, and the settings of the paper that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seqmamba.errors import UserError
from seqmamba.paths import data_dir, expand

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences


@dataclass(frozen=True)
class PaperSettings:
    """How the paper that a number is compared with trained and reported; see `genomics.protocols`.

    Attributes:
        source: The paper, and which of these settings are not its own.
        validation: ``given``; ``tenth``, as torch's ``random_split`` draws it from the training file; or
            ``sklearn_tenth``, as ``train_test_split`` does.
        seeds: Its seeds.
        epochs: Its epochs.
        batch_size: Its batch size.
        lr: Its peak learning rate.
        max_length: Longer sequences lose their right end, shorter ones are padded on the left; None where all
            have the same length.
    """

    source: str
    validation: str = "tenth"
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    epochs: int = 10
    batch_size: int = 256
    lr: float = 1e-3
    max_length: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """One benchmark task.

    Attributes:
        name: ``<family>/<task>``.
        reader: Called with (source, task), and with the genome where `on_genome`.
        metric: Metric of the papers, a name of `seqmamba.metrics.METRICS`.
        paper: The paper's settings.
        on_genome: Whether the reader takes a genome.
        windowed: Whether the reader takes a ``length``, and the name may end in ``@BASES`` to say it.
        release: Where the files are, for a release that no recipe fetches.
    """

    name: str
    reader: Callable[..., LabelledSequences] = field(repr=False)
    metric: str
    paper: PaperSettings = field(repr=False)
    on_genome: bool = False
    windowed: bool = False
    release: str = ""

    @property
    def family(self) -> str:
        """Name of the release, also of its folder in the data folder and of its recipe."""
        return self.name.partition("/")[0]

    @property
    def task(self) -> str:
        """Name of the task inside the release."""
        return self.name.partition("/")[2].partition("@")[0]

    def read(
        self, source: str | Path | None = None, genome: str | Path | Mapping[str, str | Path] | None = None
    ) -> LabelledSequences:
        """Read the benchmark.

        Args:
            source: A copy of the release, or of this task; or one FASTA file of this task with headers
                ``>name|label|split``, or a folder that holds it as ``<task>.fa`` or ``<task>.fa.gz``. None
                takes what ``seqmamba recipes prepare`` put into the data folder.
            genome: FASTA file of the genome, or class name to FASTA file, for releases that are intervals.

        Raises:
            UserError: If the files are missing or not in the published layout.
        """
        place = data_dir() / self.family if source is None else expand(source)
        if not place.exists():
            how = f"seqmamba recipes prepare genomics/{self.family}, or --source PATH"
            raise UserError(
                f"{place}: there is no copy of {self.family}",
                hint=f"get it from {self.release} and give --source PATH" if self.release else how,
            )
        one_file = _headers_file(place, self.task)
        if one_file is not None:
            from genomics.datasets.headers import from_headers

            return from_headers(one_file)
        if self.on_genome:
            return self.reader(place, self.task, genome)
        if genome is not None:
            raise UserError(f"{self.name}: takes no genome, its release has the sequences")
        return self.reader(place, self.task)


def _headers_file(place: Path, task: str) -> Path | None:
    endings = (".fa", ".fa.gz", ".fasta", ".fasta.gz")
    if place.is_file() and place.name.endswith(endings):
        return place
    return next((path for end in endings if (path := place / f"{task}{end}").is_file()), None)
