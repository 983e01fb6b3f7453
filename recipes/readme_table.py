"""The tables of this package's README, made from the recorded results: ``python -m recipes.readme_table``."""

from __future__ import annotations

from pathlib import Path

from recipes.catalogue import RECIPES
from seqmamba.atomic import atomic_path
from seqmamba.cli.recipe_listing import markdown, provenance

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- made by `python -m recipes.readme_table` from the results.json of every recipe -->"
END = "<!-- end of the tables -->"
_HOW = """How our numbers came about. "Recorded in" is the commit that put the number into this repository;
of most runs nobody noted which commit ran."""


def with_tables(text: str) -> str:
    """Return a README with the tables of what is recorded now between its two marks.

    Args:
        text: The README, with both marks.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = f"{markdown(RECIPES)}\n\n{_HOW}\n\n{provenance(RECIPES)}"
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main() -> None:
    """Write the tables into the README."""
    text = with_tables(README.read_text("utf-8"))
    with atomic_path(README) as part:
        part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
