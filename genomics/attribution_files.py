"""Files of attributions: npz, a table, bigWig and bedGraph; and whether the strands agree.

Everything is written as a stream: memory depends on the longest sequence, and a few numbers and the name of
each are kept. Coordinates are 0-based and half-open.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genomics.alphabet import decode
from genomics.attribution_run import Explained
from genomics.track_files import BEDGRAPH, BIGWIG, Intervals, track_format, write_bedgraph, write_bigwig
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

NPZ, TSV = "npz", "tsv"
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first moment that zip knows; the time of writing would change the bytes
_COLUMNS = {"bases": np.dtype("S1"), "scores": np.dtype("<f4"), "effects": np.dtype("<f4")}


def attribution_format(output: Path) -> str:
    """Return the format that the name of a file stands for: `NPZ`, `TSV`, ``bigWig`` or ``bedGraph``.

    Raises:
        UserError: If it stands for none of them.
    """
    if output.suffix.lower() in (".npz", ".tsv"):
        return output.suffix.lower().removeprefix(".")
    try:
        found = track_format(output)
    except UserError:
        found = ""
    if found not in (BIGWIG, BEDGRAPH):
        raise UserError(
            f"--output {output}: expected a name that ends in .npz, .tsv, .bw, .bedgraph or .bedgraph.gz"
        )
    return found


def write_attributions(
    results: Iterable[Explained],
    output: Path,
    *,
    lengths: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a file of attributions, whole or not at all.

    Args:
        results: The scores; for bigWig and bedGraph in the order of chromosomes (as bytes) and starts.
        output: The file; its ending says the format.
        lengths: Bases of every chromosome, for bigWig.
        facts: What an npz file is to say besides, such as the method.

    Raises:
        UserError: If the ending says no format, or there is nothing to write.
    """
    kind = attribution_format(output)
    # The writers of tracks go by the ending of a name, so the file has its own until it is whole.
    with (
        atomic_path(output) as part,
        tempfile.TemporaryDirectory(dir=part.parent, prefix=f".{output.name}.") as folder,
    ):
        path = Path(folder) / output.name
        if kind == NPZ:
            _write_npz(results, path, facts or {})
        elif kind == TSV:
            _write_table(results, path)
        elif kind == BEDGRAPH:
            write_bedgraph(path, merged_track(results))
        else:
            write_bigwig(path, lengths or {}, merged_track(results))
        os.replace(path, part)


def _write_table(results: Iterable[Explained], path: Path) -> None:
    """Write a row a base: name, chrom, position, strand, base (on that strand), score, mutation effects."""
    with path.open("w", encoding="utf-8") as handle:
        for number, one in enumerate(results):
            if not number:
                extra = "" if one.effects is None else "\tA\tC\tG\tT"
                handle.write(f"name\tchrom\tposition\tstrand\tbase\tscore{extra}\n")
            place = one.interval
            positions: Iterable[int] = range(place.start, place.end)
            if place.strand == "-":
                positions = reversed(range(place.start, place.end))
            columns = one.scores[:, None] if one.effects is None else np.c_[one.scores, one.effects]
            rows = zip(positions, decode(one.tokens), columns.tolist(), strict=True)
            handle.writelines(
                f"{one.name}\t{place.chrom}\t{position}\t{place.strand}\t{base}\t"
                + "\t".join(f"{value:.6g}" for value in values)
                + "\n"
                for position, base, values in rows
            )


