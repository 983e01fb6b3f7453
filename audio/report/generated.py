"""The page of generated recordings, and what of it stands on the page of the run that made the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audio.generation_files import RECORD, GenerationRecord, NoiseEvent, Sample, read_samples
from audio.report.classification import WORDING
from audio.report.sounds import Shown, SoundConfig, Sounds
from seqmamba.report import performance, summary
from seqmamba.report.history import read_history
from seqmamba.report.markup import Html, bdi, table, tag
from seqmamba.report.provenance import read_config, reproduction
from seqmamba.report.verdict import Finding
from seqmamba.report.words import count, duration, number
from seqmamba.stratify import in_turn
from seqmamba.training.run_folder import RunFolder

LOSS = "bits per sample"
_KINDS = 2  # of recordings on other pages: the best and the worst; here there is one
_MOST_EVENTS = 50


def generated_page(folder: Path, config: SoundConfig) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of the page of generated recordings.

    Args:
        folder: With ``samples.tsv`` and ``generation.json``.
        config: How much sound the page may hold.

    Raises:
        UserError: If a file is damaged.
    """
    samples = read_samples(folder)
    record = GenerationRecord.load(folder) if (folder / RECORD).exists() else GenerationRecord()
    run = _run_of(folder, record)
    sounds, recipe = Sounds(config), None if run is None else read_config(run.config)
    history = None if run is None else performance.training(read_history(run.metrics), loss=LOSS)
    facts = [
        count(len(samples), "recording"),
        f"{record.rate:,} Hz" if record.rate else "",
        f"made by {record.model}" if record.model else "",
        record.hardware,
        record.created[:16].replace("T", " "),
    ]
    title = "Generated sound"
    return title, [
        summary.heading(title, facts, WORDING),
        summary.verdict(judge(samples, record)),
        speed(record),
        *generated(folder, samples, sounds),
        by_class(samples),
        noise_events(record.events),
        history,
        settings(record),
        reproduction(record.command, record.versions, recipe, {}),
    ]


def generated(folder: Path, samples: Sequence[Sample], sounds: Sounds) -> list[Html | None]:
    """Write some of the recordings, of every class in turn, with players.

    Args:
        folder: That holds them.
        samples: All of them.
        sounds: Makes the players.
    """
    groups: dict[str | None, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.label, []).append(sample)
    shown = in_turn(groups.values(), _KINDS * sounds.config.clips)
    intro = "The first of every class in turn; none was chosen for this page."
    if len(shown) < len(samples):
        intro += f" {len(samples) - len(shown):,} more are in the folder."
    section = sounds.section("Listen", intro, [_shown(folder, sample) for sample in shown])
    return [section, sounds.note()]


def judge(samples: Sequence[Sample], record: GenerationRecord) -> list[Finding]:
    """Say what was made, how fast, and whether any of it is noise.

    Args:
        samples: The recordings.
        record: How they were made.
    """
    noise = [sample for sample in samples if sample.noise]
    bits = np.mean([sample.bits_per_sample for sample in samples]) if samples else float("nan")
    seconds = sum(sample.seconds for sample in samples)
    made = f"{count(len(samples), 'recording')}, {duration(seconds)} of sound."
    found = [Finding("info", made, f"The model gives them {number(float(bits))} bits per sample on average.")]
    if noise:
        named = ", ".join(f"{sample.path.parent.name}/{sample.path.name}" for sample in noise[:5])
        headline = f"{count(len(noise), 'recording')} turned into noise that the guard could not avoid."
        found.append(Finding("bad", headline, named))
    if record.created and record.settings.get("guard") is None:
        found.append(Finding("warn", "No guard against noise was kept.", "Some recordings may be noise."))
    elif record.restarts:
        headline = "The guard found noise and had it made again."
        times = f"Recordings were set back {count(record.restarts, 'time')}, see below."
        found.append(Finding("info", headline, times))
    elif record.created and not noise:
        found.append(Finding("good", "The guard found no noise.", ""))
    if record.made > len(samples):
        left_out = count(record.made - len(samples), "recording")
        found.append(Finding("info", "Recordings were chosen by likelihood.", f"{left_out} were left out."))
    return found


