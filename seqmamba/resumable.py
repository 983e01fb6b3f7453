"""Text files that grow record by record, survive being killed, and go on where they stopped."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from seqmamba.atomic import PART_SUFFIX, atomic_path, name_file
from seqmamba.errors import UserError
from seqmamba.finished import check_finished, compare_settings, in_the_way, note_settings, require_new

CHECKPOINT_SECONDS = 1.0
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that a bgzip file ends with (SAM specification, section 4.1)."""
_BLOCK = 65_280  # bytes in a bgzip block, as htslib cuts them


class ResumableFile:
    """A file beside its destination, with a checkpoint that says how many records it holds for sure.

    The bytes of the finished file do not depend on interruptions: what was written after the last checkpoint
    is cut off and written again, and a bgzip block ends with every `write`.

    Args:
        output: Destination of the finished file; its folder is created.
        settings: Whatever decides the bytes of the file, JSON; a run goes on only with the same.
        bgzip: Whether to compress.
        resume: Go on with the file that an interrupted run left, if there is one.
        overwrite: Replace what is there.

    Attributes:
        records: Records written and kept.
        size: Bytes written and kept.
        notes: What the last `write` noted about them.
        complete: Whether the destination is finished already, with these settings: nothing is to do.

    Raises:
        UserError: If files of an earlier run are in the way, do not fit the settings, or are being written.
    """

    def __init__(
        self, output: Path, settings: dict[str, Any], *, bgzip: bool, resume: bool, overwrite: bool
    ) -> None:
        self.output = output
        self.records = 0
        self.notes: dict[str, Any] = {}
        self.path = output.with_name(f".{output.name}.rows{PART_SUFFIX}")
        self._state = output.with_name(f".{output.name}.checkpoint{PART_SUFFIX}")
        self._settings = settings
        self._bgzip = bgzip
        self.size = 0
        self._saved = 0.0
        interrupted = self._state.exists() and self.path.exists()
        require_new(output, overwrite=resume or overwrite or interrupted)
        self.complete = resume and output.exists() and not interrupted
        if self.complete:
            check_finished(output, settings)
            self._state.unlink(missing_ok=True)
            return
        if interrupted and not (resume or overwrite):
            raise in_the_way(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        self._open(go_on=resume and not overwrite and interrupted)

    def _open(self, *, go_on: bool) -> None:
        self._handle = self.path.open("ab")
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.close()
            raise UserError(
                f"{self.output}: is being written by another process", hint="wait for it, or end it"
            ) from None
        except OSError:
            pass  # a file system without locks
        if go_on:
            try:
                self._load()
            except UserError:
                self._handle.close()
                raise
        self._handle.truncate(self.size)
        if not go_on:
            self._save()

    def _load(self) -> None:
        try:
            state = json.loads(self._state.read_text("utf-8"))
            self.records, self.size, self.notes = state["records"], state["bytes"], state["notes"]
            before = dict(state["settings"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self._state}: is damaged", hint="--overwrite starts again") from None
        compare_settings(before, self._settings)
        if self.path.stat().st_size < self.size:
            raise UserError(f"{self.path}: is shorter than it was", hint="--overwrite starts again")

    def write(self, text: bytes, records: int, notes: dict[str, Any]) -> None:
        """Append records.

        Args:
            text: Their lines.
            records: How many.
            notes: What to remember about all records so far, JSON.
        """
        try:
            if self._bgzip:
                from Bio.bgzf import BgzfWriter  # of DNA's file formats only

                writer = BgzfWriter(fileobj=self._handle)
                for start in range(0, len(text), _BLOCK):
                    writer.write(text[start : start + _BLOCK])
                    writer.flush()
            else:
                self._handle.write(text)
            self._handle.flush()
        except OSError as error:
            name_file(error, self.output)
            raise
        self.size = self._handle.tell()
        self.records += records
        self.notes = notes
        if time.monotonic() - self._saved >= CHECKPOINT_SECONDS:
            self._save()

    def _save(self) -> None:
        os.fsync(self._handle.fileno())
        state = {
            "records": self.records,
            "bytes": self.size,
            "notes": self.notes,
            "settings": self._settings,
        }
        with atomic_path(self._state) as part:
            part.write_text(json.dumps(state), encoding="utf-8")
        self._saved = time.monotonic()

    def finish(self, convert: Callable[[Path, Path], None] | None = None) -> None:
        """Make the destination appear.

        Args:
            convert: Writes the destination, its second argument, from the file, its first; None moves it.
        """
        if self._bgzip:
            self._handle.write(BGZF_END)
        self._save()
        self._handle.close()
        if convert is None:
            note_settings(self.output, self._settings, made=self.path)
            os.replace(self.path, self.output)
        else:
            convert(self.path, self.output)
            note_settings(self.output, self._settings)
        self._remove()

    def _remove(self) -> None:
        self._handle.close()
        self._state.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> ResumableFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.complete or self._handle.closed:
            return
        if self.records:
            self._save()  # an interrupt costs nothing that was done
            self._handle.close()
        else:
            self._remove()
