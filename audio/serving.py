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

    def read(self, body: Path) -> list[tuple[str, Path]]:
        """Return the recording.

        Args:
            body: The file.

        Raises:
            UserError: If it is none, or is beyond the limits.
        """
        seconds = describe(body).seconds
        if seconds > self._limits.audio_seconds:
            raise UserError(
                f"body: expected at most {self._limits.audio_seconds:,} seconds of sound, got {seconds:,.0f}"
            )
        return [("recording", body)]

    def predict(self, items: Sequence[Path]) -> list[Float[np.ndarray, " classes"] | str]:
        """Return probabilities, or values, of each recording; the reason where it cannot be read."""
        return self._answers.of([Clip(path) for path in items], stop=False)


def answerer(model: nn.Module, limits: Limits) -> RecordingAnswerer | None:
    """Return what answers with a model, if it classifies recordings; see `seqmamba.serving.answering`."""
    if not isinstance(model, WaveformClassifier):
        return None
    if model.config.task == "tagging":
        raise UserError("the model tags frames, not recordings", hint="use `seqmamba audio timeline`")
    return RecordingAnswerer(model, limits)
