"""What the command line prints, and the status it returns, when something fails."""

from __future__ import annotations

import errno
import sys
import traceback

from seqmamba.errors import UserError
from seqmamba.progress import leave_bar

USER_ERROR = 2
DEFECT = 1
INTERRUPTED = 130

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HINTS = {
    errno.ENOSPC: "free some space or name another folder",
    errno.EDQUOT: "free some space or name another folder",
    errno.EFBIG: "lift the limit on file sizes (ulimit -f) or name another folder",
    errno.EACCES: "check the permissions or name another folder",
    errno.EROFS: "name a folder that can be written to",
    errno.ENOENT: "check the spelling",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
}


def report_failure(failure: BaseException, *, show_traceback: bool) -> int:
    """Print a failure to stderr and return the exit status that goes with it.

    Args:
        failure: What a verb raised.
        show_traceback: Print the stack as well.

    Returns:
        2 for a mistake in the input or a file-system refusal, 130 for an interrupt, 1 otherwise.
    """
    leave_bar()
    if show_traceback:
        traceback.print_exception(failure)
    if isinstance(failure, KeyboardInterrupt):
        print(
            f"\ninterrupted{'; ' if failure.args else ''}{' '.join(map(str, failure.args))}", file=sys.stderr
        )
        return INTERRUPTED
    if isinstance(failure, BrokenPipeError):
        # The reader went away (`seqmamba recipes ls | head`): silence is what every Unix tool answers.
        sys.stderr.close()
        return INTERRUPTED + 11
    known = _as_user_error(failure)
    if known is not None:
        _print_sentence(known.message, known.hint)
        return USER_ERROR
    first_line = next(iter(str(failure).strip().splitlines()), "")
    _print_sentence(
        f"{type(failure).__name__}: {first_line}" if first_line else type(failure).__name__,
        None if show_traceback else "run again with --traceback to see where it came from",
    )
    return DEFECT


def _as_user_error(failure: BaseException) -> UserError | None:
    """Recognise what the user can mend, also when a library has wrapped it.

    A full disk makes whatever comes after it fail too, so it counts even if another error followed it. Any
    other OSError in the past of a defect was being handled; there the defect counts.
    """
    seen: BaseException | None = failure
    deliberate = True
    while seen is not None:
        if isinstance(seen, UserError):
            return seen
        if isinstance(seen, OSError) and seen.errno in _HINTS and (deliberate or seen.errno in _FULL):
            where = f"{seen.filename}: " if seen.filename else ""
            return UserError(f"{where}{seen.strerror}", hint=_HINTS[seen.errno])
        deliberate = deliberate and seen.__cause__ is not None
        seen = seen.__cause__ or seen.__context__
    return None


def _print_sentence(message: str, hint: str | None) -> None:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
