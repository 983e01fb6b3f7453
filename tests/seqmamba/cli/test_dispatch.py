"""The dispatcher: lazy, and every failure in one sentence."""

from __future__ import annotations

import errno
import subprocess
import sys
from types import ModuleType

import pytest

from seqmamba.cli import main as dispatcher
from seqmamba.errors import UserError

LIGHT = """
import sys, time
start = time.perf_counter()
from seqmamba.cli.main import main
status = main({argv})
seconds = time.perf_counter() - start
heavy = {{"torch", "lightning", "numpy", "numba", "jsonargparse", "Bio"}} & set(sys.modules)
print(status, sorted(heavy), seconds < 2, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "argv",
    [
        ["-h"],
        ["--version"],
        ["genomics", "-h"],
        ["genomics", "fit", "-h"],
        ["doctor", "-h"],
        ["recipes", "-h"],
    ],
)
def test_help_is_quick_and_loads_nothing_heavy(argv: list[str]) -> None:
    script = LIGHT.format(argv=argv)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 [] True"
    assert done.stdout


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A verb `seqmamba try` whose `run` the test decides."""
    module = ModuleType("try_verb")
    module.HELP = "try something"
    module.add_arguments = lambda parser: parser.add_argument("--number", type=int)
    monkeypatch.setitem(sys.modules, "try_verb", module)
    monkeypatch.setitem(dispatcher.VERBS, "try", "try_verb")
    return module


def raises(failure: BaseException) -> object:
    def run(args: object) -> None:
        raise failure

    return run


def test_the_status_of_a_verb_is_the_exit_status(verb: ModuleType) -> None:
    verb.run = lambda args: args.number
    assert dispatcher.main(["try", "--number", "7"]) == 7
    assert dispatcher.main(["try"]) == 0


@pytest.mark.parametrize(
    ("failure", "status", "printed"),
    [
        (UserError("a.fa:3: bad letter"), 2, "error: a.fa:3: bad letter\n"),
        (UserError("no", hint="yes"), 2, "error: no\nhint: yes\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/full"),
            2,
            "error: /full: No space left on device\nhint: free some space or name another folder\n",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, "error: x: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "error: x: Permission denied"),
        (
            ZeroDivisionError("division\nby zero"),
            1,
            "error: ZeroDivisionError: division\nhint: run again with",
        ),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (KeyboardInterrupt("go on so"), 130, "\ninterrupted; go on so\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_failures(
    verb: ModuleType, capsys: pytest.CaptureFixture[str], failure: BaseException, status: int, printed: str
) -> None:
    verb.run = raises(failure)
    assert dispatcher.main(["try"]) == status
    assert capsys.readouterr().err.startswith(printed)


def test_a_user_error_that_a_library_wrapped_is_found(
    verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError("worker failed")
    wrapped.__cause__ = UserError("a.fa:3: bad letter")
    verb.run = raises(wrapped)
    assert dispatcher.main(["try"]) == 2
    assert capsys.readouterr().err == "error: a.fa:3: bad letter\n"


def test_an_error_while_handling_an_os_error_is_not_hidden(
    verb: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    # A defect in a handler is a defect, even if the file it handled was missing.
    defect = TypeError("wrong argument")
    defect.__context__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "x")
    verb.run = raises(defect)
    assert dispatcher.main(["try"]) == 1
    assert "TypeError: wrong argument" in capsys.readouterr().err


def test_traceback_shows_where(verb: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    verb.run = raises(UserError("bad"))
    assert dispatcher.main(["try", "--traceback"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed
    assert printed.endswith("error: bad\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["try", "--numbr", "3"], "unrecognized arguments: --numbr 3"),
        (["try", "--num", "3"], "unrecognized arguments: --num 3"),  # no guessing of abbreviations
        (["try", "--number", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_words(
    verb: ModuleType, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert dispatcher.main(argv) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2
    assert printed[0].startswith("error: seqmamba")
    assert message in printed[0]
    assert printed[1].startswith("hint: ")
