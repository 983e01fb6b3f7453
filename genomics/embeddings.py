"""Embeddings of sequences, windows or bases, in bounded memory, to a table that can be loaded anywhere.

Coordinates are 0-based and half-open. Those of a FASTA record count from its own first base; those of a BED
row are the genome's, and of a row on the other strand the vectors follow that strand: its first window or
base is the last one of the interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from genomics.alphabet import PAD, A
from genomics.embedding_files import table_schema, to_batch, writer_for
from genomics.embedding_inputs import Item
from genomics.embedding_models import Embedder
from genomics.inference import batches_by_length
from genomics.tiling import Span, Tiling, Window
from seqmamba.errors import UserError
from seqmamba.file_identity import identify_all
from seqmamba.model_identity import fingerprint
from seqmamba.progress import Progress
from seqmamba.resumable import ResumableFile
from seqmamba.training.hardware import device_kind

Level = Literal["sequence", "window", "base"]
LEVELS: tuple[Level, ...] = ("sequence", "window", "base")
DEFAULT_WINDOW = 65_536
SHARD_BASES = 2**22  # read between two checkpoints, about
SHARD_ROWS = 2**14
_SHARD_VALUES = 2**24  # of the vectors in a shard


@dataclass(frozen=True)
class EmbeddingConfig:
    """What is embedded.

    Args:
        level: ``sequence``, ``window`` or ``base``: what one vector stands for.
        window: Bases that the model reads at once; by default its own longest sequence, or 65,536. The vector
            of a longer sequence is the mean of its windows, weighted by their bases.
        step: Bases from one window to the next; by default the window, or three quarters of it for bases,
            whose windows then share a quarter, so that every base is seen with both its sides.
        layer: See `Embedder`.
        both_strands: See `Embedder`.
        dtype: ``float32`` or ``float16``.
        batch_bases: Bases in a batch, padding included.

    Raises:
        UserError: If a value is out of range.
    """

    level: Level = "sequence"
    window: int | None = None
    step: int | None = None
    layer: int | None = None
    both_strands: bool = False
    dtype: str = "float32"
    batch_bases: int = 65_536

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("--level", self.level, LEVELS),
            ("--dtype", self.dtype, ("float32", "float16")),
        ):
            if value not in allowed:
                raise UserError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        for name in ("window", "step", "batch_bases"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option}: expected a positive number of bases, got {value}")
        if self.step is not None and self.level == "sequence":
            raise UserError("--step: is for windows and bases, not for --level sequence")


class Job(NamedTuple):
    """A window of a sequence: what is read, and the part of it that the rows stand for."""

    item: Item
    start: int
    end: int
    first: int
    last: int


class Embeddings:
    """Writes the embeddings of sequences.

    Args:
        model: See `Embedder`.
        config: What is embedded.

    Raises:
        UserError: If the options do not fit the model.
    """

    def __init__(self, model: torch.nn.Module, config: EmbeddingConfig) -> None:
        self.config = config
        self.embedder = Embedder(model, layer=config.layer, both_strands=config.both_strands)
        self.window = config.window or self.embedder.window or DEFAULT_WINDOW
        limit = self.embedder.window
        if limit is not None and self.window > limit:
            raise UserError(
                f"--window: expected at most {limit:,} bases, the longest sequence of the model's training, "
                f"got {self.window:,}"
            )
        default = self.window - self.window // 4 if config.level == "base" else self.window
        self.step = config.step or default
        if self.step > self.window and config.level == "base":
            raise UserError(
                f"--step: expected at most the window of {self.window:,} bases, got {self.step:,}"
            )
        self._device = next(model.parameters()).device
        sample = torch.full((1, 8), A, device=self._device)
        self.dim = self._vectors(sample, torch.tensor([8], device=self._device)).shape[-1]
        self.settings = {
            "model": type(model).__name__,
            "weights": fingerprint(model),
            **asdict(config),
            "window": self.window,
            "step": self.step,
        }
        description = {key: str(value) for key, value in self.settings.items()}
        self.schema = table_schema(self.dim, config.dtype, description | {"coordinates": "0-based half-open"})

    def write(
        self,
        items: Iterable[Item],
        output: Path,
        *,
        source: Sequence[str | Path] = (),
        resume: bool = False,
        overwrite: bool = False,
    ) -> int | None:
        """Write the table, whole or not at all.

        Args:
            items: The sequences.
            output: A path that ends in .parquet or .npz.
            source: Files that the sequences come from; they must be the same when the work goes on.
            resume: Go on with what an interrupted run left.
            overwrite: Replace what is there.

        Returns:
            The number of rows; None if the table was complete before.

        Raises:
            UserError: If the input is not readable, or something is in the way.
        """
        convert = writer_for(output, self.schema)
        progress = Progress(total=None)
        settings = self.settings | {
            "input": identify_all(source),
            "device": device_kind(self._device),
        }
        with ResumableFile(output, settings, bgzip=False, resume=resume, overwrite=overwrite) as file:
            if file.complete:
                return None
            shards = int(file.notes.get("shards", 0))
            for shard in islice(self._shards(items), shards, None):
                batch = self._embed(shard)
                shards += 1
                file.write(batch.serialize().to_pybytes(), batch.num_rows, {"shards": shards})
                progress.advance(sum(job.end - job.start for job in shard))
            file.finish(convert)
        progress.finish()
        return file.records

    def _jobs(self, item: Item) -> Iterator[list[Job]]:
        """Yield the windows of a sequence; those of one vector together."""
        length = len(item.interval)
        if length <= self.window:
            windows = iter([Window(0, length, 0, length)])
        elif self.config.level == "base":
            context = self.window - self.step
            left = context if self.embedder.causal else context // 2
            tiling = Tiling(unit=1, stride=self.step, left=left, right=context - left)
            windows = tiling.windows(Span(item.name, 0, length), length)
        else:
            starts = range(0, min(length, length - self.window + self.step), self.step)
            pieces = ((start, min(start + self.window, length)) for start in starts)
            windows = (Window(*piece, *piece) for piece in pieces)
        jobs = (Job(item, *window) for window in windows)
        if self.config.level == "sequence":
            yield list(jobs)
        else:
            yield from ([job] for job in jobs)

    def _shards(self, items: Iterable[Item]) -> Iterator[list[Job]]:
        """Yield windows between two checkpoints; where they are cut depends on the input only."""
        rows = max(1, min(SHARD_ROWS, _SHARD_VALUES // self.dim))
        shard: list[Job] = []
        bases = vectors = 0
        for item in items:
            for group in self._jobs(item):
                more = sum(job.last - job.first for job in group) if self.config.level == "base" else 1
                if shard and (bases >= SHARD_BASES or vectors + more > rows):
                    yield shard
                    shard, bases, vectors = [], 0, 0
                shard.extend(group)
                vectors += more
                bases += sum(job.end - job.start for job in group)
        if shard:
            yield shard

    def _vectors(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        embed = self.embedder.features if self.config.level == "base" else self.embedder.pooled
        return embed(tokens, lengths)

    def _embed(self, shard: list[Job]) -> pa.RecordBatch:
        found: list[np.ndarray] = [np.empty(0)] * len(shard)
        for batch in batches_by_length([job.end - job.start for job in shard], self.config.batch_bases):
            jobs = [shard[i] for i in batch]
            lengths = torch.tensor([job.end - job.start for job in jobs])
            tokens = torch.full((len(jobs), int(lengths.max())), PAD)
            for row, job in enumerate(jobs):
                tokens[row, : lengths[row]] = torch.from_numpy(
                    job.item.fetch(job.start, job.end).astype(np.int64)
                )
            vectors = self._vectors(tokens.to(self._device), lengths.to(self._device)).float().cpu().numpy()
            for i, job, rows in zip(batch, jobs, vectors, strict=True):
                if self.config.level == "base":
                    rows = rows[job.first - job.start : job.last - job.start].copy()
                found[i] = rows
        return self._rows(shard, found)

    def _rows(self, shard: list[Job], vectors: list[np.ndarray]) -> pa.RecordBatch:
        if self.config.level == "base":
            bases = (np.arange(job.first, job.last) for job in shard)
            places = [_Places(job.item, at, at + 1) for job, at in zip(shard, bases, strict=True)]
            return to_batch(self.schema, _columns(places), np.concatenate(vectors))
        if self.config.level == "window":
            places = [_Places(job.item, np.array([job.start]), np.array([job.end])) for job in shard]
            return to_batch(self.schema, _columns(places), np.stack(vectors))
        items = [job.item for job in shard if job.start == 0]
        places = [_Places(item, np.array([0]), np.array([len(item.interval)])) for item in items]
        return to_batch(self.schema, _columns(places), _means(shard, vectors))


class _Places(NamedTuple):
    """Stretches of a sequence, in positions of its own."""

    item: Item
    starts: np.ndarray
    ends: np.ndarray


def _columns(places: list[_Places]) -> dict[str, Any]:
    """Return where the rows lie: all columns but the vectors."""
    columns: dict[str, Any] = {"id": [], "chrom": [], "strand": []}
    starts, ends = [], []
    for item, first, last in places:
        whole = item.interval
        turned = whole.strand == "-"
        starts.append(whole.end - last if turned else whole.start + first)
        ends.append(whole.end - first if turned else whole.start + last)
        for name, text in (("id", item.name), ("chrom", whole.chrom), ("strand", whole.strand)):
            columns[name] += [text] * len(first)
    return columns | {"start": np.concatenate(starts), "end": np.concatenate(ends)}


def _means(shard: list[Job], vectors: list[np.ndarray]) -> Float[np.ndarray, "sequences dim"]:
    """Average the windows of each sequence, weighted by their bases."""
    means: list[np.ndarray] = []
    weights: list[int] = []
    for job, vector in zip(shard, vectors, strict=True):
        if job.start == 0:
            means.append(np.zeros(len(vector)))
            weights.append(0)
        means[-1] += vector.astype(np.float64) * (job.end - job.start)
        weights[-1] += job.end - job.start
    return np.stack(means) / np.array(weights)[:, None]
