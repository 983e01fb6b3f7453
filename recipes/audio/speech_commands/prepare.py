"""Prepare speech_commands: all 35 words of Speech Commands 0.02, with the released parts."""

from __future__ import annotations

from functools import partial

from recipes.audio.spoken_words import Words, prepare_words

COUNTS = {
    "backward": 1_664,
    "bed": 2_014,
    "bird": 2_064,
    "cat": 2_031,
    "dog": 2_128,
    "down": 3_917,
    "eight": 3_787,
    "five": 4_052,
    "follow": 1_579,
    "forward": 1_557,
    "four": 3_728,
    "go": 3_880,
    "happy": 2_054,
    "house": 2_113,
    "learn": 1_575,
    "left": 3_801,
    "marvin": 2_100,
    "nine": 3_934,
    "no": 3_941,
    "off": 3_745,
    "on": 3_845,
    "one": 3_890,
    "right": 3_778,
    "seven": 3_998,
    "sheila": 2_022,
    "six": 3_860,
    "stop": 3_872,
    "three": 3_727,
    "tree": 1_759,
    "two": 3_880,
    "up": 3_723,
    "visual": 1_592,
    "wow": 2_123,
    "yes": 4_044,
    "zero": 4_052,
}
"""Recordings of each word (Warden 2018, arXiv:1804.03209, table 1): 105,829 in all."""

PREPARATION = Words(name="speech_commands", version=1, counts=COUNTS, noise=True)
prepare = partial(prepare_words, PREPARATION)
