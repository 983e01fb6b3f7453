"""The data module of the waveform tasks: finds any layout, splits it, and batches sets of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import numpy as np
import torch

from audio.copies import copy_groups
from audio.datasets.batching import ClipBatches, Failure, FramedEvents
from audio.datasets.loading import LoadingConfig
from audio.datasets.order import TrainingOrder, WholeOrder
from audio.datasets.readable import ReadableClips, clip_name, describe_clips
from audio.datasets.reader import ClipReader
from audio.datasets.tagging import gather_events
from audio.few_labels import LabelConfig, keep_labels
from audio.manifests import SourceConfig, find_clips
from audio.segments import cut_clips
from audio.splits import SplitConfig, assign
from audio.targets import read_targets
from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.training.context_parallel import data_place
from seqmamba.training.shared_order import (
    EpochOrder,
    ResumableLoader,
    Share,
    SharedOrder,
    loader_in_order,
)

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
_DEFAULT_LOADING = LoadingConfig()
_ALL_LABELS = LabelConfig()


class WaveformDataModule(L.LightningDataModule):
    """Recordings, split and batched; see `audio.batches.LabelledWaveforms` for what it offers after `setup`.

    It takes sets of any size, from disk, from memory or from that of the device that trains. What an epoch's
    batches hold depends on the seed and the epoch alone: not on storage, workers or resuming, nor on how
    many devices share out batches of the same size. Each device validates and tests on all recordings.

    A checkpoint from the middle of an epoch says how many recordings are done, and a resumed run goes on with
    the next.

    Args:
        source: Folder of class folders, flat folder, or a table; see `audio.manifests.find_clips`.
        files: How the folder or table is read.
        task: What the labels mean. ``auto``: ``unlabelled`` without any, ``classification`` where every
            recording has one, else ``multilabel``. For ``tagging`` the source is a table of events.
        classes: The classes in their order; those of the labels if empty.
        loading: Rate, channels, crops, batches, passes, storage and workers.
        split: How to divide the recordings.
        labels: How many labels of the training part are used.
        seed: Seed of crops and of the order of batches.

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
        labels: LabelConfig = _ALL_LABELS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_choice("task", task, _TASKS)
        require_whole("seed", seed, 0)
        self.source, self.files, self.requested_task = source, files, task
        self.known_classes = tuple(classes)
        self.loading, self.split, self.used_labels, self.seed = loading, split, labels, seed
        self._reader: ClipReader | None = None
        self._training: ResumableLoader | None = None
        self._resumed: dict[str, int] = {}

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
        self.assignment, fewer = keep_labels(self.assignment, self.labels, self.classes, self.used_labels)
        self.notes += [fewer] if fewer else []
        reader = ClipReader(clips, found.infos, self.rate, self.channels)
        self.seconds = reader.lengths / self.rate
        self.max_length = int(reader.lengths.max())
        self._events = None
        if events is not None:
            starts = [round(clip.start_seconds * self.rate) for clip in clips]
            lists = [events[clip.path] for clip in clips]
            self._events = FramedEvents(lists, starts, self.classes, self.rate, self.loading.frame)
        self.storage = self.loading.storage_of(reader.bytes)
        if self.storage != "disk":
            reader.decode_all(shared=self.loading.num_workers > 0)
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

    def train_dataloader(self) -> ResumableLoader:
        """Return this device's training batches, in a new order every epoch.

        Raises:
            UserError: If there are fewer recordings than devices that train.
        """
        places, loading = self.part("train"), self.loading
        lengths, crop = self.reader.lengths[places], None
        if loading.crop_seconds is not None:
            crop = max(1, round(loading.crop_seconds * self.rate))
            lengths = np.minimum(lengths, crop)
        share = Share()
        if self.trainer is not None:
            share = Share(*data_place(self.trainer), self.trainer.accumulate_grad_batches)
        order = TrainingOrder(
            lengths, loading.batch_size, loading.passes, loading.similar_lengths, self.seed, share
        )
        self._training = self._loader(places, SharedOrder(order, share), crop)
        if self._resumed:
            self._training.load_state_dict(self._resumed)
        return self._training

    def state_dict(self) -> dict[str, int]:
        """Return the place of the training batches, for the checkpoint."""
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Remember the place where the training batches go on; Lightning would hand it over too late."""
        self._resumed = state_dict

    def val_dataloader(self) -> ResumableLoader:
        """Return the validation batches; none where nobody validates."""
        return self._whole(self.part("validation"))

    def test_dataloader(self) -> ResumableLoader:
        """Return the test batches."""
        return self._whole(self.part("test"))

    def predict_dataloader(self) -> ResumableLoader:
        """Return batches of all recordings, whatever their part."""
        return self._whole(np.arange(len(self.reader)))

    @property
    def reader(self) -> ClipReader:
        """Reads the recordings.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._reader is None:
            raise RuntimeError("the data module has no recordings before setup()")
        return self._reader

    def _whole(self, places: np.ndarray) -> ResumableLoader:
        order: EpochOrder = WholeOrder(self.reader.lengths[places], self.loading.batch_size)
        return self._loader(places, SharedOrder(order, Share()), None)

    def _loader(self, places: np.ndarray, order: SharedOrder, crop: int | None) -> ResumableLoader:
        on_device = self.storage == "device"
        if on_device:
            self.reader.move_to(
                torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
            )
        return loader_in_order(
            ClipBatches(self.reader, places, self.labels, events=self._events, crop=crop, seed=self.seed),
            order,
            num_workers=self.loading.num_workers,
            pin_memory=torch.cuda.is_available() and not on_device,
            kind=_Loader,
        )


class _Loader(ResumableLoader):
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
