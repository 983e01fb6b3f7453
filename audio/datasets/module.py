"""The data module of the waveform tasks: finds any layout, splits it, and batches sets of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from audio.augmentation import AugmentationConfig
from audio.batches import WaveformBatch
from audio.copies import copy_groups
from audio.datasets.batching import ClipBatches, Failure, FramedEvents
from audio.datasets.readable import Damaged, ReadableClips, clip_name, describe_clips
from audio.datasets.reader import ClipReader
from audio.datasets.tagging import gather_events
from audio.manifests import SourceConfig, find_clips
from audio.segments import cut_clips
from audio.splits import SplitConfig, assign
from audio.targets import read_targets
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_choice, require_whole
from seqmamba.training.batching import LengthBucketBatchSampler, already_a_batch

TaskChoice = Literal["auto", "classification", "multilabel", "regression", "tagging", "unlabelled"]
_TASKS: tuple[TaskChoice, ...] = (
    "auto",
    "classification",
    "multilabel",
    "regression",
    "tagging",
    "unlabelled",
)
_DEFAULT_FILES = SourceConfig()
_DEFAULT_SPLIT = SplitConfig()
_DEFAULT_AUGMENTATION = AugmentationConfig()


@dataclass(frozen=True)
class LoadingConfig:
    """How recordings are loaded.

    Args:
        rate: Sampling rate that recordings are brought to, in Hz; None takes that of most of them.
        channels: Channels that they are brought to: 1 averages them.
        crop_seconds: Training recordings are cut to this length, anew in every epoch; None leaves them whole.
            Only the stretch is decoded.
        cut_seconds: Recordings are cut into stretches of this length, for training, validation and testing
            alike, before they are divided; None leaves them. Stretches of a recording stay together.
        frame: Samples of a frame of tagging.
        batch_size: Recordings in a batch.
        num_workers: Processes that load; 0 loads in the process that trains.
        cache: Whether all recordings are decoded once and kept in memory that the processes share: ``auto``
            does so where they fit into `cache_gib`.
        cache_gib: What they may take, in GiB.
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
    num_workers: int = 0
    cache: Literal["auto", "always", "never"] = "auto"
    cache_gib: float = 2.0
    damaged: Damaged = "stop"

    def __post_init__(self) -> None:
        if self.rate is not None:
            require_whole("loading.rate", self.rate)
        for name in ("channels", "frame", "batch_size"):
            require_whole(f"loading.{name}", getattr(self, name))
        require_whole("loading.num_workers", self.num_workers, 0)
        for name in ("crop_seconds", "cut_seconds"):
            value = getattr(self, name)
            fits = value is None or (is_number(value) and value > 0)
            require(fits, f"loading.{name}", "null or a number > 0", value)
        require_choice("loading.cache", self.cache, ("auto", "always", "never"))
        fits = is_number(self.cache_gib) and self.cache_gib >= 0
        require(fits, "loading.cache_gib", "a number >= 0", self.cache_gib)
        require_choice("loading.damaged", self.damaged, ("stop", "leave_out"))


_DEFAULT_LOADING = LoadingConfig()


