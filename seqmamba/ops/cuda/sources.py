"""The text of a kernel file with everything it includes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from seqmamba.errors import UserError

PRIMITIVES = Path(__file__).parent
"""The folder of primitives.cuh, which every kernel file may include."""

_INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')
_ONCE = re.compile(r"\s*#\s*pragma\s+once")


def flatten(source: Path, folders: Sequence[Path] | None = None) -> str:
    """Return a source with its quoted includes in their places, so that one text is all there is to hash.

    Each file comes once. ``#line`` gives it its own name and lines in messages, without a folder: the text
    does not depend on where the package is installed.

    Args:
        source: A .cu file.
        folders: Where includes are looked for, in this order; by default the source's own folder, then this
            package.

    Returns:
        The text.

    Raises:
        UserError: A file or an include cannot be read.
    """
    source = Path(source).resolve()
    search = (source.parent, PRIMITIVES) if folders is None else folders
    return "\n".join(_lines(source, search, set())) + "\n"


def _lines(path: Path, folders: Sequence[Path], seen: set[Path]) -> list[str]:
    seen.add(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as failure:
        raise UserError(f"the kernel source {path} cannot be read: {failure.strerror}") from failure
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(text.splitlines(), 1):
        include = _INCLUDE.match(line)
        if include is None:
            lines.append("" if _ONCE.match(line) else line)
            continue
        found = next((folder / include[1] for folder in folders if (folder / include[1]).is_file()), None)
        if found is None:
            raise UserError(f"{path}:{number}: no file {include[1]} in {', '.join(map(str, folders))}")
        if found.resolve() not in seen:
            lines += _lines(found.resolve(), folders, seen)
        lines.append(f'#line {number + 1} "{path.name}"')
    return lines