def _write_npz(results: Iterable[Explained], path: Path, facts: Mapping[str, Any]) -> None:
    """Write arrays that ``numpy.load`` reads without pickle.

    ``bases`` (S1), ``scores`` (float32) and, of mutagenesis, ``effects`` (float32, 4 columns: A, C, G, T)
    hold all sequences end to end; sequence i is ``offsets[i]:offsets[i + 1]``, in reading direction.
    ``name``, ``chrom``, ``start``, ``end``, ``strand``, ``output``, ``output_rc`` and ``gap`` have a value a
    sequence.
    """
    rows: list[tuple[Any, ...]] = []
    files = {name: path.with_name(name).open("w+b") for name in _COLUMNS}
    try:
        width = 0
        for one in results:
            files["bases"].write(decode(one.tokens).encode())
            files["scores"].write(one.scores.astype("<f4").tobytes())
            if one.effects is not None:
                width = one.effects.shape[1]
                files["effects"].write(one.effects.astype("<f4").tobytes())
            rows.append((one.name, *_place(one), one.output, one.output_rc, one.gap))
        if not rows:
            raise UserError("there is no sequence to explain")
        names = ("name", "chrom", "start", "end", "strand", "output", "output_rc", "gap")
        arrays = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        arrays |= {name: np.array(value) for name, value in facts.items()}
        arrays["offsets"] = np.concatenate([[0], np.cumsum(arrays["end"] - arrays["start"])])
        total = int(arrays["offsets"][-1])
        shapes = {"bases": (total,), "scores": (total,)} | ({"effects": (total, width)} if width else {})
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                with archive.open(_member(name), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, shape in shapes.items():
                with archive.open(_member(name), "w", force_zip64=True) as member:
                    _copy_array(files[name], member, _COLUMNS[name], shape)
    finally:
        for file in files.values():
            file.close()


def _place(one: Explained) -> tuple[str, int, int, str]:
    place = one.interval
    return place.chrom, place.start, place.end, place.strand


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", _OLDEST)


def _copy_array(file: Any, member: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write raw values as a member of an npz file, behind the header of the npy format."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    file.seek(0)
    shutil.copyfileobj(file, member)


def merged_track(results: Iterable[Explained]) -> Iterator[Intervals]:
    """Yield the scores of sequences along the genome; where sequences overlap, the mean.

    Args:
        results: In the order of chromosomes and starts.

    Raises:
        ValueError: If they come in another order.
    """
    chrom, base = "", 0
    total = np.zeros(0)
    count = np.zeros(0, dtype=np.int64)
    for one in results:
        place = one.interval
        if place.chrom == chrom and place.start < base:
            raise ValueError(f"{place} comes after {chrom}:{base}")
        done = len(total) if place.chrom != chrom else min(len(total), place.start - base)
        yield from _known(chrom, base, total[:done], count[:done])
        total, count = total[done:], count[done:]
        chrom, base = place.chrom, place.start
        size = len(place)
        missing = max(0, size - len(total))
        total, count = np.pad(total, (0, missing)), np.pad(count, (0, missing))
        total[:size] += one.scores[::-1] if place.strand == "-" else one.scores
        count[:size] += 1
    yield from _known(chrom, base, total, count)


def _known(chrom: str, base: int, total: np.ndarray, count: np.ndarray) -> Iterator[Intervals]:
    inside = np.flatnonzero(count)
    if len(inside):
        starts = base + inside
        yield Intervals(chrom, starts, starts + 1, (total[inside] / count[inside]).astype(np.float32))


class StrandReport:
    """How far a model's answers for sequences and their reverse complements are apart.

    Args:
        what: The explained output, in words.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._outputs: list[tuple[float, float]] = []
        self._names: list[str] = []
        self._gap = 0.0

    def watch(self, results: Iterable[Explained]) -> Iterator[Explained]:
        """Pass results on, and remember their outputs."""
        for one in results:
            self._outputs.append((one.output, one.output_rc))
            self._names.append(one.name)
            self._gap = max(self._gap, abs(one.gap))
            yield one

    @property
    def differences(self) -> np.ndarray:
        """The absolute difference of each sequence, float64 (n,)."""
        outputs = np.array(self._outputs).reshape(-1, 2)
        return np.abs(outputs[:, 0] - outputs[:, 1])

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        if not self._outputs:
            return "no sequence was explained"
        outputs = np.array(self._outputs)
        middle, most, worst = np.quantile(self.differences, (0.5, 0.95, 1))
        flipped = int((np.sign(outputs[:, 0]) != np.sign(outputs[:, 1])).sum())
        lines = [
            f"strands: |f(x) - f(rc x)| of the {self._what} over {len(outputs):,} sequences: "
            f"median {middle:.3g}, 95 % below {most:.3g}, at most {worst:.3g} "
            f"({self._names[int(self.differences.argmax())]}); the standard deviation of f is "
            f"{outputs.std():.3g}, and f changes its sign in {flipped:,}"
        ]
        if self._gap:
            lines.append(f"completeness: the scores of a sequence miss their sum by at most {self._gap:.3g}")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write a table: name, output, output of the reverse complement, absolute difference."""
        with atomic_path(path) as part, part.open("w", encoding="utf-8") as handle:
            handle.write("name\toutput\toutput_rc\tdifference\n")
            rows = zip(self._names, self._outputs, self.differences.tolist(), strict=True)
            handle.writelines(f"{name}\t{a:.9g}\t{b:.9g}\t{gap:.6g}\n" for name, (a, b), gap in rows)