class WaveformDataModule(L.LightningDataModule):
    """Recordings, split and batched; see `audio.batches.LabelledWaveforms` for what it offers after `setup`.

    Unlike `audio.resident.ResidentDataModule` it takes sets of any size, reads stretches of long recordings
    without the rest, and knows tagging and recordings without labels. What an epoch's batches hold depends on
    the seed and the epoch alone: not on workers, cache or resuming.

    Args:
        source: Folder of class folders, flat folder, or a table; see `audio.manifests.find_clips`.
        files: How the folder or table is read.
        task: What the labels mean. ``auto``: ``unlabelled`` without any, ``classification`` where every
            recording has one, else ``multilabel``. For ``tagging`` the source is a table of events.
        classes: The classes in their order; those of the labels if empty.
        loading: Rate, channels, crops, batches, workers and cache.
        split: How to divide the recordings.
        augmentation: How training recordings are changed; not for tagging.
        seed: Seed of crops, changes and the order of batches.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        source: str,
        files: SourceConfig = _DEFAULT_FILES,
        task: TaskChoice = "auto",
        classes: Sequence[str] = (),
        loading: LoadingConfig = _DEFAULT_LOADING,
        split: SplitConfig = _DEFAULT_SPLIT,
        augmentation: AugmentationConfig = _DEFAULT_AUGMENTATION,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_choice("task", task, _TASKS)
        require_whole("seed", seed, 0)
        if task == "tagging" and not augmentation.changes_nothing:
            raise UserError("augmentation: expected none for tagging, whose labels it would move")
        self.source, self.files, self.requested_task = source, files, task
        self.known_classes = tuple(classes)
        self.loading, self.split, self.augmentation, self.seed = loading, split, augmentation, seed
        self._reader: ClipReader | None = None

    def setup(self, stage: str | None = None) -> None:
        """Find, describe and divide the recordings, once; decode them if they are kept in memory.

        Raises:
            UserError: If there are none, one cannot be read, or labels and task do not go together.
        """
        if self._reader is not None:
            return
        clips = find_clips(self.source, self.files)
        events = None
        if self.requested_task == "tagging":
            clips, heard = gather_events(clips)
            events = dict(zip([clip.path for clip in clips], heard, strict=True))
        found = describe_clips(clips, self.loading.damaged)
        found = self._cut(found)
        clips = found.clips
        self.rate: int = self.loading.rate or found.rates.most_common(1)[0][0]
        self.channels = self.loading.channels
        self.notes = _notes(found, self.rate, self.channels)
        self._label([clip.labels for clip in clips])
        self.names = [clip_name(clip) for clip in clips]
        copies = copy_groups(clips, found.infos)
        self.assignment, self.explanation = assign(clips, self.labels, self.split, copies)
        reader = ClipReader(clips, found.infos, self.rate, self.channels)
        self.seconds = reader.lengths / self.rate
        self.max_length = int(reader.lengths.max())
        self._events = None
        if events is not None:
            starts = [round(clip.start_seconds * self.rate) for clip in clips]
            lists = [events[clip.path] for clip in clips]
            self._events = FramedEvents(lists, starts, self.classes, self.rate, self.loading.frame)
        small = reader.bytes <= self.loading.cache_gib * 2**30
        if self.loading.cache == "always" or (self.loading.cache == "auto" and small):
            reader.decode_all()
        self._reader = reader

    def _cut(self, found: ReadableClips) -> ReadableClips:
        if self.loading.cut_seconds is None:
            return found
        infos = {info.path: info for info in found.infos}
        clips = cut_clips(found.clips, found.infos, self.loading.cut_seconds)
        return ReadableClips(clips, [infos[clip.path] for clip in clips], found.reasons)

    def _label(self, labels: list[tuple[str, ...]]) -> None:
        """Set task, classes and labels."""
        task = self.requested_task
        if task == "unlabelled" or (task == "auto" and not any(labels)):
            self.task: str = "unlabelled"
            self.classes: tuple[str, ...] = ()
            self.labels: Any = np.zeros(len(labels), np.int64)
            return
        meant = "multilabel" if task == "tagging" else task
        targets = read_targets(labels, meant, self.known_classes)
        self.task = "tagging" if task == "tagging" else targets.task
        self.classes, self.labels = targets.classes, targets.values

    def part(self, name: str) -> np.ndarray:
        """Return the places in `names` of a part: "train", "validation" or "test"."""
        return np.flatnonzero(self.assignment == name)

    def train_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return the training batches: similar lengths together, in a new order every epoch."""
        return self._loader(self.part("train"), training=True)

    def val_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return the validation batches; none where nobody validates."""
        return self._loader(self.part("validation"))

    def test_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return the test batches."""
        return self._loader(self.part("test"))

    def predict_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return batches of all recordings, whatever their part."""
        return self._loader(None)

    def _loader(self, places: np.ndarray | None, training: bool = False) -> DataLoader[WaveformBatch]:
        assert self._reader is not None, "setup() comes first"
        places = np.arange(len(self._reader)) if places is None else places
        crop = self.loading.crop_seconds if training else None
        size = None if crop is None else max(1, round(crop * self.rate))
        batches = ClipBatches(
            self._reader,
            places,
            self.labels,
            events=self._events,
            crop=size,
            augmentation=self.augmentation if training else _DEFAULT_AUGMENTATION,
            seed=self.seed,
        )
        lengths = self._reader.lengths[places]
        order = LengthBucketBatchSampler(
            lengths if size is None else np.minimum(lengths, size),
            batch_size=self.loading.batch_size,
            shuffle=training,
            seed=self.seed,
        )
        workers = self.loading.num_workers
        return _Loader(
            batches,
            batch_sampler=EpochBatchSampler(order),
            collate_fn=already_a_batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, place): workers that live on from epoch to epoch are told which one it is.

    Args:
        order: Batches of places.
    """

    def __init__(self, order: LengthBucketBatchSampler) -> None:
        self._order = order

    @property
    def sampler(self) -> EpochBatchSampler:
        """The object whose `set_epoch` Lightning calls before every epoch: ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws for."""
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self._order.epoch
        return ([(epoch, place) for place in batch] for batch in self._order)


class _Loader(DataLoader[Any]):
    """Raises what went wrong in a worker as the one sentence that it was."""

    def __iter__(self) -> Any:
        batches = super().__iter__()
        while (batch := next(batches, None)) is not None:
            if isinstance(batch, Failure):
                del batches
                self._iterator = None  # the workers end now
                raise UserError(batch.message, hint=batch.hint)
            yield batch


def _notes(found: ReadableClips, rate: int, channels: int) -> list[str]:
    """Say what the reader of results should know."""
    notes = []
    if found.reasons:
        notes.append(f"{len(found.reasons):,} recordings cannot be read, for example: {found.reasons[0]}")
    other = {have: count for have, count in found.rates.items() if have != rate}
    if other:
        listed = ", ".join(f"{count:,} of {have} Hz" for have, count in sorted(other.items()))
        notes.append(f"resampled to {rate} Hz: {listed}")
    mixed = sum(info.channels != channels for info in found.infos)
    if mixed:
        what = "averaged to one channel" if channels == 1 else f"repeated in {channels} channels"
        notes.append(f"{what}: {mixed:,} recordings")
    return notes
