from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from recipe_builders import tar_of, write_ar

MakeDeb = Callable[..., Path]


@pytest.fixture
def make_deb(tmp_path: Path) -> MakeDeb:
    def make(files: Mapping[str, bytes | str], compression: str = "xz") -> Path:
        control = tar_of({"./control": b"Package: x\n"}, "gz")
        members = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": control,
            f"data.tar.{compression}": tar_of(files, compression),
        }
        return write_ar(tmp_path / "x_1_all.deb", members)

    return make
