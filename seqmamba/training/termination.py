"""Processes of a run that are told to end while they wait for one that is gone."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import lightning as L

from seqmamba.training.run_folder import RunFolder

_PATIENCE = 25.0  # seconds; torchrun kills what has not ended 30 seconds after it asked


class Termination(L.Callback):
    """Ends a process with a message if it was told to end and cannot.

    Where a process of a run dies, torchrun sends SIGTERM to the others. Lightning ends them behind the batch;
    but over NCCL that batch never ends, and Python does not even get to see the signal, as its main thread
    waits for the GPU. So a thread listens for it.

    Args:
        patience: Seconds from the signal to the end.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self.patience = patience
        self._hint = ""
        self._sender: socket.socket | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Begin to listen, in runs of several processes."""
        if trainer.world_size > 1 and self._sender is None:
            if stage == "fit":
                self._hint = f"\nhint: go on with: {RunFolder.of(trainer).resume_command}"
            self.listen()

    def listen(self) -> None:
        """Start the thread; only the main thread may ask for it."""
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=(receiver,), daemon=True).start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Stop listening."""
        if self._sender is not None:
            signal.set_wakeup_fd(-1)
            self._sender.close()
            self._sender = None

    def _wait(self, receiver: socket.socket) -> None:
        with receiver:
            while numbers := receiver.recv(64):  # nothing: the other end is closed
                if signal.SIGTERM in numbers:
                    break
            else:
                return
            receiver.settimeout(self.patience)
            try:
                while receiver.recv(64):
                    pass  # other signals; at the end the run has ended by itself
            except TimeoutError:
                text = "error: this run was ended while it waited for another process, which does not answer"
                sys.stderr.write(text + self._hint + "\n")
                sys.stderr.flush()
                os._exit(1)
