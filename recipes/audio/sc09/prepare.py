"""Prepare sc09: the ten digits of Speech Commands 0.02, with the released parts."""

from __future__ import annotations

from functools import partial

from recipes.audio.speech_commands.prepare import COUNTS
from recipes.audio.spoken_words import Words, prepare_words

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PREPARATION = Words(name="sc09", version=1, counts={digit: COUNTS[digit] for digit in DIGITS})
prepare = partial(prepare_words, PREPARATION)
