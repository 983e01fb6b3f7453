from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio import copies as copies_module
from audio.copies import copy_groups
from audio.files import describe
from audio.manifests import Clip
from audio.splits import SplitConfig, assign, split_method
from seqmamba.errors import UserError


def _clips(n: int = 120, speakers: int = 6, **known: object) -> tuple[list[Clip], np.ndarray]:
    """Clips of three classes; every speaker says all of them."""
    clips = [Clip(Path(f"{i}.wav"), group=f"s{i % speakers}", **known) for i in range(n)]  # type: ignore[arg-type]
    return clips, np.arange(n) // speakers % 3


def _values(clips: list[Clip], parts: np.ndarray, part: str, key: str = "group") -> set[str]:
    return {getattr(clip, key) for clip, its in zip(clips, parts, strict=True) if its == part}


def test_speakers_stay_whole_and_classes_alike() -> None:
    clips, labels = _clips()
    parts, explanation = assign(clips, labels, SplitConfig(validation_share=0.15))
    held = [_values(clips, parts, part) for part in ("train", "validation", "test")]
    assert len(set().union(*held)) == sum(map(len, held)) == 6
    assert all(len(names) >= 1 for names in held)
    for part in ("train", "validation", "test"):
        assert len(set(np.bincount(labels[parts == part]))) <= 2
    assert explanation.startswith("test on group ")
    assert np.array_equal(assign(clips, labels, SplitConfig(validation_share=0.15))[0], parts)


def test_named_speakers() -> None:
    clips, labels = _clips()
    config = SplitConfig(test=("s2",), validation=("s4",))
    parts, explanation = assign(clips, labels, config)
    assert _values(clips, parts, "test") == {"s2"}
    assert _values(clips, parts, "validation") == {"s4"}
    assert explanation == "test on group s2; validation on group s4: 80 train, 20 validation, 20 test"
    parts, _ = assign(clips, labels, SplitConfig(test=("s2",), validation=()))
    assert _values(clips, parts, "train") == {"s0", "s1", "s3", "s4", "s5"}
    parts, _ = assign(clips, labels, SplitConfig(test=("s2",)))
    assert "s2" not in _values(clips, parts, "validation")
    assert _values(clips, parts, "validation")


def test_folds_as_numbers() -> None:
    clips = [Clip(Path(f"{i}.wav"), fold=str(i % 5), group=f"g{i}") for i in range(50)]
    config = SplitConfig(test=(4,), validation=(3,))  # type: ignore[arg-type]
    parts, _ = assign(clips, np.zeros(50, np.int64), config)
    assert _values(clips, parts, "test", "fold") == {"4"}
    assert _values(clips, parts, "validation", "fold") == {"3"}


def test_random_keeps_copies_together_and_classes_alike() -> None:
    clips = [Clip(Path(f"{i}.wav")) for i in range(100)]
    labels, copies = np.arange(100) // 50, np.arange(100) // 2  # all have a twin
    parts, explanation = assign(clips, labels, SplitConfig(test_share=0.2), copies)
    assert (parts[::2] == parts[1::2]).all()
    assert np.bincount(labels[parts == "test"]).tolist() == [10, 10]
    assert "copies" not in explanation


def test_copies_join_the_groups_that_share_them() -> None:
    clips, labels = _clips(60, 12)
    copies = np.arange(60)
    copies[[0, 1]] = 0  # speakers 0 and 1 have a recording in common
    copies = np.unique(copies, return_inverse=True)[1]
    for seed in range(8):
        parts, _ = assign(clips, labels, SplitConfig(seed=seed), copies)
        of_speaker = {clip.group: part for clip, part in zip(clips, parts, strict=True)}
        assert of_speaker["s0"] == of_speaker["s1"]


def test_parts_that_the_data_name() -> None:
    clips, labels = _clips()
    clips = [
        Clip(clip.path, group=clip.group, split="test" if i < 24 else None) for i, clip in enumerate(clips)
    ]
    parts, explanation = assign(clips, labels, SplitConfig(), np.arange(120))
    assert (parts[:24] == "test").all()
    assert explanation.startswith("as the data say, with a validation part drawn")
    inside = [clips[i] for i in range(24, 120)]
    assert not _values(inside, parts[24:], "train") & _values(inside, parts[24:], "validation")
    parts, _ = assign(clips, labels, SplitConfig(validation=()))
    assert set(parts) == {"train", "test"}


