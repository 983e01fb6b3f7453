"""The table of this package's README, made from the recorded results: ``python -m recipes.readme_table``."""

from __future__ import annotations

from pathlib import Path

from recipes.catalogue import RECIPES
from seqmamba.atomic import atomic_path
from seqmamba.cli.recipe_listing import markdown

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- made by `python -m recipes.readme_table` from the results.json of every recipe -->"
END = "<!-- end of the table -->"


def with_table(text: str) -> str:
    """Return a README with the table of what is recorded now between its two marks.

    Args:
        text: The README, with both marks.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{markdown(RECIPES)}\n\n{END}{after}"


def main() -> None:
    """Write the table into the README."""
    text = with_table(README.read_text("utf-8"))
    with atomic_path(README) as part:
        part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
