"""Locations of GenBank features with what they mean: which bases, in which order they are read."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

LENGTH = 120


class Location(NamedTuple):
    """A location as text, and its positions from 0 in the order of reading; strands are +, - or both."""

    text: str
    positions: tuple[int, ...]
    strand: str


@st.composite
def spans(draw: st.DrawFn, *, alone: bool = False) -> Location:
    """A stretch with exact, open or vague ends, or one base; of a vague end, the widest reading counts.

    Args:
        draw: Of hypothesis.
        alone: Whether `one-of` may occur, which Biopython takes apart beside exact ends and not in a `join`.
    """
    start = draw(st.integers(3, LENGTH - 6))
    end = draw(st.integers(start + 1, LENGTH - 3))
    firsts = [(f"{start}", start), (f"<{start}", start), (f"({start - 2}.{start})", start - 2)]
    lasts = [(f"{end}", end), (f">{end}", end), (f"({end}.{end + 2})", end + 2)]
    if alone:
        firsts[1:] = [(f"one-of({start - 1},{start})", start - 1)]
        lasts[1:] = [(f"one-of({end},{end + 1})", end + 1)]
    elif draw(st.booleans()):
        return Location(draw(st.sampled_from([f"{start}", f"{start}..{start}"])), (start - 1,), "+")
    (left, first), (right, last) = draw(st.sampled_from(firsts)), draw(st.sampled_from(lasts))
    return Location(f"{left}..{right}", tuple(range(first - 1, last)), "+")


def complement(inside: Location) -> Location:
    return Location(f"complement({inside.text})", inside.positions[::-1], "-")


def joined(parts: list[Location], word: str = "join") -> Location:
    strands = {part.strand for part in parts}
    positions = tuple(position for part in parts for position in part.positions)
    text = f"{word}({','.join(part.text for part in parts)})"
    return Location(text, positions, strands.pop() if len(strands) == 1 else "both")


_several = st.lists(spans(), min_size=2, max_size=9)
_across = st.tuples(st.integers(60, LENGTH), st.integers(1, 50)).map(
    lambda ends: joined(
        [
            Location(f"{ends[0]}..{LENGTH}", tuple(range(ends[0] - 1, LENGTH)), "+"),
            Location(f"1..{ends[1]}", tuple(range(ends[1])), "+"),
        ]
    )
)
locations = st.one_of(
    spans(alone=True),
    spans(alone=True).map(complement),
    _several.map(joined),
    _several.map(lambda parts: joined(parts, "order")),
    _several.map(joined).map(complement),
    _several.map(lambda parts: joined([complement(part) for part in parts])),
    _several.map(lambda parts: joined([complement(parts[0]), *parts[1:]])),
    _across,
    _across.map(complement),
    _several.map(joined).map(lambda whole: whole._replace(text=f"join(J00194.1:5..9,{whole.text[5:]}")),
)
"""Any location on a circle of `LENGTH` bases, as the feature table definition (section 3.4) allows it."""


def genbank(letters: str, features: list[tuple[str, str]]) -> str:
    """Write a record with features of a kind and a location, whose lines break at commas."""
    rows = []
    for kind, location in features:
        lines = [""]
        for piece in location.replace(",", ",\n").split("\n"):
            if len(lines[-1]) + len(piece) > 58:
                lines.append("")
            lines[-1] += piece
        rows.append(f"     {kind:<16}" + ("\n" + " " * 21).join(lines) + '\n                     /gene="x"\n')
    blocks = [letters[i : i + 10].lower() for i in range(0, len(letters), 10)]
    origin = "".join(f"{10 * i + 1:>9} {' '.join(blocks[i : i + 6])}\n" for i in range(0, len(blocks), 6))
    return (
        f"LOCUS       TOY          {len(letters):>16} bp    DNA     circular BCT 01-JAN-2000\n"
        "DEFINITION  toy.\nACCESSION   TOY\nVERSION     TOY.1\n"
        f"FEATURES             Location/Qualifiers\n{''.join(rows)}ORIGIN\n{origin}//\n"
    )
