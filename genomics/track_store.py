"""The values of an unfinished track on disk: blocks that are appended in one fixed order.

Whatever was written stays valid when the process dies: the count of finished blocks changes only after their
bytes have reached the disk, and what lies behind them is cut off when the work goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from genomics.tiling import Span, Tiling
from seqmamba.atomic import atomic_path, name_file
from seqmamba.errors import UserError
from seqmamba.finished import compare_settings

_DTYPE = np.dtype("<f4")


class Block(NamedTuple):
    """Work between two safe points: parts of the track that are read on one strand."""

    strand: str
    spans: tuple[Span, ...]


class _Extent(NamedTuple):
    """Where rows ``first`` to ``last`` of a chromosome lie: those of target t start at item
    ``offset + t * stride`` of the file.
    """

    first: int
    last: int
    offset: int
    stride: int


def make_blocks(spans: Iterable[Span], strand: str, size: int) -> Iterator[Block]:
    """Cut long parts and join short ones to blocks of about one size.

    Args:
        spans: Parts of a grid; they stay in order.
        strand: ``+``, or ``-`` to cut each part from its end.
        size: Bases of a block, a multiple of the grid's stride.
    """
    group: list[Span] = []
    bases = 0
    for span in spans:
        cuts = range(span.start, span.end, size)
        for start in cuts if strand == "+" else reversed(cuts):
            piece = Span(span.chrom, start, min(start + size, span.end))
            if group and bases + piece.end - piece.start > size:
                yield Block(strand, tuple(group))
                group, bases = [], 0
            group.append(piece)
            bases += piece.end - piece.start
    if group:
        yield Block(strand, tuple(group))


class TrackStore:
    """The folder of an unfinished track.

    Args:
        folder: Where to keep it; created if absent.
        plan: Everything that the values depend on, as JSON; it must be the same when the work goes on.
        blocks: The work in its order.
        tiling: The grid of rows.
        n_targets: Values of a row.
        fresh: Start again, whatever the folder holds.

    Raises:
        UserError: If the folder holds other work, or another process works on it.
    """

    def __init__(
        self,
        folder: Path,
        plan: dict[str, Any],
        blocks: Sequence[Block],
        tiling: Tiling,
        n_targets: int,
        *,
        fresh: bool = False,
    ) -> None:
        self.folder = folder
        self.blocks = blocks
        self._n_targets = n_targets
        self._sizes: list[int] = []  # items of the file that each block takes
        self._extents: dict[tuple[str, str], list[_Extent]] = {}
        offset = 0
        for block in blocks:
            spans = [(span.chrom, *tiling.rows(span.start, span.end)) for span in block.spans]
            stride = sum(last - first for _, first, last in spans)
            place = offset
            for chrom, first, last in spans:
                self._extents.setdefault((block.strand, chrom), []).append(
                    _Extent(first, last, place, stride)
                )
                place += last - first
            self._sizes.append(stride * n_targets)
            offset += stride * n_targets
        for extents in self._extents.values():
            extents.sort()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "values.f32"
        self._file = self._path.open("a+b")
        try:
            self._lock()
            if fresh:
                self._clear()
            self._check_plan(plan)
            self.done = self._read_done()
            self._file.truncate(sum(self._sizes[: self.done]) * _DTYPE.itemsize)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TrackStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def strands(self) -> tuple[str, ...]:
        """The strands that were read."""
        return tuple(sorted({strand for strand, _ in self._extents}))

    def append(self, values: Float[np.ndarray, "targets rows"]) -> None:
        """Write the rows of the next block; they are safe when this returns.

        Args:
            values: The rows of its spans, side by side; NaN where there is no value.
        """
        if values.size != self._sizes[self.done]:
            raise ValueError(f"block {self.done} has {self._sizes[self.done]} values, got {values.size}")
        try:
            self._file.write(np.ascontiguousarray(values, dtype=_DTYPE).tobytes())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            name_file(error, self._path)
            raise
        self.done += 1
        with atomic_path(self.folder / "done") as part:
            part.write_text(f"{self.done}\n")

    def read(self, strand: str, chrom: str, target: int, first: int, last: int) -> Float[np.ndarray, " rows"]:
        """Return some rows of one target, NaN where there is no value.

        Args:
            strand: The strand that was read.
            chrom: The chromosome.
            target: Which value of the rows.
            first: First row.
            last: One past the last row.
        """
        values = np.full(last - first, np.nan, dtype=np.float32)
        extents = self._extents.get((strand, chrom), [])
        for extent in extents[max(0, bisect_right(extents, (first,)) - 1) :]:
            if extent.first >= last:
                break
            start, end = max(first, extent.first), min(last, extent.last)
            if start < end:
                item = extent.offset + target * extent.stride + start - extent.first
                content = os.pread(
                    self._file.fileno(), (end - start) * _DTYPE.itemsize, item * _DTYPE.itemsize
                )
                values[start - first : end - first] = np.frombuffer(content, _DTYPE)
        return values

    def remove(self) -> None:
        """Remove the folder."""
        self._file.close()
        shutil.rmtree(self.folder)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone when the process ends, however
        except BlockingIOError:
            raise UserError(f"{self.folder}: another process is working on this track") from None

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path != self._path:  # the lock is on this one
                path.unlink()
        self._file.truncate(0)

    def _check_plan(self, plan: dict[str, Any]) -> None:
        path = self.folder / "plan.json"
        if not path.exists():
            with atomic_path(path) as part:
                part.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
            return
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            before = {key: old[key] for key in plan}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{path}: is damaged", hint="--overwrite starts the track from the beginning"
            ) from None
        compare_settings(before, plan)

    def _read_done(self) -> int:
        path = self.folder / "done"
        if not path.exists():
            return 0
        try:
            done = int(path.read_text())
        except ValueError:
            done = -1
        size = os.fstat(self._file.fileno()).st_size
        if not 0 <= done <= len(self.blocks) or size < sum(self._sizes[:done]) * _DTYPE.itemsize:
            raise UserError(
                f"{self.folder}: is damaged", hint="--overwrite starts the track from the beginning"
            )
        return done
