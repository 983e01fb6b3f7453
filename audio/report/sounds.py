"""Recordings on a page: a player, a waveform and a spectrogram of each, in a bounded number of bytes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import soundfile
from jaxtyping import Float
from torch import Tensor

from audio.files import SUFFIXES, AudioInfo, describe
from audio.loading import load
from audio.plots import Spectrogram, level_db, log_mel, sound
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_whole
from seqmamba.paths import expand
from seqmamba.report.markup import Html, card, tag
from seqmamba.report.svg import figure_html
from seqmamba.report.words import count, number

_MOST_RATE = 24_000  # Hz; what is above 12 kHz tells little, and takes half of the bytes
_LEAST_RATE = 8_000  # Hz; browsers play nothing much slower


@dataclass(frozen=True)
class SoundConfig:
    """How much sound a page may hold.

    Args:
        clips: Recordings of each kind, such as the best and the worst.
        seconds: What is kept of each; the rest is cut.
        megabytes: What all players together may take; recordings beyond that are drawn and cannot be played.
        recordings: Files, or folders of them, where recordings may have been moved to.

    Raises:
        UserError: If a value is out of range.
    """

    _: KW_ONLY
    clips: int = 6
    seconds: float = 10.0
    megabytes: float = 8.0
    recordings: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        require_whole("clips", self.clips, 0)
        for name in ("seconds", "megabytes"):
            value = getattr(self, name)
            require(is_number(value) and value > 0, name, "a number > 0", value)


@dataclass(frozen=True)
class Shown:
    """A recording that is to be shown, or a stretch of one.

    Attributes:
        name: Its path, maybe with ``:begin-end`` in seconds behind it, as in tables of predictions.
        title: What the page calls it.
        about: What stands below the title.
        start: Where the stretch begins, in seconds, after that in the name.
        seconds: Its length; None up to the end.
    """

    name: str
    title: str
    about: tuple[object, ...] = ()
    start: float = 0.0
    seconds: float | None = None


@dataclass
class Sounds:
    """Makes players and figures, and keeps count of their bytes.

    Args:
        config: How much there may be.
    """

    config: SoundConfig
    _bytes: int = 0
    _silenced: int = 0
    _cards: int = 0
    _moved: dict[str, list[Path]] | None = None
    _missing: list[str] = field(default_factory=list)
    _complaints: list[str] = field(default_factory=list)

    def section(self, title: str, intro: str, shown: Sequence[Shown]) -> Html | None:
        """Write a section with a card for each recording; None without any."""
        if not shown:
            return None
        return tag(
            "section",
            tag("h2", title),
            tag("p", intro, class_="note") if intro else None,
            tag("div", *map(self._card, shown), class_="pair"),
        )

    def note(self) -> Html | None:
        """Say how recordings were cut to fit on the page, and what is missing; None if there is nothing."""
        parts = []
        if self._bytes:
            parts.append(
                f"Players hold at most {self.config.seconds:g} s of a recording, its channels averaged, at "
                f"{_MOST_RATE:,} Hz or less, as FLAC of 16 bits: {self._bytes / 1e6:.1f} MB on this page."
            )
        if self._silenced:
            there = count(self._silenced, "recording")
            parts.append(f"{there} beyond {self.config.megabytes:g} MB cannot be played here.")
        if self._missing:
            there = count(len(self._missing), "recording")
            parts.append(
                f"{there} not found, for example {self._missing[0]}; --recordings says where they are now."
            )
        parts += self._complaints
        return tag("p", " ".join(parts), class_="note") if parts else None

    def find(self, name: str) -> tuple[Path, float, float | None] | None:
        """Return the file that a name means, the begin and the length of the stretch that it tells.

        Args:
            name: A path, maybe with ``:begin-end`` behind it.

        Returns:
            None if there is no such file, here or among the recordings that were given.
        """
        path, start, seconds = _stretch(name)
        found = path if path.is_file() else self._find_moved(path)
        return None if found is None else (found, start, seconds)

    def _card(self, shown: Shown) -> Html:
        self._cards += 1
        title = tag("code", shown.title)
        about = [part if isinstance(part, Html) else tag("p", part, class_="note") for part in shown.about]
        found = self.find(shown.name)
        if found is None:
            self._missing.append(shown.name)
            return card(title, *about)
        try:
            return card(title, *about, *self._sound(shown, *found))
        except UserError as error:
            return card(title, *about, tag("p", error.message, class_="note"))

    def _sound(self, shown: Shown, path: Path, start: float, seconds: float | None) -> list[Html | None]:
        """Return the player, the figure and what was cut."""
        info = describe(path)
        start += shown.start
        seconds = shown.seconds if seconds is None else seconds
        whole = info.seconds - start if seconds is None else seconds
        kept, rate = min(whole, self.config.seconds), playing_rate(info.rate)
        waveform = load(info, rate, 1, start=start, seconds=kept)[:, 0]
        player, figure = self._player(shown.title, waveform, rate), self._figure(shown, waveform, rate, start)
        return [player, figure, _cut(info, whole, kept, rate)]

    def _player(self, title: str, waveform: Tensor, rate: int) -> Html:
        encoded = encode(waveform, rate)
        if self._bytes + len(encoded) > self.config.megabytes * 1e6:
            self._silenced += 1
            return tag("p", "No player: the page is full.", class_="note")
        self._bytes += len(encoded)
        return tag("audio", controls="", preload="metadata", src=encoded, aria_label=f"Play {title}")

    def _figure(self, shown: Shown, waveform: Tensor, rate: int, start: float) -> Html:
        figure = sound(waveform, rate, self._spectrogram(waveform, rate), start=start)
        level = level_db(waveform)
        spoken = "silent" if math.isinf(level) else f"level {number(level, 0)} dB of full scale"
        title = (
            f"Waveform and log-mel spectrogram of {shown.title}: {len(waveform) / rate:.2f} s, "
            f"highest sample {float(waveform.abs().max()):.2f}, {spoken}"
        )
        return figure_html(figure, f"sound-{self._cards}", title=title)

    def _spectrogram(self, waveform: Tensor, rate: int) -> Spectrogram | None:
        """Compute a spectrogram; say once why there is none."""
        try:
            return log_mel(waveform, rate)
        except UserError as error:
            sentence = f"No spectrograms: {error.message}."
            if sentence not in self._complaints:
                self._complaints.append(sentence)
            return None

    def _find_moved(self, path: Path) -> Path | None:
        """Return the file of this name among the folders that were given, if there is one only."""
        if self._moved is None:
            self._moved = {}
            for file in _files(self.config.recordings):
                self._moved.setdefault(file.name, []).append(file)
        found = self._moved.get(path.name, [])
        alike = [file for file in found if file.parent.name == path.parent.name]
        chosen = found if len(found) == 1 else alike
        return chosen[0] if len(chosen) == 1 else None


def playing_rate(rate: int) -> int:
    """Return a sampling rate that browsers play and that takes few bytes: the rate, or a part of it."""
    return max(_LEAST_RATE, rate // math.ceil(rate / _MOST_RATE))


def encode(waveform: Float[Tensor, " length"], rate: int) -> str:
    """Return a waveform as the ``data:`` address of a FLAC file of 16 bits.

    Args:
        waveform: Samples; what lies outside [-1, 1] is clipped.
        rate: Samples a second.
    """
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def short_titles(names: Sequence[str]) -> list[str]:
    """Return names without the folder that all of them are in."""
    parents = [_stretch(name)[0].parent.parts for name in names]
    shared = 0
    while parents and all(len(parts) > shared and parts[shared] == parents[0][shared] for parts in parents):
        shared += 1
    folder = str(Path(*parents[0][:shared])) if shared else ""
    return [name.removeprefix(folder).lstrip("/") if folder else name for name in names]


def _stretch(name: str) -> tuple[Path, float, float | None]:
    """Return the path, the begin and the length that a name tells; see `audio.datasets.clip_name`."""
    path = expand(name)
    if path.is_file():
        return path, 0.0, None
    head, _, tail = name.rpartition(":")
    begin, _, end = tail.partition("-")
    try:
        start = float(begin)
        return expand(head), start, float(end) - start if end else None
    except ValueError:
        return path, 0.0, None


def _files(sources: Iterable[Path]) -> Iterable[Path]:
    for source in sources:
        if source.is_dir():
            yield from (path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES)
        else:
            yield source


def _cut(info: AudioInfo, seconds: float, kept: float, rate: int) -> Html | None:
    """Say how a recording was changed for the page; None if it was not."""
    parts = [f"the first {kept:g} of {seconds:.4g} s"] if seconds > kept + 1e-6 else []
    parts += [f"{info.channels} channels averaged"] if info.channels > 1 else []
    parts += [f"{info.rate:,} Hz brought to {rate:,} Hz"] if rate != info.rate else []
    return tag("p", tag("small", f"Here {', '.join(parts)}.")) if parts else None
