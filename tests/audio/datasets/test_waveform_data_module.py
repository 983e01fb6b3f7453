from __future__ import annotations

from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from audio.datasets import LoadingConfig, WaveformBatch, WaveformDataModule
from audio.files import read
from audio.manifests import SourceConfig
from audio.resampling import resample
from audio.splits import SplitConfig
from seqmamba.errors import UserError

RATE = 8_000
CLASSES = ("high", "low")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty clips of two classes; some are stereo, some of another rate, all of different length."""
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for number in range(40):
        name, rate = CLASSES[number % 2], (RATE, RATE, RATE, 11_025)[number % 4]
        noise = generator.standard_normal((400 + 37 * number, 1 + (number % 10 == 0))) * 0.1
        (folder / name).mkdir(exist_ok=True)
        soundfile.write(folder / name / f"{number:02}.wav", noise, rate, subtype="FLOAT")
    return folder


def _module(source: Path | str, **loading: object) -> WaveformDataModule:
    others = {key: loading.pop(key) for key in ("task", "split", "files") if key in loading}
    options = LoadingConfig(**{"batch_size": 8, **loading})  # type: ignore[arg-type]
    module = WaveformDataModule(str(source), loading=options, **others)  # type: ignore[arg-type]
    module.setup()
    return module


def _epoch(loader: DataLoader[WaveformBatch], epoch: int = 0) -> list[WaveformBatch]:
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def _same(first: list[WaveformBatch], second: list[WaveformBatch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(all(map(torch.equal, one, other)) for one, other in pairs)


def _alike(first: list[WaveformBatch], second: list[WaveformBatch]) -> bool:
    return all(
        torch.allclose(one.waveform, other.waveform, rtol=0, atol=1e-5)
        and all(map(torch.equal, one[1:], other[1:]))
        for one, other in zip(first, second, strict=True)
    )


def test_batches_hold_the_recordings_with_their_true_lengths(folder: Path) -> None:
    module = _module(folder)
    assert (module.task, module.classes, module.rate, module.channels) == ("classification", CLASSES, RATE, 1)
    assert module.notes == [
        "resampled to 8000 Hz: 10 of 11025 Hz",
        "averaged to one channel: 4 recordings",
    ]
    seen = []
    for batch in module.predict_dataloader():
        assert batch.waveform.dtype == torch.float32
        assert batch.waveform.shape == (len(batch.index), int(batch.lengths.max()), 1)
        for row, index in enumerate(batch.index.tolist()):
            path = Path(module.names[index])
            whole = read(path).mean(dim=1, keepdim=True)
            if int(path.stem) % 4 == 3:
                whole = resample(whole, 11_025, RATE)
            length = int(batch.lengths[row])
            assert length == len(whole)
            torch.testing.assert_close(batch.waveform[row, :length], whole, atol=1e-6, rtol=0)
            assert not batch.waveform[row, length:].any()
            assert module.classes[int(batch.target[row])] == path.parent.name
            assert module.seconds[index] == pytest.approx(length / RATE)
            seen.append(index)
    assert sorted(seen) == list(range(40))


def test_parts_are_disjoint_and_complete(folder: Path) -> None:
    module = _module(folder)
    names = ("train", "validation", "test")
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    for name, loader in zip(names, loaders, strict=True):
        seen = [index for batch in loader for index in batch.index.tolist()]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(module.part(name).tolist())
        assert len(seen) == (len(module.part(name)) if name != "train" else len(seen) // 8 * 8)
    assert sorted(np.concatenate([module.part(name) for name in names])) == list(range(40))
    assert module.explanation.startswith("recordings at random, each class alike: ")


STORAGES = ("disk", "memory", "device")


@pytest.mark.parametrize("storage", STORAGES)
def test_an_epoch_depends_on_seed_and_epoch_alone(folder: Path, storage: str) -> None:
    options = {"crop_seconds": 0.03, "storage": storage, "passes": 2}
    loader = _module(folder, **options).train_dataloader()
    epochs = [_epoch(loader, number) for number in (0, 1, 0)]
    assert _same(epochs[0], epochs[2])
    assert not _same(epochs[0], epochs[1])
    if storage == "device":
        return
    workers = _module(folder, **options, num_workers=2).train_dataloader()
    # a worker computes with one thread, whose sums are rounded in another order
    assert _alike(_epoch(workers, 1), epochs[1])
    assert _alike(_epoch(workers, 0), epochs[0])  # the same workers, told of another epoch


def test_all_storages_give_the_same(folder: Path) -> None:
    options = {"crop_seconds": 0.03, "similar_lengths": True, "passes": 2}
    epochs = [_epoch(_module(folder, **options, storage=x).train_dataloader()) for x in STORAGES]
    assert _alike(epochs[0], epochs[1])
    assert _same(epochs[1], epochs[2])


def test_passes_make_an_epoch_of_whole_batches(folder: Path) -> None:
    module = _module(folder, passes=3, batch_size=7, crop_seconds=0.03)
    train = module.part("train")
    epochs = [_epoch(module.train_dataloader(), number) for number in range(2)]
    for epoch in epochs:
        assert {len(batch.index) for batch in epoch} == {7}
        assert len(epoch) == len(train) * 3 // 7
        seen = torch.cat([batch.index for batch in epoch])
        first = seen[: len(train)]
        assert sorted(first.tolist()) == train.tolist()
        assert set(seen.tolist()) == set(train.tolist())
        crops = {}
        for batch in epoch:
            for row, index in enumerate(batch.index.tolist()):
                crops.setdefault(index, set()).add(batch.waveform[row].numpy().tobytes())
        several = [n for index, n in ((i, len(c)) for i, c in crops.items()) if module.seconds[index] > 0.1]
        assert max(several) > 1  # each pass crops anew
    assert not torch.equal(epochs[0][0].index, epochs[1][0].index)
    few = _module(folder, batch_size=1000).train_dataloader()
    assert [len(batch.index) for batch in few] == [len(train)]


def test_similar_lengths_meet(folder: Path) -> None:
    module = _module(folder, similar_lengths=True, batch_size=4)
    batches = list(module.train_dataloader())
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == module.part("train").tolist()
    padding = [1 - batch.lengths.sum() / batch.waveform[..., 0].numel() for batch in batches]
    mixed = list(_module(folder, batch_size=4).train_dataloader())
    assert sum(padding) < 0.5 * sum(1 - b.lengths.sum() / b.waveform[..., 0].numel() for b in mixed)


def test_training_crops_and_testing_does_not(folder: Path) -> None:
    module = _module(folder, crop_seconds=0.03)
    assert {batch.waveform.shape[1] for batch in module.train_dataloader()} == {240}
    assert max(batch.waveform.shape[1] for batch in module.test_dataloader()) > 240


def test_where_recordings_are_follows_from_their_size_and_the_workers(folder: Path) -> None:
    for options, expected in (
        ({"memory_gib": 1.0}, "device"),
        ({"memory_gib": 1.0, "num_workers": 1}, "memory"),
        ({"memory_gib": 1e-6}, "disk"),
    ):
        assert _module(folder, **options).storage == expected


def test_recordings_cut_into_stretches_stay_together(folder: Path) -> None:
    module = _module(folder, cut_seconds=0.05)
    assert len(module.names) > 80
    assert set(module.reader.lengths.tolist()) <= set(range(401))
    files: dict[str, set[str]] = {}
    for name, part in zip(module.names, module.assignment.tolist(), strict=True):
        files.setdefault(name.split(".wav")[0], set()).add(part)
    assert all(len(parts) == 1 for parts in files.values())
    assert len(set(module.names)) == len(module.names)


def test_recordings_without_labels(tmp_path: Path) -> None:
    for number in range(12):
        soundfile.write(tmp_path / f"{number}.flac", np.full(100 + number, 0.01 * number), RATE)
    module = _module(tmp_path)
    assert (module.task, module.classes) == ("unlabelled", ())
    batch = next(iter(module.train_dataloader()))
    assert batch.target.tolist() == [0] * len(batch.index)


def _table(folder: Path, header: str, rows: list[str], name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _silence(folder: Path, names: list[str], seconds: float = 0.1) -> None:
    for number, name in enumerate(names):
        soundfile.write(folder / name, np.full(round(seconds * RATE), 0.001 * number), RATE)


def test_multilabel_and_regression(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(10)]
    _silence(tmp_path, names)
    many = [f"{name},{'a;b' if i % 2 else 'b'}" for i, name in enumerate(names)]
    module = _module(_table(tmp_path, "file,labels", many))
    assert (module.task, module.classes) == ("multilabel", ("a", "b"))
    batch = next(iter(module.test_dataloader()))
    assert batch.target.dtype == torch.float32
    assert batch.target[:, 1].tolist() == [1] * len(batch.index)
    numbers = [f"{name},{i / 4}" for i, name in enumerate(names)]
    module = _module(_table(tmp_path, "file,label", numbers), task="regression")
    batch = next(iter(module.predict_dataloader()))
    torch.testing.assert_close(batch.target, batch.index[:, None] / 4)


def test_tagging(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(8)]
    _silence(tmp_path, names)
    soundfile.write(tmp_path / "0.wav", np.full(830, 0.5), RATE)  # one of another length
    rows = [line for name in names for line in (f"{name}\t0.01\t0.05\tbark", f"{name}\t0.03\t0.04\tmeow")]
    rows.append("quiet.wav\t\t\t")
    _silence(tmp_path, ["quiet.wav"])
    table = _table(tmp_path, "filename\tonset\toffset\tevent_label", rows, "events.tsv")
    module = _module(table, task="tagging", frame=80, batch_size=16)
    assert (module.task, module.classes) == ("tagging", ("bark", "meow"))
    assert len(module.names) == 9
    batch = next(iter(module.predict_dataloader()))
    assert batch.target.shape == (9, 11, 2)
    row = batch.index.tolist().index(1)
    bark, meow = batch.target[row, :10].T
    assert bark.nonzero().flatten().tolist() == [1, 2, 3, 4]
    assert meow.nonzero().flatten().tolist() == [3]
    assert batch.target[row, 10].isnan().all()
    assert not batch.target[batch.index.tolist().index(8), :10].any()


def test_cropped_tags_move_with_the_samples(tmp_path: Path) -> None:
    ramp = np.arange(800) / 1000  # a sample says where it is
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", ramp, RATE, subtype="FLOAT")
    table = _table(
        tmp_path, "filename,onset,offset,label", [f"{number}.wav,0.05,0.08,x" for number in range(6)]
    )
    everything = SplitConfig(by="random", test_share=0.2, validation=())
    with pytest.raises(UserError, match="no recording is left for"):
        _module(table, task="tagging", split=everything)  # all are copies of one another
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", ramp + number * 4e-5, RATE, subtype="FLOAT")
    module = _module(table, task="tagging", frame=1, crop_seconds=0.05, split=everything)
    batch = next(iter(module.train_dataloader()))
    assert batch.target.shape == (len(batch.index), 400, 1)
    places = (batch.waveform[..., 0] * 1000).round()
    assert torch.equal(batch.target[..., 0].bool(), (places >= 400) & (places < 640))


def test_a_file_that_breaks_off_stops_or_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{number}.flac" for number in range(10)]
    noise = np.random.default_rng(0).standard_normal((10, 20_000)) * 0.1
    for name, samples in zip(names, noise, strict=True):
        soundfile.write(tmp_path / name, samples, RATE)
    broken = tmp_path / "3.flac"
    broken.write_bytes(broken.read_bytes()[:15_000])
    with pytest.raises(UserError, match=r"3\.flac: breaks off after sample"):
        _module(tmp_path, storage="memory")
    module = _module(tmp_path, damaged="leave_out")
    assert len(module.names) == 9
    assert module.notes[0].startswith(f"1 recordings cannot be read, for example: {broken}: breaks off")
    assert f"left out: {broken}: breaks off" in capsys.readouterr().err
    for workers in (0, 2):  # one clear sentence, from a worker too
        module = _module(tmp_path, storage="disk", num_workers=workers)
        with pytest.raises(UserError) as failure:
            list(module.predict_dataloader())
        assert failure.value.message.startswith(f"{broken}: breaks off after sample")
        assert "\n" not in failure.value.message


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(UserError, match=r"1 of 1 recordings cannot be read; .*a\.wav: is empty"):
        _module(tmp_path, damaged="leave_out")
    with pytest.raises(UserError, match=r"a\.wav: is empty"):
        _module(tmp_path)


def test_speakers_in_file_names(tmp_path: Path) -> None:
    for number in range(12):
        soundfile.write(
            tmp_path / f"{number % 2}_s{number // 4}_{number}.wav", np.full(99, number / 99), RATE
        )
    files = SourceConfig(pattern=r"(?P<label>\d)_(?P<group>s\d)_\d+")
    module = _module(tmp_path, files=files, split=SplitConfig(test=("s1",), validation=("s2",)))
    held = {Path(module.names[i]).stem.split("_")[1] for i in np.flatnonzero(module.assignment == "test")}
    assert held == {"s1"}


def _on_device(module: WaveformDataModule, rank: int, ranks: int, accumulated: int) -> WaveformDataModule:
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank, world_size=ranks, callbacks=[], accumulate_grad_batches=accumulated
    )
    return module


@pytest.mark.parametrize("similar", [False, True])
def test_devices_share_out_the_recordings_of_a_batch(folder: Path, similar: bool) -> None:
    options = {"crop_seconds": 0.03, "similar_lengths": similar, "passes": 2, "storage": "memory"}
    whole = [batch.index.tolist() for batch in _module(folder, **options).train_dataloader()]
    for ranks, accumulated in ((2, 1), (4, 1), (1, 4), (2, 2)):
        module = _module(folder, **options, batch_size=8 // (ranks * accumulated))
        own = [list(_on_device(module, rank, ranks, accumulated).train_dataloader()) for rank in range(ranks)]
        steps = [[i for batch in step for i in batch.index.tolist()] for step in zip(*own, strict=True)]
        starts = range(0, len(steps), accumulated)
        assert [list(chain(*steps[first : first + accumulated])) for first in starts] == whole
    many = _on_device(_module(folder, batch_size=1), 0, 64, 1)
    with pytest.raises(UserError, match="expected at least 64 to train on, one for each of 64 devices"):
        many.train_dataloader()


def test_values_out_of_range(folder: Path) -> None:
    for options, message in (
        ({"batch_size": 0}, "loading.batch_size: expected a whole number >= 1, got 0"),
        ({"crop_seconds": 0}, "loading.crop_seconds: expected null or a number > 0, got 0"),
        ({"storage": "tape"}, "loading.storage: expected one of auto, disk, memory, device"),
        ({"passes": 0}, "loading.passes: expected a whole number >= 1, got 0"),
        ({"storage": "device", "num_workers": 2}, "loading.num_workers: expected 0 with storage device"),
        ({"damaged": "replace"}, "loading.damaged: expected one of stop, leave_out"),
    ):
        with pytest.raises(UserError, match=message):
            LoadingConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="task: expected one of auto"):
        WaveformDataModule(str(folder), task="guess")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"tagging: 'high' has no times"):
        _module(folder, task="tagging")
