from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recipe_builders import write_ar, write_wheel

import recipes.archives
from recipes.archives import ar_members, unpack
from seqmamba.errors import UserError

MakeDeb = Callable[..., Path]


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_members_of_a_deb(make_deb: MakeDeb, tmp_path: Path, compression: str) -> None:
    files: dict[str, bytes | str] = {
        "./usr/share/a.txt": b"alpha",
        "./usr/b.txt": b"beta",
        "./c.txt": b"gamma",
    }
    unpack(make_deb(files, compression), ["usr/share/a.txt", "c.txt"], tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"alpha"
    assert (tmp_path / "c.txt").read_bytes() == b"gamma"
    assert not (tmp_path / "b.txt").exists()


def test_ar_members_start_at_even_bytes(tmp_path: Path) -> None:
    archive = write_ar(tmp_path / "x.deb", {"odd": b"123", "even": b"4567", "slash/": b"8"})
    content = archive.read_bytes()
    found = {m.name: content[m.start : m.start + m.size] for m in ar_members(archive)}
    assert found == {"odd": b"123", "even": b"4567", "slash": b"8"}


def test_nothing_in_the_archive_chooses_a_path(make_deb: MakeDeb, tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    evil: dict[str, bytes | str] = {"../../escaped": b"!", "/etc/escaped": b"!", "./good": b"fine"}
    unpack(make_deb(evil), ["good", "../../escaped"], inside)
    assert sorted(path.name for path in inside.iterdir()) == ["escaped", "good"]
    assert not (tmp_path / "escaped").exists()


def test_links_are_not_followed(make_deb: MakeDeb, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold data.txt as a plain file"):
        unpack(make_deb({"./data.txt": "/etc/hostname"}), ["data.txt"], tmp_path)


def test_a_wheel(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "tiny-1.0-py3-none-any.whl", {"tiny/x.fa": ">a\nACGT\n", "tiny/y": ""})
    unpack(wheel, ["tiny/x.fa"], tmp_path)
    assert (tmp_path / "x.fa").read_text() == ">a\nACGT\n"
    assert not (tmp_path / "y").exists()


def test_missing_members_are_named(make_deb: MakeDeb, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold b, c as a plain file"):
        unpack(make_deb({"./a": b"1"}), ["c", "a", "b"], tmp_path)


@pytest.mark.parametrize("keep", [4, 70, 300, -40])
def test_a_deb_that_breaks_off(make_deb: MakeDeb, tmp_path: Path, keep: int) -> None:
    deb = make_deb({"./a": bytes(range(256)) * 50})
    deb.write_bytes(deb.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"x_1_all\.deb"):
        unpack(deb, ["a"], tmp_path)


def test_damaged_compression_and_wheel(tmp_path: Path) -> None:
    deb = write_ar(tmp_path / "x.deb", {"data.tar.xz": b"\xfd7zXZ\0 but nothing more of it"})
    with pytest.raises(UserError, match="is damaged"):
        unpack(deb, ["a"], tmp_path)
    (tmp_path / "y.whl").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="is damaged"):
        unpack(tmp_path / "y.whl", ["a"], tmp_path)


def test_an_archive_without_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data\.tar member"):
        unpack(write_ar(tmp_path / "x.deb", {"debian-binary": b"2.0\n"}), ["a"], tmp_path)


def test_sizes_are_bounded(make_deb: MakeDeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.archives, "_LARGEST", 1000)
    with pytest.raises(UserError, match="would unpack to 1,001 bytes"):
        unpack(make_deb({"./a": bytes(1001)}), ["a"], tmp_path)
    assert not (tmp_path / "a").exists()


def test_members_get_the_paths_that_the_caller_gives(make_deb: MakeDeb, tmp_path: Path) -> None:
    deb = make_deb({"./a/x.wav": b"one", "./b/x.wav": b"two"})
    unpack(deb, {"a/x.wav": "a/x.wav", "b/x.wav": "b/y.wav"}, tmp_path / "out")
    assert (tmp_path / "out/a/x.wav").read_bytes() == b"one"
    assert (tmp_path / "out/b/y.wav").read_bytes() == b"two"
    with pytest.raises(ValueError, match="same file name"):
        unpack(deb, ["a/x.wav", "b/x.wav"], tmp_path)
