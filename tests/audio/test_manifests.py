from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audio.manifest_tables import ColumnsConfig
from audio.manifests import Clip, SourceConfig, find_clips
from seqmamba.errors import UserError


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _names(clips: list[Clip]) -> list[str]:
    return [clip.path.name for clip in clips]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    _touch(
        tmp_path, "dog/1.wav", "dog/deep/2.FLAC", "cat/3.ogg", "cat/notes.txt", ".hidden/4.wav", "dog/.5.wav"
    )
    clips = find_clips(tmp_path)
    assert [(clip.path.name, clip.labels) for clip in clips] == [
        ("3.ogg", ("cat",)),
        ("1.wav", ("dog",)),
        ("2.FLAC", ("dog",)),
    ]
    assert all(clip.whole and clip.split is None and clip.group is None for clip in clips)


def test_a_flat_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "b.mp3", "a.wav", "readme.md")
    clips = find_clips(str(tmp_path))
    assert _names(clips) == ["a.wav", "b.mp3"]
    assert {clip.labels for clip in clips} == {()}


def test_parts_by_the_names_of_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "Train/a/1.wav", "Train/b/2.wav", "val/a/3.wav", "test/b/4.wav")
    found = {(clip.path.name, clip.labels[0], clip.split) for clip in find_clips(tmp_path)}
    assert found == {
        ("1.wav", "a", "train"),
        ("2.wav", "b", "train"),
        ("3.wav", "a", "validation"),
        ("4.wav", "b", "test"),
    }


def test_speech_commands(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "yes/0a7c2a8d_nohash_0.wav",
        "yes/0a7c2a8d_nohash_1.wav",
        "no/ffa76c4a_nohash_0.wav",
        "no/01bb6a2a_nohash_0.wav",
        "_background_noise_/pink_noise.wav",
    )
    (tmp_path / "validation_list.txt").write_text("no/ffa76c4a_nohash_0.wav\n")
    # The whole list goes with a copy of some of the classes.
    (tmp_path / "testing_list.txt").write_text("no/01bb6a2a_nohash_0.wav\nbed/01bb6a2a_nohash_0.wav\n")
    found = {(clip.labels[0], clip.group, clip.split) for clip in find_clips(tmp_path)}
    assert found == {
        ("yes", "0a7c2a8d", "train"),
        ("no", "ffa76c4a", "validation"),
        ("no", "01bb6a2a", "test"),
    }
    (tmp_path / "testing_list.txt").write_text("no/gone_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"name 1 that are not there, for example no/gone_nohash_0\.wav"):
        find_clips(tmp_path)
    (tmp_path / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"testing_list\.txt: is not text in UTF-8"):
        find_clips(tmp_path)


def test_names_of_files(tmp_path: Path) -> None:
    _touch(tmp_path, "7_theo_0.wav", "3_lucas_12.wav")
    config = SourceConfig(pattern=r"(?P<label>\d)_(?P<group>[a-z]+)_\d+")
    assert [(clip.labels, clip.group) for clip in find_clips(tmp_path, config)] == [
        (("3",), "lucas"),
        (("7",), "theo"),
    ]
    _touch(tmp_path, "other.wav")
    with pytest.raises(UserError, match=r"other\.wav: its name does not match the pattern"):
        find_clips(tmp_path, config)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is no regular expression"),
        ("abc", "expected named groups"),
        ("(?P<who>a)", "expected named groups"),
    ],
)
def test_patterns_that_find_nothing(pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=f"pattern: .*{message}"):
        SourceConfig(pattern=pattern)


def test_folders_without_order(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder or table"):
        find_clips(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no recordings \(\.aif, .*\.wav"):
        find_clips(_touch(tmp_path, "a.txt"))
    with pytest.raises(UserError, match=r"got both: 1\.wav lies outside the class folders"):
        find_clips(_touch(tmp_path, "1.wav", "cat/2.wav"))


def _table(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_folder_with_its_table(tmp_path: Path) -> None:
    _touch(tmp_path, "x/1.wav", "x/2.wav")
    _table(tmp_path, "file_name,label,speaker,split,fold\nx/2.wav,b,ann,train,1\nx/1.wav,a,bob,valid,2\n")
    clips = find_clips(tmp_path)
    assert _names(clips) == ["2.wav", "1.wav"]
    assert [(clip.labels, clip.group, clip.split, clip.fold) for clip in clips] == [
        (("b",), "ann", "train", "1"),
        (("a",), "bob", "validation", "2"),
    ]
    assert clips[1].source == f"{tmp_path}/metadata.csv:3"


def test_files_in_a_folder_called_audio(tmp_path: Path) -> None:
    _touch(tmp_path, "audio/1.ogg", "meta/esc.csv")
    for name in ("labels.csv", "meta/esc.csv"):
        table = _table(tmp_path, "filename,fold,target,category\n1.ogg,5,0,dog\n", name)
        (clip,) = find_clips(table)
        assert clip.path.is_file()
        assert (clip.labels, clip.fold) == (("dog",), "5")


@pytest.mark.parametrize(
    ("header", "row", "start", "duration"),
    [
        ("path,start,duration", "a.wav,1.5,0.25", 1.5, 0.25),
        ("path,start,end", "a.wav,1.5,1.75", 1.5, 0.25),
        ("audio_filepath,offset,duration", "a.wav,1.5,0.25", 1.5, 0.25),
        ("filename,onset,offset,event_label", "a.wav,1.5,1.75,dog", 1.5, 0.25),
        ("wav", "a.wav", 0, None),
        ("file,start", "a.wav,2", 2, None),
        ("filename,onset,offset,event_label", "a.wav,,,", 0, None),
    ],
)
def test_stretches(tmp_path: Path, header: str, row: str, start: float, duration: float | None) -> None:
    (clip,) = find_clips(_table(tmp_path, f"{header}\n{row}\n"))
    assert (clip.start_seconds, clip.duration_seconds) == (start, duration)
    assert clip.path == tmp_path / "a.wav"


def test_lines_of_json_and_tabs(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "/x/a.wav", "label": ["p", "q"], "offset": 1}, {"path": "b.wav", "label": 3}]
    lines = "\n\n".join(map(json.dumps, rows))
    clips = find_clips(_table(tmp_path, lines, "m.jsonl"))
    assert [clip.labels for clip in clips] == [("p", "q"), ("3",)]
    assert [str(clip.path) for clip in clips] == ["/x/a.wav", f"{tmp_path}/b.wav"]
    clips = find_clips(_table(tmp_path, "\ufefffile\tlabels\na, b.wav\tx;y|z\n", "m.tsv"))
    assert clips[0].labels == ("x", "y", "z")
    assert clips[0].path.name == "a, b.wav"


def test_columns_by_name(tmp_path: Path) -> None:
    table = _table(tmp_path, "clip,what,who\na.wav,1,me\n")
    columns = ColumnsConfig(path="clip", label="what", group="who")
    (clip,) = find_clips(table, SourceConfig(columns=columns))
    assert (clip.path.name, clip.labels, clip.group) == ("a.wav", ("1",), "me")
    with pytest.raises(UserError, match=r"columns\.label: no 'why' among clip, what, who"):
        find_clips(table, SourceConfig(columns=ColumnsConfig(path="clip", label="why")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("path\n", "has no rows"),
        ("x,y\n1,2\n", "no column holds the files among x, y"),
        ("path,label\na.wav\n", r":2: expected 2 columns, got 1"),
        ("path,path\na,b\n", "a column name comes twice"),
        ("path,start\na.wav,soon\n", r":2: start: expected seconds, got 'soon'"),
        ("path,start\na.wav,nan\n", r":2: start: expected seconds, got 'nan'"),
        ("path,start\na.wav,-1\n", r":2: start: expected seconds >= 0, got -1"),
        ("path,start,end\na.wav,2,1\n", r":2: end: expected an end behind 2 s, got 1 s"),
        ("path,duration\na.wav,0\n", r":2: duration: expected seconds > 0, got 0"),
        ("path,split\na.wav,most\n", r":2: split: expected train, validation or test, got 'most'"),
        ("path,label\n,x\n", r":2: path: expected a file, got nothing"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"t\.csv.*{message}"):
        find_clips(_table(tmp_path, text, "t.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", ":1: is no JSON"), ("[1]", ":1: expected a JSON object, got list"), ("\n", "no rows")],
)
def test_json_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"t\.jsonl.*{message}"):
        find_clips(_table(tmp_path, text, "t.jsonl"))


def test_a_recording_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder, or a table that ends in"):
        find_clips(_table(tmp_path, "x", "a.txt"))


_CELLS = st.text(st.sampled_from("ab.1,\n\r\t\"'{}[]:;|-\0\x85 "), max_size=30)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["t.csv", "t.tsv", "t.jsonl"]),
    st.sampled_from(["", "path,label\n", "filename\tonset\toffset\n", '{"path": ']),
    st.one_of(st.binary(max_size=60), _CELLS.map(str.encode)),
)
@example("t.jsonl", "", b"[" * 100_000)
@example("t.jsonl", '{"path": ', b"1" * 5_000 + b"}")
@example("t.csv", "path,label\n", b"a\0b,c\n")
@example("t.csv", "path,label\n", b'"' + b"x" * 200_000)
def test_hostile_tables_end_in_a_sentence(tmp_path: Path, name: str, head: str, content: bytes) -> None:
    table = tmp_path / name
    table.write_bytes(head.encode() + content)
    failure = None
    try:
        clips = find_clips(table)
    except UserError as error:
        failure = error
    if failure is None:
        assert clips
    else:
        assert "\n" not in failure.message
        assert name in failure.message
