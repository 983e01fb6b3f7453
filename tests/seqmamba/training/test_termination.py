"""A process that is told to end while it waits for another one for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

from seqmamba.training.termination import Termination

_STUCK = """
import hashlib, signal
from seqmamba.training.termination import Termination
signal.signal(signal.SIGTERM, lambda *_: None)  # as Lightning's, which only makes a note
Termination(patience={patience}).listen()
print("listening", flush=True)
{wait}
"""
_FOR_EVER = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # does not return to Python, as a wait for a GPU
_A_MOMENT = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**6)"


def start(patience: float, wait: str) -> subprocess.Popen[str]:
    code = _STUCK.format(patience=patience, wait=wait)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


def test_it_ends_with_a_sentence_though_python_never_sees_the_signal() -> None:
    process = start(0.2, _FOR_EVER)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said == "error: this run was ended while it waited for another process, which does not answer\n"


def test_a_process_that_can_end_by_itself_does() -> None:
    process = start(20, _A_MOMENT)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")


def test_one_process_alone_is_left_as_it_is() -> None:
    callback = Termination()
    callback.setup(SimpleNamespace(world_size=1), None, "fit")  # type: ignore[arg-type]
    assert signal.set_wakeup_fd(-1) == -1


def test_it_stops_listening() -> None:
    threads = threading.active_count()
    callback = Termination(patience=0.01)
    callback.listen()
    callback.teardown(None, None, "fit")  # type: ignore[arg-type]
    assert signal.set_wakeup_fd(-1) == -1
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads
