"""Null for a value inside of a nested section, as a command line may name it."""

from __future__ import annotations

import json
from collections.abc import Sequence

_ARGUMENTS = ".init_args."


def spell_nulls(words: Sequence[str]) -> list[str]:
    """Write ``--data.init_args.loading.rate null`` as ``--data.init_args.loading {"rate": null}``.

    jsonargparse 4.53 takes the first for the word None, and refuses it; a mapping it merges into the section.

    Args:
        words: Of a command line.
    """
    spelled = list(words)
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        if not option.startswith("--") or _ARGUMENTS not in option:
            continue
        if not equals:
            value = words[i + 1] if i + 1 < len(words) else ""
        owner, _, place = option.rpartition(_ARGUMENTS)
        section, *path = place.split(".")
        if value != "null" or not path:
            continue
        content: object = None
        for name in reversed(path):
            content = {name: content}
        spelled[i] = f"{owner}{_ARGUMENTS}{section}{equals}{json.dumps(content) if equals else ''}"
        if not equals:
            spelled[i + 1] = json.dumps(content)
    return spelled
