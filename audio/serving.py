"""What a server with a classifier of recordings takes and answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import nn

from audio.file_answers import FileAnswers
from audio.files import describe
from audio.manifests import Clip
from audio.models import WaveformClassifier
from audio.predictions import PredictConfig
from seqmamba.errors import UserError
from seqmamba.serving.limits import Limits

_SAMPLES_A_SECOND = 96_000  # two channels at 48 kHz: a recording may have more, if it is as much shorter
_SAMPLES_TOGETHER = 2**23


class RecordingAnswerer:
    """Answers a recording, in any format that libsndfile knows, with its class or value.

    Args:
        model: A trained model, not one that tags frames.
        limits: Of the server.
    """

    takes = "a recording (WAV, FLAC, Ogg, MP3)"

    def __init__(self, model: WaveformClassifier, limits: Limits) -> None:
        self._limits = limits
        self._answers = FileAnswers(model.eval(), model.predict, PredictConfig().crops)
        self.task, self.classes = model.config.task, model.config.classes

    def read(self, body: Path) -> list[tuple[str, tuple[Path, int]]]:
        """Return the recording and how many samples it has, before it is decoded.

        Args:
            body: The file.

        Raises:
            UserError: If it is none, or is beyond the limits.
        """
        info, most = describe(body), self._limits.audio_seconds
        if info.seconds > most:
            raise UserError(f"body: expected at most {most:,} seconds of sound, got {info.seconds:,.0f}")
        samples = info.frames * info.channels
        if samples > most * _SAMPLES_A_SECOND:
            raise UserError(
                f"body: expected at most {most * _SAMPLES_A_SECOND:,} samples of all channels, got "
                f"{samples:,}"
            )
        return [("recording", (body, samples))]

    def predict(self, items: Sequence[tuple[Path, int]]) -> list[Float[np.ndarray, " classes"] | str]:
        """Return probabilities, or values, of each recording; the reason where it cannot be read."""
        found: list[np.ndarray | str] = []
        group: list[Clip] = []
        held = 0
        for path, samples in items:
            if group and held + samples > _SAMPLES_TOGETHER:  # memory must not grow with who asks at once
                found += self._answers.of(group, stop=False)
                group, held = [], 0
            group.append(Clip(path))
            held += samples
        return found + self._answers.of(group, stop=False)


def answerer(model: nn.Module, limits: Limits) -> RecordingAnswerer | None:
    """Return what answers with a model, if it classifies recordings; see `seqmamba.serving.answering`."""
    if not isinstance(model, WaveformClassifier):
        return None
    if model.config.task == "tagging":
        raise UserError("the model tags frames, not recordings", hint="use `seqmamba audio timeline`")
    return RecordingAnswerer(model, limits)
