"""How recordings get from files to batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audio.datasets.readable import Damaged
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_bool, require_choice, require_whole

Storage = Literal["disk", "memory", "device"]


@dataclass(frozen=True)
class LoadingConfig:
    """How recordings are loaded.

    Args:
        rate: Sampling rate that recordings are brought to, in Hz; None takes that of most of them.
        channels: Channels that they are brought to: 1 averages them.
        crop_seconds: Training recordings are cut to this length, anew in every pass; None leaves them whole.
            From ``disk`` only the stretch is decoded.
        cut_seconds: Recordings are cut into stretches of this length, for training, validation and testing
            alike, before they are divided; None leaves them. Stretches of a recording stay together.
        frame: Samples of a frame of tagging.
        batch_size: Recordings in a batch.
        passes: Passes over the training part that make an epoch: more than one for sets so small that
            validation and checkpoints would take longer than training.
        similar_lengths: Whether training batches hold recordings of similar length, which spares padding
            where the model sees whole recordings of very different lengths.
        storage: Where recordings are between epochs. On ``disk`` they are decoded each time; else once, and
            stay in ``memory``, which the workers share, or on the ``device`` that trains, so that no batch
            waits for the host. ``auto``: ``disk`` where they take more than `memory_gib`, else ``device``,
            or ``memory`` if there are workers.
        memory_gib: What recordings may take, in GiB, for ``auto``.
        num_workers: Processes that load; 0 loads in the process that trains.
        damaged: What to do where a recording cannot be read: ``stop``, or ``leave_out``, which decodes
            everything once, names what is missing and goes on without.

    Raises:
        UserError: If a value is out of range.
    """

    rate: int | None = None
    channels: int = 1
    crop_seconds: float | None = None
    cut_seconds: float | None = None
    frame: int = 160
    batch_size: int = 32
    passes: int = 1
    similar_lengths: bool = False
    storage: Literal["auto", "disk", "memory", "device"] = "auto"
    memory_gib: float = 2.0
    num_workers: int = 0
    damaged: Damaged = "stop"

    def __post_init__(self) -> None:
        if self.rate is not None:
            require_whole("loading.rate", self.rate)
        for name in ("channels", "frame", "batch_size", "passes"):
            require_whole(f"loading.{name}", getattr(self, name))
        require_whole("loading.num_workers", self.num_workers, 0)
        require_bool("loading.similar_lengths", self.similar_lengths)
        for name in ("crop_seconds", "cut_seconds"):
            value = getattr(self, name)
            fits = value is None or (is_number(value) and value > 0)
            require(fits, f"loading.{name}", "null or a number > 0", value)
        require_choice("loading.storage", self.storage, ("auto", "disk", "memory", "device"))
        fits = is_number(self.memory_gib) and self.memory_gib >= 0
        require(fits, "loading.memory_gib", "a number >= 0", self.memory_gib)
        require_choice("loading.damaged", self.damaged, ("stop", "leave_out"))
        if self.storage == "device" and self.num_workers:
            raise UserError(
                f"loading.num_workers: expected 0 with storage device, got {self.num_workers}",
                hint="batches are made on the device; use storage memory for workers",
            )

    def storage_of(self, size: int) -> Storage:
        """Return where recordings are to be.

        Args:
            size: What all of them take in memory, in bytes.
        """
        if self.storage != "auto":
            return self.storage
        if size > self.memory_gib * 2**30:
            return "disk"
        return "memory" if self.num_workers else "device"
