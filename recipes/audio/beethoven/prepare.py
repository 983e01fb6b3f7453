"""Prepare beethoven: 4,328 clips of eight seconds of piano, in the published order."""

from __future__ import annotations

from functools import partial

from recipes.audio.numbered_clips import NumberedClips, prepare_clips

PREPARATION = NumberedClips(
    name="beethoven",
    version=1,
    archive="https://huggingface.co/datasets/krandiash/beethoven/resolve/main/beethoven.zip",
    count=4_328,
    file="{}.wav".format,
    seconds=8.0,
)
prepare = partial(prepare_clips, PREPARATION)