def test_copies_across_named_parts_are_said() -> None:
    clips = [Clip(Path(f"{i}.wav"), split=("train", "test")[i % 2]) for i in range(10)]
    copies = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    _, explanation = assign(clips, np.zeros(10, np.int64), SplitConfig(validation=()), copies)
    assert "copies of 1 training recordings are held out" in explanation


@pytest.mark.parametrize(
    "labels",
    [np.eye(3, dtype=np.float32)[np.arange(90) % 3], np.linspace(0, 9, 90)[:, None], np.zeros((90, 0))],
)
def test_other_tasks(labels: np.ndarray) -> None:
    clips = [Clip(Path(f"{i}.wav")) for i in range(90)]
    parts, _ = assign(clips, labels, SplitConfig())
    assert {part: int((parts == part).sum()) for part in set(parts)} == {
        "train": 63,
        "validation": 9,
        "test": 18,
    }


def test_none_tests_on_all() -> None:
    clips, labels = _clips(6)
    parts, explanation = assign(clips, labels, SplitConfig(by="none"))
    assert set(parts) == {"test"}
    assert explanation == "all for testing: 6"


def test_what_the_data_lack() -> None:
    clips, labels = _clips()
    plain = [Clip(clip.path) for clip in clips]
    assert split_method(plain, SplitConfig()) == "random"
    assert split_method(clips, SplitConfig()) == "group"
    with pytest.raises(UserError, match=r"split\.by is 'fold', but the data name no fold"):
        assign(clips, labels, SplitConfig(by="fold"))
    with pytest.raises(UserError, match="name folds or groups, and the data have neither"):
        assign(plain, labels, SplitConfig(test=("a",)))
    with pytest.raises(UserError, match=r"split.test: no recording has the group 'x'; there are s0, s1"):
        assign(clips, labels, SplitConfig(test=("x",)))
    one = [Clip(Path(f"{i}.wav"), group="only") for i in range(9)]
    with pytest.raises(UserError, match="split by group: no recording is left for"):
        assign(one, np.zeros(9, np.int64), SplitConfig())
    for bad in ({"by": "x"}, {"test_share": 1.0}, {"test_share": 0.6, "validation_share": 0.5}):
        with pytest.raises(UserError, match="split"):
            SplitConfig(**bad)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a is named both in test and in validation"):
        SplitConfig(test=("a",), validation=("a",))


def test_copies_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(-9_000, 9_000, 40_000).astype(np.float32) / 2**15
    late, other = noise.copy(), noise[::-1].copy()
    late[30_000] = 0.5  # differs where nobody looks at first
    soundfile.write(tmp_path / "a.wav", noise, 8_000)
    soundfile.write(tmp_path / "b.flac", noise, 8_000)
    soundfile.write(tmp_path / "c.wav", late, 8_000)
    soundfile.write(tmp_path / "d.wav", other, 8_000)
    soundfile.write(tmp_path / "e.wav", noise, 16_000)
    soundfile.write(tmp_path / "f.wav", noise[:-1], 8_000)
    clips = [Clip(tmp_path / name) for name in ("a.wav", "b.flac", "c.wav", "d.wav", "e.wav", "f.wav")]
    clips += [Clip(tmp_path / "a.wav", 1.0, 2.0), Clip(tmp_path / "b.flac", 1.0, 2.0)]
    infos = [describe(clip.path) for clip in clips]
    decoded: list[str] = []
    digest = copies_module.digest_of

    def counted(info: object, *, start: int, frames: int) -> str:
        if frames == 40_000:
            decoded.append(info.path.name)  # type: ignore[attr-defined]
        return digest(info, start=start, frames=frames)  # type: ignore[arg-type]

    monkeypatch.setattr(copies_module, "digest_of", counted)
    assert copy_groups(clips, infos).tolist() == [0, 0, 1, 2, 3, 4, 5, 5]
    assert decoded == ["a.wav", "b.flac", "c.wav"]  # the others are told apart by less
