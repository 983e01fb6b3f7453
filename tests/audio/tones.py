"""Recordings that a small model tells apart in seconds: noisy tones in folders of classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import soundfile

RATE = 4000
CLASSES = {"high": 900.0, "low": 200.0, "middle": 450.0}


def tone(hz: float, seconds: float, seed: int, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A tone with some vibrato and noise, (length, channels)."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = hz * (1 + 0.05 * generator.uniform(-1, 1))
    wave = 0.3 * np.sin(2 * math.pi * pitch * t + generator.uniform(0, 6))
    return np.repeat((wave + 0.02 * generator.standard_normal(len(t)))[:, None], channels, axis=1)


def write_folder(folder: Path, per_class: int = 12, rate: int = RATE) -> Path:
    """Write a folder for each class; lengths, formats and numbers of channels differ."""
    for number, (name, hz) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            suffix, channels = (("wav", 1), ("flac", 1), ("wav", 2))[i % 3]
            wave = tone(hz, 0.3 + 0.02 * (i % 5), 100 * number + i, rate, channels)
            soundfile.write(folder / name / f"{i:02}.{suffix}", wave, rate)
    return folder
