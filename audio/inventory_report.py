"""The inventory of a set of recordings as a page of text, as JSON and as a table of its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audio.inventory import Copies, Inventory, count
from audio.measurements import Measurements
from seqmamba.atomic import atomic_path
from seqmamba.plain_json import to_json

NOTHING_WRONG = "nothing is wrong with these recordings"
_LISTED = 10
_QUANTILES = {"shortest": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1.0}
_COLUMNS = (
    *("file", "seconds", "frames", "rate", "channels", "format", "subtype"),
    *("peak", "rms_db", "offset", "clipped", "silent", "digest", "problem"),
)


def as_text(inventory: Inventory) -> str:
    """Return the page: what there is, then what is wrong with it.

    Args:
        inventory: What was found.
    """
    width = max(len(name) for name, _ in facts(inventory))
    lines = [f"{name:{width}}  {value}" for name, value in facts(inventory)]
    found = [line for title, entries in findings(inventory) for line in (f"{title}:", *_indented(entries))]
    return "\n".join([*lines, "", *(found or [NOTHING_WRONG])])


def as_dict(inventory: Inventory) -> dict[str, Any]:
    """Return everything that the page says, every file named, for JSON.

    Args:
        inventory: What was found.
    """
    infos = [file.info for file in inventory.readable if file.info is not None]
    clips, seconds = inventory.clips, inventory.seconds
    return {
        "clips": len(clips),
        "files": len(inventory.files),
        "seconds": float(seconds.sum()),
        "durations": _durations(seconds),
        "rates": count([info.rate for info in infos]),
        "channels": count([info.channels for info in infos]),
        "formats": count([f"{info.format} {info.subtype}" for info in infos]),
        "labels": count([label for clip in clips for label in clip.labels]),
        "groups": count([clip.group for clip in clips if clip.group is not None]),
        "folds": count([clip.fold for clip in clips if clip.fold is not None]),
        "splits": count([clip.split for clip in clips if clip.split is not None]),
        "unreadable": {str(file.path): file.problem for file in inventory.unreadable},
        "outside": inventory.outside,
        "silent": _paths(inventory.silent),
        "clipped": _paths(inventory.clipped),
        "off_zero": _paths(inventory.off_zero),
        "misnamed": _paths(inventory.misnamed),
        "copies": inventory.copies,
    }


def write_json(inventory: Inventory, path: Path) -> None:
    """Write `as_dict` as JSON.

    Args:
        inventory: What was found.
        path: The file.
    """
    with atomic_path(path) as part:
        text = json.dumps(to_json(as_dict(inventory)), indent=1, allow_nan=False, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")


def write_tsv(inventory: Inventory, path: Path) -> None:
    """Write one line for each file, those that cannot be read too.

    Args:
        inventory: What was found.
        path: The file.
    """
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_line(measured) for measured in inventory.files)


def _line(file: Measurements) -> tuple[object, ...]:
    if file.info is None:
        return (file.path, *("",) * (len(_COLUMNS) - 2), file.problem)
    info = file.info
    head = (file.path, f"{info.seconds:g}", info.frames, info.rate, info.channels, info.format, info.subtype)
    if file.problem is not None:
        return (*head, *("",) * (len(_COLUMNS) - len(head) - 1), file.problem)
    shares = (file.clipped, file.silent)
    numbers = (f"{file.peak:.6g}", f"{file.rms_db:.1f}", f"{file.offset:.2g}", *(f"{x:.4g}" for x in shares))
    return (*head, *numbers, file.digest, "")


def facts(inventory: Inventory) -> list[tuple[str, str]]:
    """Return what there is: names and values."""
    found = as_dict(inventory)
    stretches = sum(not clip.whole for clip in inventory.clips)
    rows = [
        ("recordings", f"{len(inventory.files):,} files, {len(inventory.unreadable):,} cannot be read"),
        ("clips", f"{len(inventory.clips):,}" + (f", {stretches:,} of them stretches" if stretches else "")),
        ("together", _time(found["seconds"])),
        ("durations", ", ".join(f"{name} {value:.4g} s" for name, value in found["durations"].items())),
        ("rates", ", ".join(f"{rate} Hz: {n:,}" for rate, n in found["rates"].items())),
        ("channels", ", ".join(f"{channels}: {n:,}" for channels, n in found["channels"].items())),
        ("formats", ", ".join(f"{name}: {n:,}" for name, n in found["formats"].items())),
    ]
    levels = [file.rms_db for file in inventory.readable]
    if levels:
        rows.append(("level", f"median {np.median(levels):.0f} dB of full scale, {_span(levels)}"))
    rows += [(name, _counts(found[name])) for name in ("labels", "groups", "folds", "splits") if found[name]]
    return [(name, value) for name, value in rows if value]


def findings(inventory: Inventory) -> Iterator[tuple[str, list[str]]]:
    """Yield what is wrong: each kind of finding, and a line for each case of it, most of them cut off."""
    leaks = [copies for copies in inventory.copies if copies.parts]
    contradictions = [copies for copies in inventory.copies if copies.labels]
    extra = sum(len(copies.paths) - 1 for copies in inventory.copies)
    rates = {file.info.rate for file in inventory.readable if file.info is not None}
    channels = {file.info.channels for file in inventory.readable if file.info is not None}
    for title, entries in (
        ("cannot be read", [str(file.problem) for file in inventory.unreadable]),
        ("clips that reach past the end of their file", inventory.outside),
        ("copies in several parts of the split: a leak", [_copy(one, one.parts) for one in leaks]),
        ("copies with several labels", [_copy(one, one.labels) for one in contradictions]),
        (f"copies: {extra:,} files hold what another holds", [_copy(one, ()) for one in inventory.copies]),
        ("silent (below -60 dB for 95 % of the time or more)", _paths(inventory.silent)),
        ("clipped (more than one sample in 10,000 in a run at full scale)", _clipped(inventory)),
        ("off zero (mean above 0.01 of full scale)", _off_zero(inventory)),
        ("named as another format; read by what they hold", _misnamed(inventory)),
        ("several sampling rates: training brings all to one", _various(rates)),
        ("several numbers of channels: training averages them", _various(channels)),
    ):
        if entries:
            more = [f"... and {len(entries) - _LISTED:,} more"] if len(entries) > _LISTED else []
            yield title, [*entries[:_LISTED], *more]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _clipped(inventory: Inventory) -> list[str]:
    ranked = sorted(inventory.clipped, key=lambda file: -file.clipped)
    return [f"{file.path}  {file.clipped:.2%}" for file in ranked]


def _off_zero(inventory: Inventory) -> list[str]:
    ranked = sorted(inventory.off_zero, key=lambda file: -abs(file.offset))
    return [f"{file.path}  {file.offset:+.3f}" for file in ranked]


def _misnamed(inventory: Inventory) -> list[str]:
    return [f"{file.path}  holds {file.info.format}" for file in inventory.misnamed if file.info is not None]


def _copy(copies: Copies, values: Sequence[str]) -> str:
    said = f"  ({', '.join(values)})" if values else ""
    return " = ".join(map(str, copies.paths)) + said


def _various(values: set[int]) -> list[str]:
    """Return sorted values where there are several."""
    return [str(value) for value in sorted(values)] if len(values) > 1 else []


def _paths(files: Sequence[Measurements]) -> list[str]:
    return [str(file.path) for file in files]


def _durations(seconds: np.ndarray) -> dict[str, float]:
    if len(seconds) == 0:
        return {}
    return {name: float(np.quantile(seconds, at)) for name, at in _QUANTILES.items()}


def _counts(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name}: {n:,}" for name, n in list(counts.items())[:_LISTED])
    return f"{len(counts):,} ({shown}{', ...' if len(counts) > _LISTED else ''})"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"
