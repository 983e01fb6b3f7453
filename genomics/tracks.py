"""Whole-genome prediction: any model along chromosomes of any length, in bounded memory, to files that genome
browsers open. Coordinates are 0-based and half-open.

The work is cut into blocks whose windows depend on the genome and the options only. A block that is done is
on disk; a run that is killed goes on behind it and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from genomics.alphabet import PAD, N, TokenArray
from genomics.carried import CarriedScores
from genomics.fasta import Fasta
from genomics.inference import batches_by_length
from genomics.language_reader import SCORES
from genomics.tiling import Span, Tiling, Window
from genomics.track_models import CausalPredictor, Predictor, predictor
from genomics.track_regions import Regions
from genomics.track_store import Block, TrackStore, make_blocks
from seqmamba.errors import UserError
from seqmamba.file_identity import identify
from seqmamba.model_identity import fingerprint
from seqmamba.progress import Progress
from seqmamba.training.hardware import device_kind

DEFAULT_WINDOW = 8_192
BLOCK_BASES = 2**20
_BLOCK_VALUES = 2**22  # bounds the memory of models with many targets


@dataclass(frozen=True)
class TrackConfig:
    """How a genome is read.

    Args:
        window: Bases of a window. None means the model's own; for causal language models, no windows: the
            state is carried from end to end.
        overlap: Bases that neighbouring windows share; by default a quarter of the window. For models with a
            value for every base or bin.
        step: Bases from one window to the next, and of a value; by default a quarter of the window. For
            models with one value a window.
        max_n: Windows of which more than this share is N are left out.
        mask_every: See `genomics.track_models.predictor`.
        both_strands: Whether to read both strands and average them.
        batch_bases: Bases in a batch; with a carried state, bases of a call.

    Raises:
        UserError: If a value is out of range.
    """

    window: int | None = None
    overlap: int | None = None
    step: int | None = None
    max_n: float = 0.5
    mask_every: int = 8
    both_strands: bool = False
    batch_bases: int = 65_536

    def __post_init__(self) -> None:
        if not 0 <= self.max_n <= 1:
            raise UserError(f"--max-n: expected a share from 0 to 1, got {self.max_n}")
        if self.batch_bases < 1:
            raise UserError(f"--batch-bases: expected a positive number, got {self.batch_bases}")


class Track:
    """A model's values along a genome.

    Args:
        model: See `genomics.track_models.predictor`; put in evaluation mode.
        genome: The genome.
        regions: Which parts of it; the values are those of the whole genome, cut to these.
        config: How it is read.
        bin_size: Bases of a value in the result, a multiple of what the model gives; None means the same.
        targets: Names of the values to keep; None means all.

    Raises:
        UserError: If the options do not fit the model or each other.
    """

    def __init__(
        self,
        model: nn.Module,
        genome: Fasta,
        regions: Regions,
        config: TrackConfig,
        *,
        bin_size: int | None = None,
        targets: Sequence[str] | None = None,
    ) -> None:
        self.genome, self.regions, self.config = genome, regions, config
        self.model = model.eval()
        self.predictor = predictor(model, both_strands=config.both_strands, mask_every=config.mask_every)
        self.carried = isinstance(self.predictor, CausalPredictor) and config.window is None
        self.tiling = _tiling(self.predictor, config, carried=self.carried)
        self.targets, self._columns = _choose(self.predictor.targets, targets)
        self.bin_size = self.tiling.unit if bin_size is None else bin_size
        if self.bin_size < 1 or self.bin_size % self.tiling.unit:
            raise UserError(
                f"--bin: expected a multiple of the {self.tiling.unit} bases of one value, got {bin_size}"
            )
        stride = self.tiling.stride
        bases = min(BLOCK_BASES, _BLOCK_VALUES // len(self.targets) * self.tiling.unit)
        self._block_bases = max(1, bases // stride) * stride
        self.blocks = tuple(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        parts = self.regions.parts(self.bin_size)
        if not self.carried:
            yield from make_blocks(_on_grid(parts, self.tiling, self.genome), "+", self._block_bases)
            return
        # A state needs everything in front: what lies behind the last region is left out.
        last = {part.chrom: part.end for part in parts}
        yield from make_blocks((Span(c, 0, end) for c, end in last.items()), "+", self._block_bases)
        if self.config.both_strands:
            first = {part.chrom: part.start for part in reversed(parts)}
            whole = (Span(c, first[c], self.genome.length(c)) for c in last)
            yield from make_blocks(whole, "-", self._block_bases)

    def plan(self) -> dict[str, Any]:
        """Return everything that the values depend on, as JSON."""
        device = next(self.model.parameters()).device
        return {
            "the model": fingerprint(self.model),
            "the device": device_kind(device),
            "--genome": identify(self.genome.path),
            "--target": list(self.targets),
            **{f"--{name.replace('_', '-')}": value for name, value in asdict(self.config).items()},
            "what --chroms, --regions and --bin cover": self._covered(),
        }

    def _covered(self) -> str:
        return hashlib.sha256(repr(self.blocks).encode()).hexdigest()[:16]

    def run(self, store: TrackStore) -> None:
        """Do the work that is left.

        Raises:
            UserError: If the genome cannot be read, or the model gives NaN.
        """
        sizes = [sum(span.end - span.start for span in block.spans) for block in self.blocks]
        progress = Progress(total=sum(sizes), done=sum(sizes[: store.done]))
        compute = self._carried(store) if self.carried else self._windowed
        for block, size in zip(self.blocks[store.done :], sizes[store.done :], strict=True):
            store.append(compute(block)[self._columns])
            progress.advance(size)
        progress.finish()

    def _carried(self, store: TrackStore) -> Any:
        """Return a function that scores block after block and leaves its state beside them."""
        assert isinstance(self.predictor, CausalPredictor)
        scores = CarriedScores(self.predictor.reader, self.config.batch_bases)
        if store.done:
            scores.load(_state_file(store.folder, store.done))

        def compute(block: Block) -> np.ndarray:
            values = np.concatenate([self._scored(scores, span, block.strand) for span in block.spans])
            scores.save(_state_file(store.folder, store.done + 1))
            _state_file(store.folder, store.done - 1).unlink(missing_ok=True)
            return values.T

        return compute

    def _scored(self, scores: CarriedScores, span: Span, strand: str) -> np.ndarray:
        if strand == "+":
            if span.start == 0:
                scores.restart()
            return scores.feed(self.genome.fetch(*span))
        if span.end == self.genome.length(span.chrom):
            scores.restart()
        return scores.feed(self.genome.fetch(*span, strand))[::-1]

    def _windowed(self, block: Block) -> Float[np.ndarray, "targets rows"]:
        jobs: list[_Job] = []
        parts = []
        for span in block.spans:
            first, last = self.tiling.rows(span.start, span.end)
            rows = np.full((last - first, len(self.predictor.targets)), np.nan, dtype=np.float32)
            jobs.extend(self._jobs(span, rows))
            parts.append(rows)
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            for batch in batches_by_length([len(job.tokens) for job in jobs], self.config.batch_bases):
                self._predict([jobs[i] for i in batch], device)
        return np.concatenate(parts).T

    def _jobs(self, span: Span, rows: np.ndarray) -> Iterator[_Job]:
        """Yield the windows of a part that are worth a prediction."""
        length, unit = self.genome.length(span.chrom), self.tiling.unit
        start, end = self.tiling.reach(span, length)
        tokens = self.genome.fetch(span.chrom, start, end)
        known = tokens != N
        for window in self.tiling.windows(span, length):
            inside = slice(window.start - start, window.end - start)
            if 1 - known[inside].mean() > self.config.max_n:
                continue
            kept = known[window.first * unit - start : min(window.last * unit, span.end) - start]
            wanted = np.logical_or.reduceat(kept, np.arange(0, len(kept), unit))
            if wanted.any():
                offset = span.start // unit
                yield _Job(window, tokens[inside], rows[window.first - offset : window.last - offset], wanted)

    def _predict(self, jobs: list[_Job], device: torch.device) -> None:
        unit = self.predictor.unit
        sizes = [_whole(len(job.tokens), unit) for job in jobs]
        tokens = torch.full((len(jobs), max(sizes)), PAD)
        for row, (job, size) in enumerate(zip(jobs, sizes, strict=True)):
            tokens[row, : len(job.tokens)] = torch.from_numpy(job.tokens.astype(np.int64))
            tokens[row, len(job.tokens) : size] = N  # the last bin of a chromosome is filled up
        starts = torch.tensor([job.window.start for job in jobs])
        values = self.predictor(tokens.to(device), torch.tensor(sizes).to(device), starts.to(device))
        for job, found in zip(jobs, values.float().cpu().numpy(), strict=True):
            skip = job.window.first - job.window.start // unit if unit else 0
            kept = found[skip : skip + len(job.rows)]
            job.rows[job.wanted] = kept[job.wanted]


class _Job(NamedTuple):
    """A window, its bases, where its rows go, and which of these hold a known base."""

    window: Window
    tokens: TokenArray
    rows: np.ndarray
    wanted: np.ndarray


def _tiling(predictor: Predictor, config: TrackConfig, *, carried: bool) -> Tiling:
    """Return the grid of windows that a model and the options ask for."""
    pooled = predictor.unit == 0
    if config.step is not None and not pooled:
        raise UserError(
            "--step: is for models that give one value a window; this one gives more",
            hint="--bin averages its values",
        )
    if config.overlap is not None and (pooled or carried):
        model = "give one value a window" if pooled else "carry their state"
        hint = "--step sets how far apart they are" if pooled else "--window cuts the genome into windows"
        raise UserError(f"--overlap: is not for models that {model}", hint=hint)
    if carried:
        return Tiling(unit=1, stride=1, left=0, right=0)
    if pooled:
        window = predictor.window if config.window is None else config.window
        if window is None:
            raise UserError(
                "--window: the model does not tell how long its training sequences were",
                hint="give their usual length in bases",
            )
        if predictor.window is not None and window > predictor.window:
            raise UserError(
                f"--window: expected at most {predictor.window:,} bases, the longest sequence of the "
                f"model's training, got {window:,}"
            )
        step = max(1, window // 4) if config.step is None else config.step
        return Tiling.centred(window, step)
    unit = predictor.unit
    grain = unit if predictor.causal else 2 * unit
    window = _whole(predictor.window or DEFAULT_WINDOW, unit) if config.window is None else config.window
    overlap = window // 4 // grain * grain if config.overlap is None else config.overlap
    return Tiling.trimmed(window, overlap, unit=unit, causal=predictor.causal)


def _choose(names: Sequence[str], wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[int]]:
    """Return the targets to keep, and their columns."""
    if not wanted:
        # The entropy of a language model is there for who asks for it.
        wanted = names[:1] if tuple(names) == SCORES else names
    for name in wanted:
        if name not in names:
            raise UserError(f"--target: expected one of {', '.join(names)}, got {name!r}")
    chosen = tuple(dict.fromkeys(wanted))
    return chosen, [list(names).index(name) for name in chosen]


def _on_grid(parts: Sequence[Span], tiling: Tiling, genome: Fasta) -> list[Span]:
    """Widen parts to whole windows, and join those that then touch."""
    joined: list[Span] = []
    for chrom, start, end in parts:
        start, end = tiling.covering(start, end)
        end = min(end, genome.length(chrom))
        if joined and joined[-1].chrom == chrom and start <= joined[-1].end:
            start, end = joined.pop().start, max(end, start)
        joined.append(Span(chrom, start, end))
    return joined


def _whole(bases: int, unit: int) -> int:
    """Round up to whole bins."""
    return -(-bases // unit) * unit if unit > 1 else bases


def _state_file(folder: Path, block: int) -> Path:
    return folder / f"state-{block}.safetensors"
