"""Reports of audio runs, generated sound and timelines: one self-contained HTML page each."""

from __future__ import annotations

from audio.report.page import write_report
from audio.report.sounds import SoundConfig

__all__ = ["SoundConfig", "write_report"]
