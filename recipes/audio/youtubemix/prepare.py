"""Prepare youtubemix: 241 clips of a minute of piano, in the published order."""

from __future__ import annotations

from functools import partial

from recipes.audio.numbered_clips import NumberedClips, prepare_clips

PREPARATION = NumberedClips(
    name="youtubemix",
    version=1,
    archive="https://huggingface.co/datasets/krandiash/youtubemix/resolve/main/youtube_mix.zip",
    count=241,
    file="out{:03}.wav".format,
    seconds=60.1,
)
prepare = partial(prepare_clips, PREPARATION)
