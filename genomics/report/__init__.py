"""The report of a run: one self-contained HTML page drawn from the files in the run folder."""

from __future__ import annotations

from genomics.report.page import write_report

__all__ = ["write_report"]
