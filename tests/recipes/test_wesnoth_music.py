"""The preparation of wesnoth_music on short tracks of its names."""

import csv

import numpy as np
import pytest
import soundfile

from audio.files import blocks as real_blocks
from audio.files import describe, read
from audio.writer import Writer, WriterConfig
from recipes.audio.wesnoth_music import prepare
from recipes.audio.wesnoth_music.prepare import RATE, TEST, TRACKS, VALIDATION, build, group_of
from seqmamba.errors import UserError


def test_tracks_become_one_channel_at_16_khz_and_one_long_file(tmp_path):
    unpacked, folder = tmp_path / "unpacked", tmp_path / "set"
    unpacked.mkdir()
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(TRACKS):
        wave = 0.1 * rng.standard_normal((2205 + number, 2))
        soundfile.write(unpacked / f"{name}.ogg", wave, 44_100)
    summary = build(unpacked, folder)
    assert summary["tracks"] == len(TRACKS) == 40
    with (folder / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    infos = [describe(folder / row["path"]) for row in rows]
    assert {(info.rate, info.channels) for info in infos} == {(RATE, 1)}
    assert infos[0].frames == 800
    whole = read(folder / "two_hours.flac")
    assert len(whole) == sum(info.frames for info in infos)
    assert np.array_equal(whole[:800], read(folder / rows[0]["path"]))
    parts = {row["group"]: row["split"] for row in rows}
    assert {group for group, part in parts.items() if part == "validation"} == set(VALIDATION)
    assert {group for group, part in parts.items() if part == "test"} == set(TEST)


def broken(path, size):
    for block in real_blocks(path, 1000):
        yield block
        raise UserError("breaks off")


@pytest.mark.parametrize(("least", "kept"), [(0.5, True), (0.995, False)])
def test_a_track_may_lack_its_last_moment_and_no_more(tmp_path, monkeypatch, least, kept):
    soundfile.write(tmp_path / "x.wav", np.zeros((1600, 2)), 44_100)
    monkeypatch.setattr(prepare, "blocks", broken)
    monkeypatch.setattr(prepare, "_LEAST", least)
    writer = Writer(tmp_path / "out.flac", WriterConfig(RATE))
    if kept:
        with writer:
            prepare._copy(tmp_path / "x.wav", writer)
        assert describe(tmp_path / "out.flac").frames == 363
    else:
        with pytest.raises(UserError, match="breaks off"), writer:
            prepare._copy(tmp_path / "x.wav", writer)


def test_arrangements_of_a_piece_are_one_group():
    assert group_of("battle-epic") == group_of("battle") == "battle"
    assert group_of("frantic-old") == "frantic"
    assert group_of("victory2") == "victory"
    assert group_of("the_deep_path") == "the_deep_path"
