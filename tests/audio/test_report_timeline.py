"""Pages of timelines: probabilities over time, and events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reported_runs as runs

from audio.event_files import read_events
from audio.report import write_report
from audio.report.timeline_values import COLUMNS, MOST_RECORDINGS, read_values
from seqmamba.cli.main import main
from seqmamba.errors import UserError


def test_columns_hold_means_and_peaks_of_every_recording(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    runs.timeline(path, recordings=("b.wav", "a.wav"), hops=20_000)  # more than are read at once
    values = read_values(path)
    assert values.names == ("b.wav", "a.wav")
    assert values.seconds == 10_000
    for value in values.drawn:
        assert (value.start, value.end, value.hop) == (0, 5000, 0.25)
        assert value.mean.shape == value.highest.shape == (COLUMNS, 2)
        edges = np.arange(20_001) * 0.25
        centre = 0.2 * 5000
        expected = np.exp(-(((edges[:-1] - centre) / 20) ** 2)).reshape(COLUMNS, -1)
        np.testing.assert_allclose(value.mean[:, 0], expected.mean(axis=1), atol=1e-6)
        np.testing.assert_allclose(value.highest[:, 0], expected.max(axis=1), atol=1e-6)
        assert value.is_probability


@pytest.mark.parametrize("hops", [1, 2, COLUMNS, COLUMNS + 1])
def test_few_values_have_a_column_each(tmp_path: Path, hops: int) -> None:
    runs.timeline(tmp_path / "t.parquet", hops=hops)
    (value,) = read_values(tmp_path / "t.parquet").drawn
    assert len(value.mean) == min(hops, COLUMNS)
    assert np.isfinite(value.mean).all()
    runs.draw(tmp_path / "t.parquet")


def test_a_page_of_tracks_and_events(tmp_path: Path) -> None:
    runs.timeline(tmp_path / "t.parquet")
    page, text = runs.draw(tmp_path / "t.parquet")
    assert "2 events in 8 min 20 s of sound." in text
    assert "long.wav" in text
    assert "bird: highest 1.000, 1 event" in page
    assert "birdlong.wav1:3595.000 s105.000 s0.9000.990" in text  # the cells of a row
    assert not runs.players(page)


def test_events_are_played_where_the_recording_is_given(tmp_path: Path) -> None:
    runs.timeline(tmp_path / "t.parquet", hops=200)  # events at 5 to 15 s and 35 to 45 s
    sound = runs.sound(tmp_path / "sounds" / "long.wav", seconds=50)
    page, _ = runs.draw(tmp_path / "t.parquet", recordings=(sound,), seconds=4)
    assert [seconds for seconds, _, _ in runs.players(page)] == [4, 4]
    assert "the first 4 of 11 s" in page
    page, _ = runs.draw(tmp_path / "t.parquet", recordings=(tmp_path / "sounds",))
    assert len(runs.players(page)) == 2
    sound.unlink()
    assert "2 recordings not found" in runs.draw(tmp_path / "t.parquet", recordings=(tmp_path,))[1]


def test_without_a_table_there_are_no_events(tmp_path: Path) -> None:
    runs.timeline(tmp_path / "t.parquet")
    (tmp_path / "t.csv").rename(tmp_path / "events.csv")
    assert "There is no table of events." in runs.draw(tmp_path / "t.parquet")[1]
    page = write_report(tmp_path / "t.parquet", tmp_path / "p.html", events=tmp_path / "events.csv")
    assert "2 events in 8 min" in page.read_text()


def test_many_classes_and_recordings_are_cut_and_it_is_said(tmp_path: Path) -> None:
    labels = tuple(f"class {i:02}" for i in range(30))
    names = tuple(f"{i:02}.wav" for i in range(MOST_RECORDINGS + 1))
    runs.timeline(tmp_path / "t.parquet", labels=labels, recordings=names[:1], hops=40)
    _, text = runs.draw(tmp_path / "t.parquet")
    assert "12 of 30 classes" in text
    runs.timeline(tmp_path / "u.parquet", recordings=names, hops=4)
    _, text = runs.draw(tmp_path / "u.parquet")
    assert f"The first {MOST_RECORDINGS} of {len(names)} recordings are drawn." in text
    assert f"{2 * len(names)} events" in text


def test_values_that_are_no_probabilities_have_an_axis_of_their_own(tmp_path: Path) -> None:
    runs.timeline(tmp_path / "t.parquet", labels=("bits",), scale=7.5)
    (value,) = read_values(tmp_path / "t.parquet").drawn
    assert not value.is_probability
    assert "bits: highest 7.5" in runs.draw(tmp_path / "t.parquet")[0]


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>\"'&\u202egnp$x$"
    runs.timeline(tmp_path / "t.parquet", labels=(evil, "b"), recordings=(evil,))
    page, _ = runs.draw(tmp_path / "t.parquet")
    assert "<script" not in page
    assert "\u202e" not in page


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read as Parquet"):
        write_report(tmp_path / "t.parquet")
    runs.timeline(tmp_path / "t.parquet")
    table = tmp_path / "t.csv"
    table.write_text("file,onset,offset,label,mean,peak\nother.wav,1,2,bird,0.5,0.6\n")
    with pytest.raises(UserError, match=r"t\.csv: names other\.wav, of which .*t\.parquet has no values"):
        write_report(tmp_path / "t.parquet")
    table.write_text("file,onset,offset,label,mean,peak\nlong.wav,1,2,bird,high,0.6\n")
    with pytest.raises(UserError, match=r"t\.csv:2: .*and probabilities, got 'high', '0\.6'"):
        write_report(tmp_path / "t.parquet")


def test_events_keep_their_probabilities(tmp_path: Path) -> None:
    runs.timeline(tmp_path / "t.parquet")
    (first, _) = read_events(tmp_path / "t.csv")["long.wav"]
    assert (first.mean, first.peak) == (0.9, 0.99)


def test_the_verb_asks_for_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audio", "timeline", "model", "a.wav", "-o", str(tmp_path / "t.csv"), "--report"]
    assert main([*words, str(tmp_path / "t.html")]) == 2
    assert "--report: needs the probabilities" in capsys.readouterr().err
    (tmp_path / "t.html").touch()
    assert main([*words, str(tmp_path / "t.html")]) == 2
    assert "t.html: exists already" in capsys.readouterr().err
