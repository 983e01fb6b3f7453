"""From the stored values of a track to its files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from genomics.track_files import (
    BED,
    BEDGRAPH,
    BIGWIG,
    NARROW_PEAK,
    Intervals,
    split_suffix,
    track_format,
    write_bedgraph,
    write_bigwig,
    write_peaks,
)
from genomics.track_models import mean_of_known
from genomics.track_store import TrackStore
from genomics.tracks import Track
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.finished import check_finished, in_the_way, note_settings, require_new

_ROWS = 2**18  # rows read at once
_UNSAFE = re.compile(r"[^\w.+-]+")
_DEFAULT_THRESHOLD = 0.5


def write_track(
    track: Track,
    output: Path,
    *,
    threshold: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Compute a track and write its files, each whole or not at all.

    The values are kept in the folder ``OUTPUT.unfinished`` until the files are complete.

    Args:
        track: What to compute.
        output: The file; its ending says the format. With several targets the name of each is put in front
            of the ending.
        threshold: Least value of a call, for BED and narrowPeak.
        resume: Go on with an unfinished track; write nothing if it is complete.
        overwrite: Replace what is there.

    Returns:
        The files.

    Raises:
        UserError: If something is there and neither is set, or nothing can be written.
    """
    threshold = _threshold(track, track_format(output), threshold)
    files = output_files(output, track.targets)
    folder = output.with_name(f"{output.name}.unfinished")
    settings = track.plan() | {"--bin": track.bin_size, "--threshold": threshold}
    if _is_complete(output, files, folder, resume=resume, overwrite=overwrite):
        for file in files:
            check_finished(file, settings)
        print(f"{output}: is complete already", file=sys.stderr)
        return files
    work = (track.plan(), track.blocks, track.tiling, len(track.targets))
    with TrackStore(folder, *work, fresh=overwrite) as store:
        try:
            track.run(store)
        except BaseException:
            if store.done == 0:
                store.remove()  # nothing to resume
            raise
        for number, file in enumerate(files):
            with atomic_path(file) as part:
                # pybigtools goes by the ending; what a killed process leaves goes with its folder
                fresh = folder / f"track{split_suffix(output)[1]}"
                _write(track, store, number, fresh, threshold)
                os.replace(fresh, part)
            note_settings(file, settings)
        store.remove()
    return files


def _is_complete(output: Path, files: list[Path], folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Say whether there is nothing to do; refuse to touch what nobody allowed to be touched."""
    interrupted = folder.exists()
    finished = not interrupted and all(file.exists() for file in files)
    require_new(*files, overwrite=overwrite or interrupted or (resume and finished))
    if interrupted and not (resume or overwrite):
        raise in_the_way(output)
    return finished and not overwrite


def output_files(output: Path, targets: tuple[str, ...]) -> list[Path]:
    """Return the file of each target: OUT.bw for one, OUT.NAME.bw for several.

    Raises:
        UserError: If the names of two targets make the same file.
    """
    if len(targets) == 1:
        return [output]
    plain, suffix = split_suffix(output)
    files = [output.with_name(f"{plain.stem}.{_UNSAFE.sub('_', name)}{suffix}") for name in targets]
    if len({file.name.lower() for file in files}) < len(files):
        raise UserError(
            f"--output {output}: the names of targets are too alike for files of their own",
            hint="pick one with --target",
        )
    return files


def intervals(track: Track, store: TrackStore, target: int) -> Iterator[Intervals]:
    """Yield the values of a target: chromosomes in the byte order of their names, bins in order.

    Args:
        track: The track.
        store: Its values.
        target: Number of the target.
    """
    factor = track.bin_size // track.tiling.unit
    bins = max(1, _ROWS // factor)
    stretches = track.regions.stretches
    for chrom in sorted(stretches, key=str.encode):
        for start, end in stretches[chrom]:
            for first in range(start // track.bin_size, -(-end // track.bin_size), bins):
                last = min(first + bins, -(-end // track.bin_size))
                values = _read(track, store, chrom, target, first * factor, last * factor)
                edges = np.arange(first, last + 1, dtype=np.int64) * track.bin_size
                yield _runs(chrom, edges.clip(start, end), _averaged(values, factor))


def _read(track: Track, store: TrackStore, chrom: str, target: int, first: int, last: int) -> np.ndarray:
    values = [torch.from_numpy(store.read(strand, chrom, target, first, last)) for strand in store.strands]
    return (values[0] if len(values) == 1 else mean_of_known(*values)).numpy()


def _averaged(values: np.ndarray, factor: int) -> np.ndarray:
    """Average the rows of each bin that have a value; NaN where none has."""
    if factor == 1:
        return values
    grouped = values.reshape(-1, factor).astype(np.float64)
    known = ~np.isnan(grouped)
    counts = known.sum(axis=1)
    totals = np.where(known, grouped, 0).sum(axis=1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan).astype(np.float32)


def _runs(chrom: str, edges: np.ndarray, values: np.ndarray) -> Intervals:
    """Drop what has no value, and make one interval of neighbours with equal values."""
    known = ~np.isnan(values)
    new = known.copy()
    new[1:] &= (values[1:] != values[:-1]) | ~known[:-1]
    starts = np.flatnonzero(new)
    ended = np.flatnonzero(known & np.append(new[1:] | ~known[1:], True))
    return Intervals(chrom, edges[starts], edges[ended + 1], values[starts])


def _write(track: Track, store: TrackStore, number: int, path: Path, threshold: float) -> None:
    kind = track_format(path)
    values = intervals(track, store, number)
    if kind == BIGWIG:
        lengths = {name: track.genome.length(name) for name in track.regions.stretches}
        write_bigwig(path, lengths, values)
    elif kind == BEDGRAPH:
        write_bedgraph(path, values)
    else:
        write_peaks(path, values, name=track.targets[number], threshold=threshold, narrow=kind == NARROW_PEAK)


def _threshold(track: Track, kind: str, threshold: float | None) -> float:
    if kind not in (BED, NARROW_PEAK):
        if threshold is not None:
            raise UserError(f"--threshold: is for BED and narrowPeak, not for {kind}")
        return _DEFAULT_THRESHOLD
    if threshold is None and not track.predictor.probability:
        raise UserError(
            f"--threshold: {kind} holds what reaches a threshold, and these values are no probabilities",
            hint="give the least value of a call",
        )
    return _DEFAULT_THRESHOLD if threshold is None else threshold
