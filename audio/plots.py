"""Figures of what only sound has: waveforms, spectrograms, probabilities over time.

See `seqmamba.report.plots` for the figures of a test set and of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from audio.events import Event
from audio.spectrograms import LogMel, SpectrogramConfig
from seqmamba.errors import UserError
from seqmamba.report.palette import LIGHT, SERIES
from seqmamba.report.plots import WIDTH, dress_axes, short_name

COLUMNS = 400
"""Columns of a waveform or a spectrogram; more of them cannot be told apart in a figure of this width."""

_WINDOW = 0.025
_HOP = 0.01
_MELS = (64, 32, 16, 8)  # as many as the sampling rate can tell apart
_RANGE = 6 * math.log(10)  # below the loudest energy: 60 dB are told apart
_SHADES = 32  # a picture of few shades is a small one
_OCTAVES = (62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz
_LEAST_SWING = 0.05  # of full scale: silence is drawn as a line, not as noise


@dataclass(frozen=True)
class Track:
    """A class's probability over time, in columns of equal length.

    Attributes:
        label: The class.
        mean: Mean of the values of each column; NaN where there are none.
        highest: The largest of them.
        events: What was found in it.
    """

    label: str
    mean: Float[np.ndarray, " columns"]
    highest: Float[np.ndarray, " columns"]
    events: Sequence[Event] = ()


@dataclass(frozen=True)
class Spectrogram:
    """Log-mel energies, natural logarithms.

    Attributes:
        rows: A row a hop.
        highest: Frequency in Hz of the upper end.
    """

    rows: Float[np.ndarray, "rows mels"]
    highest: float


def log_mel(waveform: Float[Tensor, " length"], rate: int) -> Spectrogram:
    """Compute a spectrogram of at most `COLUMNS` rows, and with as many filters as the rate allows.

    Args:
        waveform: Samples in [-1, 1].
        rate: Samples a second.

    Raises:
        UserError: If torchaudio cannot be imported, or the rate is too low for any filter.
    """
    hop = max(_HOP, len(waveform) / rate / COLUMNS)
    for mels in _MELS:
        config = SpectrogramConfig(mels=mels, window_seconds=max(_WINDOW, hop), hop_seconds=hop)
        try:
            rows = LogMel(config, rate)(waveform[None, :, None]).x[0]
        except UserError:
            if mels == _MELS[-1]:
                raise
        else:
            return Spectrogram(rows.numpy(), rate / 2)
    raise AssertionError("the last one returns or raises")


def sound(
    waveform: Float[Tensor, " length"], rate: int, spectrogram: Spectrogram | None, *, start: float = 0.0
) -> Figure:
    """Draw a waveform above its spectrogram.

    Args:
        waveform: Samples in [-1, 1].
        rate: Samples a second.
        spectrogram: See `log_mel`; without one the waveform stands alone.
        start: Time of the first sample within its recording, in seconds.

    Returns:
        The figure.
    """
    height = 1.5 if spectrogram is None else 3.0
    figure = Figure(figsize=(WIDTH, height), dpi=72)
    heights = (1,) if spectrogram is None else (1, 1.7)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    # One place for all: axes line up from card to card, and nothing has to be laid out.
    figure.subplots_adjust(left=0.145, right=0.985, top=1 - 0.1 / height, bottom=0.52 / height, hspace=0.1)
    figure.align_ylabels(panels)
    for panel in panels:
        dress_axes(panel)
        panel.grid(visible=False)
    span = (start, start + len(waveform) / rate)
    _draw_waveform(panels[0], waveform, span)
    if spectrogram is not None:
        _draw_spectrogram(panels[1], spectrogram, span)
    panels[-1].set_xlim(*span)
    _time_axis(panels[-1], span)
    return figure


def tracks(drawn: Sequence[Track], span: tuple[float, float], *, probabilities: bool = True) -> Figure:
    """Draw values over time below each other: mean and maximum of every column, and what was found.

    Args:
        drawn: What to draw, from top to bottom.
        span: Begin and end in seconds.
        probabilities: Whether the values are probabilities, whose axis goes from 0 to 1.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.7 + 0.85 * len(drawn)), dpi=72, layout="constrained")
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(*span, len(drawn[0].mean) + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    for place, (panel, track) in enumerate(zip(panels, drawn, strict=True)):
        dress_axes(panel)
        colour = LIGHT[SERIES[place % len(SERIES)]]
        panel.fill_between(middle, 0, track.highest, color=colour, alpha=0.25, lw=0, step="mid")
        panel.plot(middle, track.mean, color=colour, lw=1.3)
        if probabilities:
            panel.set(ylim=(-0.03, 1.24), yticks=(0, 1))
            for event in track.events:
                box = Rectangle((event.onset, 1.08), event.offset - event.onset, 0.14, fc=colour, ec=colour)
                panel.add_patch(box)
        else:
            panel.yaxis.set_major_locator(MaxNLocator(3))
        panel.set_ylabel(short_name(track.label, 18), rotation=0, ha="right", va="center")
        panel.tick_params(axis="x", length=0 if panel is not panels[-1] else 3)
    panels[-1].set_xlim(*span)
    _time_axis(panels[-1], span)
    return figure


def _draw_waveform(axes: Axes, waveform: Tensor, span: tuple[float, float]) -> None:
    """Draw the largest and the smallest sample of every column; single samples where there are few."""
    samples = waveform.double().numpy()
    swing = max(_LEAST_SWING, float(np.abs(samples).max()) * 1.05)
    if len(samples) <= COLUMNS:
        places = span[0] + (np.arange(len(samples)) + 0.5) * (span[1] - span[0]) / len(samples)
        axes.plot(places, samples, color=LIGHT["model"], lw=1, marker="o" if len(samples) == 1 else None)
    else:
        ends = np.linspace(0, len(samples), COLUMNS + 1).round().astype(int)
        low, high = np.minimum.reduceat(samples, ends[:-1]), np.maximum.reduceat(samples, ends[:-1])
        places = span[0] + (np.arange(COLUMNS) + 0.5) * (span[1] - span[0]) / COLUMNS
        axes.fill_between(places, low, high, color=LIGHT["model"], lw=0.7)
    axes.set(ylim=(-swing, swing), ylabel="sample")
    axes.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    axes.tick_params(axis="x", length=0)


def _draw_spectrogram(axes: Axes, spectrogram: Spectrogram, span: tuple[float, float]) -> None:
    rows = spectrogram.rows
    mels = rows.shape[1]
    scaled = np.clip((rows - rows.max()) / _RANGE + 1, 0, 1)
    image = np.round(scaled * (_SHADES - 1)) / (_SHADES - 1)
    axes.imshow(
        image.T,
        origin="lower",
        aspect="auto",
        extent=(*span, 0, mels),
        cmap="magma",
        vmin=0,
        vmax=1,
        interpolation="none",
    )
    lowest = SpectrogramConfig().lowest
    known = [hz for hz in _OCTAVES if lowest < hz < spectrogram.highest][-5::2]
    low, high = _mel(lowest), _mel(spectrogram.highest)
    places = [(_mel(hz) - low) / (high - low) * mels for hz in known]
    axes.set_yticks(places, [f"{hz / 1000:g} k" if hz >= 1000 else f"{hz:g}" for hz in known])
    axes.set_ylabel("Hz")


def _mel(hz: float) -> float:
    """Return a frequency on the HTK scale, up to a factor."""
    return float(np.log10(1 + hz / 700))


def _time_axis(axes: Axes, span: tuple[float, float]) -> None:
    """Label times in seconds, or as minutes and hours where there are many."""
    length = span[1] - span[0]
    if span[1] <= 180:
        axes.set_xlabel("seconds")
        return
    steps = [1, 2, 3, 6, 10]  # of minutes and hours, people like halves and sixths
    unit = 3600 if length > 7200 else 60
    ticks = np.asarray(MaxNLocator(8, steps=steps).tick_values(span[0] / unit, span[1] / unit)) * unit
    axes.set_xticks([tick for tick in ticks if span[0] <= tick <= span[1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel("time")


def clock(seconds: float) -> str:
    """Write a time as people read it off a clock: 1:05, 2:00:30."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def level_db(waveform: Float[Tensor, " length"]) -> float:
    """Return the root mean square in dB of full scale; minus infinity for silence."""
    power = float(waveform.double().square().mean())
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")
