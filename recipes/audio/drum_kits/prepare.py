"""Prepare drum_kits: single strokes on the drums of twelve kits, and which drum each is."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from audio.loading import load
from audio.writer import Writer, WriterConfig
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource
from seqmamba.errors import UserError

RATE = 16_000
SECONDS = 3.0
"""What is kept of a stroke: behind it only cymbals still sound, ever more softly."""

TYPES = {
    "cymbal": r"\b(crash|ride|china|splash|cymbal)|paiste bell",
    "hat": r"\bhi[ -]?hat|\bhat\b|\bo?hh\b",
    "kick": r"\bkick|\bbass ?drum",
    "snare": r"\bsnare",
    "tom": r"\btom",
}
"""Type of a drum to what the names of its instruments have in them, in small letters."""

_KITS = "usr/share/hydrogen/data/drumkits"
_DESCRIPTION = "drumkit.xml"
FILES = tuple(Path(__file__).with_name("files.txt").read_text(encoding="utf-8").splitlines())
"""Kit and file of every stroke whose drum is of one of the types."""


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the strokes and a table of them; returns how many there are of each type."""
    found = {
        f"{kit.name}/{name}": label
        for kit in sorted(unpacked.iterdir())
        for name, label in drums_of(kit / _DESCRIPTION)
    }
    if found.keys() != set(FILES):
        odd = min(found.keys() ^ set(FILES))
        raise UserError(f"{unpacked}: its descriptions and the recipe do not agree about {odd}")
    rows = []
    for name in FILES:
        kit, _, file = name.partition("/")
        path = Path("strokes", _plain(kit), f"{_plain(Path(file).stem)}.flac")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with Writer(folder / path, WriterConfig(RATE)) as writer:
            writer.write(load(unpacked / name, RATE, 1, seconds=SECONDS).clamp(-1, 1))
        rows.append((path.as_posix(), found[name], _plain(kit)))
    with (folder / "strokes.csv").open("w", encoding="utf-8", newline="") as table:
        writer_of_rows = csv.writer(table, lineterminator="\n")
        writer_of_rows.writerow(("path", "label", "group"))
        writer_of_rows.writerows(rows)
    return {"strokes": dict(Counter(label for _, label, _ in rows)), "kits": len({row[2] for row in rows})}


def drums_of(description: Path) -> Iterator[tuple[str, str]]:
    """Yield the file of every stroke of a kit that is of one of `TYPES`, and its type.

    Args:
        description: The kit's ``drumkit.xml``; files that it names and that are not there are left out.

    Raises:
        UserError: If the name of an instrument fits two types.
    """
    for instrument in _inside(ElementTree.parse(description).getroot(), "instrument"):
        name = (instrument.findtext("{*}name") or "").lower()
        types = [label for label, pattern in TYPES.items() if re.search(pattern, name)]
        if len(types) > 1:
            raise UserError(f"{description}: {name!r} could be {' or '.join(types)}")
        for part in _inside(instrument, "filename"):
            if types and part.text and (description.parent / part.text).is_file():
                yield part.text, types[0]


def _inside(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    """Return the parts of an element with a tag, whatever its namespace, which not all kits have."""
    return element.findall(f".//{{*}}{tag}")


def _plain(name: str) -> str:
    """Return a name that needs no quotes anywhere."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)


PREPARATION = Preparation(
    name="drum_kits",
    version=1,
    source=DebSource(
        package="hydrogen-drumkits",
        version="2017.09.19~dfsg-1",
        filename="hydrogen-drumkits_2017.09.19~dfsg-1_all.deb",
        sha256="6ea3c6df9a67762e2362f946c695e619859126b19fbccf32a2e8f07dfd03b2f4",
    ),
    members={
        f"{_KITS}/{name}": name
        for name in (*FILES, *(f"{kit}/{_DESCRIPTION}" for kit in {n.partition("/")[0] for n in FILES}))
    },
    build=build,
)
prepare = partial(prepare_set, PREPARATION)
