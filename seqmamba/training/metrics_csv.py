"""metrics.csv: everything that a run logs, in one table that a resumed run continues."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from seqmamba.atomic import atomic_path, name_file

_KEYS = ("epoch", "step")


class MetricsCSV(Logger):
    """A Lightning logger that appends a row a logging step and writes it out at once.

    Args:
        path: The file.
        resume_step: Keep the rows of the optimiser steps before this one and continue after them; the epoch
            that a killed run did not finish is logged again when it is replayed. None starts a new file.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = list(_KEYS)
        self._resume_step = resume_step
        self._started = False

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one version of a run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row.

        Args:
            metrics: Names and values; ``epoch`` among them.
            step: Optimiser steps done before the values were taken.
        """
        if not self._started:
            self._start()
        row = {name: _text(value) for name, value in metrics.items()}
        row["step"] = str(step or 0)
        if self._add_columns(row):
            self._rewrite([*read_rows(self.path), row])
        else:
            self._append(row)

    def _start(self) -> None:
        """Take up the rows that stay, when the first new one comes."""
        end = self._resume_step or 0
        rows = [row for row in read_rows(self.path) if int(row["step"]) < end]
        for row in rows:
            self._add_columns(row)
        self._rewrite(rows)
        self._started = True

    def _add_columns(self, row: Mapping[str, str]) -> bool:
        new = [name for name in row if name not in self._columns]
        self._columns.extend(new)
        return bool(new)

    def _append(self, row: Mapping[str, str]) -> None:
        size = self.path.stat().st_size
        try:
            with self.path.open("ab") as file:
                file.write(_csv_text([row], self._columns).encode())
        except OSError as failure:
            os.truncate(self.path, size)  # a full disk must not leave half a row
            name_file(failure, self.path)
            raise

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic_path(self.path) as part:
            part.write_text(_csv_text(rows, self._columns, header=True))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read metrics.csv.

    Args:
        path: The file; a missing one has no rows.

    Returns:
        A dictionary a row, of the cells that are not empty. A last row without its end of line, which a
        killed run may leave, is dropped.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(io.StringIO(whole))]


def _csv_text(
    rows: list[dict[str, str]] | list[Mapping[str, str]], columns: list[str], *, header: bool = False
) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _text(value: Any) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