def speed(record: GenerationRecord) -> Html | None:
    """Write how fast recordings were made; None if that is not known."""
    factor = record.real_time_factor
    if not np.isfinite(factor):
        return None
    kept = f"{count(record.samples, 'sample')} in {duration(record.wall_seconds)}"
    tiles = [
        summary.tile("Real-time factor", f"{factor:.3g}", "", "seconds of work for a second of sound"),
        summary.tile("Speed", f"{1 / factor:.3g} ×", "real time", "all recordings side by side"),
        summary.tile("Samples per second", f"{record.samples_per_second:,.0f}", "", kept),
        summary.tile("First block", duration(record.start_up), "", "kernels are compiled in it; not counted"),
        summary.tile("Set back", f"{record.restarts:,}", "times", "because of noise"),
    ]
    return tag("section", tag("h2", "Speed"), tag("div", *tiles, class_="tiles"))


def settings(record: GenerationRecord) -> Html | None:
    """Write how samples were drawn and what counted as noise; None if that is not known."""
    rows = [
        [f"{group}: {name.replace('_', ' ')}".capitalize(), str(value)]
        for group, values in record.settings.items()
        for name, value in (values or {}).items()
        if value is not None
    ]
    if not rows:
        return None
    listing = table(["Setting", "Value"], rows, numeric_from=2, caption="Settings of the generation")
    return tag("section", tag("h2", "Settings"), listing)


def by_class(samples: Sequence[Sample]) -> Html | None:
    """Write the bits per sample of the recordings of every class; None without recordings."""
    classes = list(dict.fromkeys(sample.label for sample in samples))
    rows: list[list[object]] = []
    for label in classes:
        bits = np.array([sample.bits_per_sample for sample in samples if sample.label == label])
        noise = sum(sample.noise for sample in samples if sample.label == label)
        spread = [number(float(value)) for value in (bits.mean(), bits.min(), bits.max())]
        rows.append([bdi(label or "no class"), f"{len(bits):,}", *spread, f"{noise:,}"])
    if not rows:
        return None
    header = ["Class", "Recordings", "Bits per sample", "Lowest", "Highest", "Noise"]
    intro = "How surprising the model finds what it made: neither tempered nor cut, base 2."
    listing = table(header, rows, caption="Bits per sample by class")
    return tag("section", tag("h2", "Class by class"), tag("p", intro, class_="note"), listing)


def noise_events(events: Sequence[NoiseEvent]) -> Html | None:
    """Write where the guard held something for noise; None if it did not."""
    if not events:
        return None
    rows = [
        [
            bdi(event.label or "no class"),
            f"{event.number:,}",
            f"{event.seconds:.2f} s",
            f"{event.tries:,}",
            "replaced" if event.replaced else "left alone",
        ]
        for event in events[:_MOST_EVENTS]
    ]
    more = f" The first {_MOST_EVENTS} of {len(events):,}." if len(events) > _MOST_EVENTS else ""
    intro = f"Stretches that were loud, flat in spectrum and unforeseen, and were made again.{more}"
    header = ["Class", "Number", "Begins at", "Tries", "Outcome"]
    return tag(
        "section",
        tag("h2", "What the guard held for noise"),
        tag("p", intro, class_="note"),
        table(header, rows, caption="Noise that the guard found"),
    )


def _shown(folder: Path, sample: Sample) -> Shown:
    named = sample.path.relative_to(folder).as_posix()
    about = [f"{number(sample.bits_per_sample)} bits per sample"]
    words: list[object] = ["Class ", bdi(sample.label), ", "] if sample.label else []
    badge = [" ", tag("span", "noise", class_="badge bad")] if sample.noise else []
    return Shown(str(sample.path), named, (tag("p", *words, *about, *badge, class_="note"),))


def _run_of(folder: Path, record: GenerationRecord) -> RunFolder | None:
    """Return the run that trained the model, if it is there."""
    for path in (Path(record.model).expanduser(), folder.resolve().parent):
        run = RunFolder(path)
        if (record.model or path != Path()) and run.config.is_file() and run.metrics.is_file():
            return run
    return None
