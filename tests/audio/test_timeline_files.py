from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from audio.event_files import read_events
from audio.events import Event
from audio.timeline_files import Recording, event_format, open_timeline
from seqmamba.errors import UserError

EVENTS = [Event(0.5, 1.25, "dog bark", 0.75, 0.9), Event(3600.0, 3601.0, "siren", 0.5, 0.625)]
HERE = Recording("long.flac", 16_000)


def write(tmp_path, *names):
    paths = [tmp_path / name for name in names]
    with open_timeline(paths, ("dog bark", "siren")) as writer:
        writer.events(EVENTS, HERE)
    return [path.read_text() for path in paths]


def test_every_format_has_its_own_lines(tmp_path):
    csv, labels, raven, dcase = write(tmp_path, "e.csv", "e.txt", "e.selections.txt", "e.tsv")
    assert csv.splitlines() == [
        "file,onset,offset,label,mean,peak",
        "long.flac,0.500000,1.250000,dog bark,0.7500,0.9000",
        "long.flac,3600.000000,3601.000000,siren,0.5000,0.6250",
    ]
    assert labels.splitlines() == ["0.500000\t1.250000\tdog bark", "3600.000000\t3601.000000\tsiren"]
    assert raven.splitlines()[0].split("\t")[:7] == [
        "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    ]  # fmt: skip
    assert (
        raven.splitlines()[2] == "2\tSpectrogram 1\t1\t3600.000000\t3601.000000\t0.0\t8000.0\tsiren\t0.5000"
    )
    assert dcase.splitlines()[:2] == [
        "filename\tonset\toffset\tevent_label",
        "long.flac\t0.500000\t1.250000\tdog bark",
    ]


def test_without_files_events_go_to_standard_output(capsys):
    with open_timeline([], ("siren",)) as writer:
        writer.events(EVENTS[1:], HERE)
    assert capsys.readouterr().out.splitlines()[1].startswith("long.flac,3600.000000")


def test_probabilities_come_back_from_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr("audio.timeline_files._ROW_GROUP", 4)
    values = np.random.default_rng(0).random((7, 2), dtype=np.float32)
    edges = np.arange(8) / 10
    path = tmp_path / "p.parquet"
    with open_timeline([path], ("dog bark", "siren")) as writer:
        writer.values(values[:5], edges[:6], "a.wav")
        writer.values(values[5:5], edges[5:6], "a.wav")
        writer.values(values[5:], edges[5:], "b.wav")
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["file", "start", "end", "dog bark", "siren"]
    assert table["file"].to_pylist() == ["a.wav"] * 5 + ["b.wav"] * 2
    assert np.array_equal(np.stack([table["dog bark"], table["siren"]], axis=1), values)
    assert np.array_equal(table["start"], edges[:-1])
    assert np.array_equal(table["end"], edges[1:])


def test_an_error_leaves_no_file_behind_and_the_older_one_as_it_was(tmp_path):
    (tmp_path / "e.csv").write_text("older\n")

    def fail(writer):
        writer.events(EVENTS, HERE)
        raise RuntimeError("stopped")

    with (
        pytest.raises(RuntimeError, match="stopped"),
        open_timeline([tmp_path / "e.csv", tmp_path / "p.parquet"], ("a",)) as writer,
    ):
        fail(writer)
    assert [path.name for path in tmp_path.iterdir()] == ["e.csv"]
    assert (tmp_path / "e.csv").read_text() == "older\n"


def test_a_name_tells_the_format_or_is_refused():
    assert event_format("A.Selections.TXT") == "raven"
    with pytest.raises(UserError, match=r"x\.json: expected a name that ends in one of \.csv"):
        event_format("x.json")
    with pytest.raises(UserError, match=r"x\.txt: the format audacity holds one recording, got 2"):
        event_format(Path("x.txt"), recordings=2)


@pytest.mark.parametrize("name", ["e.csv", "e.tsv"])
def test_tables_are_read_back(tmp_path, name):
    write(tmp_path, name)
    events = read_events(tmp_path / name)
    assert [event[:3] for event in events["long.flac"]] == [event[:3] for event in EVENTS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n", "expected columns filename, onset, offset and event_label .* got a, b"),
        ("", "got none"),
        (
            "filename\tonset\toffset\tevent_label\nx\t1\ttwo\ta\n",
            r"e.tsv:2: expected onset and offset in seconds",
        ),
        ("filename\tonset\toffset\tevent_label\nx\t3\t2\ta\n", "expected 0 <= onset <= offset and a label"),
        ("filename\tonset\toffset\tevent_label\nx\t3\n", "expected onset and offset in seconds"),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, message):
    (tmp_path / "e.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_events(tmp_path / "e.tsv")


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected a table of events"):
        read_events(tmp_path / "none.tsv")
