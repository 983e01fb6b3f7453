from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch

from seqmamba.errors import UserError
from seqmamba.training.checkpoints import DataOnlyCheckpointIO, read_checkpoint

GOOD = {"state_dict": {"w": torch.ones(2)}, "pytorch-lightning_version": "2.6.0", "global_step": 3}


class Payload:
    """Pickles into a call that creates a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.proof}",)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.ckpt"
    DataOnlyCheckpointIO().save_checkpoint(GOOD, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], torch.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    proof = tmp_path / "executed"
    path = tmp_path / "evil.ckpt"
    torch.save({**GOOD, "x": Payload(proof)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="refused"):
        read_checkpoint(path)
    with pytest.raises(UserError, match="refused"):
        DataOnlyCheckpointIO().load_checkpoint(path, weights_only=False)  # not even when asked to
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert proof.exists()


def _truncated() -> bytes:
    content = io.BytesIO()
    torch.save(GOOD, content)
    return content.getvalue()[:-200]


def _foreign_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "a")
    return content.getvalue()


def _other_content() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.ones(2)}, content)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x80\x02", bytes(range(256)), _truncated(), _foreign_zip(), _other_content()],
    ids=["empty", "text", "pickle", "bytes", "truncated", "zip", "no checkpoint"],
)
def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.ckpt: ") as caught:
        read_checkpoint(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("where", ["state_dict", "central directory"])
def test_an_altered_checkpoint_is_refused(tmp_path: Path, where: str) -> None:
    path = tmp_path / "altered.ckpt"
    DataOnlyCheckpointIO().save_checkpoint({**GOOD, "state_dict": {"w": torch.full((64,), 0.7)}}, path)
    content = bytearray(path.read_bytes())
    mark = torch.full((64,), 0.7).numpy().tobytes() if where == "state_dict" else b"PK\x01\x02"
    content[content.index(mark)] ^= 1  # torch itself loads the other weight without a word
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"altered\.ckpt: ") as caught:
        read_checkpoint(path)
    assert "\n" not in caught.value.message
    if where == "state_dict":
        assert "does not match its checksum" in caught.value.message


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.ckpt: there is no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
