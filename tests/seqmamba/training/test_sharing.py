from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

import seqmamba
from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.backbones.quantisation import quantise
from seqmamba.cli.main import main
from seqmamba.errors import UserError
from seqmamba.model_identity import fingerprint
from seqmamba.training import sharing
from seqmamba.training.hardware import find_device
from seqmamba.training.quantised_export import export_int8
from seqmamba.training.sharing import PushConfig, pull, push


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained and not tested, with a recipe and files that are nobody's business."""
    run = tmp_path_factory.mktemp("home") / "runs" / "mine"
    Backbone(BackboneConfig(d_model=16, n_layers=1)).save_pretrained(run / "pretrained")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").write_bytes(b"pickle")
    (run / "pretrained" / "secret.txt").write_text("token")
    data = run.parents[1] / "data"
    data.mkdir()
    (data / "x.fa").write_text(">a\nACGT\n")
    source = {"origin": "Python package janggu==0.10.2", "sha256": "3825"}
    (data / "manifest.json").write_text(json.dumps({"name": "oct4_mafk", "source": source}))
    arguments = {"fasta": {"one": str(data / "x.fa"), "two": "gone/y.fa"}, "split": {"by": "random"}}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": arguments}}))
    return run


def card(folder: Path) -> str:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert ModelCard(text).data.library_name == "seqmamba"  # the hub's own reader takes the header
    return text


def test_a_model_comes_back_as_it_was(run: Path, tmp_path: Path) -> None:
    shared, back = tmp_path / "shared", tmp_path / "back"
    assert push(run, str(shared), PushConfig()) == str(shared)
    assert sorted(path.name for path in shared.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert pull(str(shared), back) == ["README.md", "config.json", "model.safetensors"]
    one, other = (seqmamba.from_pretrained(folder) for folder in (run / "pretrained", back))
    assert fingerprint(one) == fingerprint(other)


def test_the_card_of_an_untested_run_says_so(run: Path, tmp_path: Path) -> None:
    push(run, str(tmp_path / "shared"), PushConfig(data_licences={"oct4_mafk": "GPL-3"}))
    text = card(tmp_path / "shared")
    assert "**Not evaluated.**" in text
    assert "do not rely on its answers before you have tested it" in text
    assert "No check for copies between the parts ran." in text
    assert "Weights: nobody stated a licence. Data: GPL-3." in text
    assert "license: unknown" in text
    assert "| `data/x.fa` | 8 | Python package janggu==0.10.2 (sha256 3825) |" in text
    assert "| `gone/y.fa` | gone | not recorded |" in text
    assert str(run.parents[1]) not in text
    assert "model-index" not in text


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (
            {"test": {"bits": 3.5, "interval_95": [3.25, 3.75], "samples": 900}},
            "| bits | 3.500 | 3.250 to 3.750 |",
        ),
        ({"test": {"loss": 1.5}}, "| loss | 1.500 | no interval |"),
        ({"metrics": {"f1": {"value": 0.5, "low": 0.4, "high": None}}}, "| F1 | 0.500 | no interval |"),
    ],
)
def test_results_of_every_kind_are_shown(
    run: Path, tmp_path: Path, stored: dict[str, Any], shown: str
) -> None:
    (run / "results.json").write_text(
        json.dumps({**stored, "command": "seqmamba test --run /home/me/runs/mine"})
    )
    try:
        push(run, str(tmp_path / "shared"), PushConfig("mit"))
    finally:
        (run / "results.json").unlink()
    text = card(tmp_path / "shared")
    assert shown in text
    assert "samples" not in text  # a count is no metric
    assert "Not evaluated" not in text
    assert "license: mit" in text
    assert (
        json.loads((tmp_path / "shared" / "results.json").read_text())["command"]
        == "seqmamba test --run mine"
    )


def test_int8_weights_and_what_they_lose_are_shared(run: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    export_int8(str(run / "pretrained"), small, find_device("cpu"))
    push(small, str(tmp_path / "shared"), PushConfig())
    text = card(tmp_path / "shared")
    assert "The weights are int8" in text
    assert "What that loses was not measured." in text
    assert "pip install 'seqmamba[quantise]'" in text
    pull(str(tmp_path / "shared"), tmp_path / "back")
    expected = quantise(seqmamba.from_pretrained(run / "pretrained"))
    assert fingerprint(seqmamba.from_pretrained(tmp_path / "back")) == fingerprint(expected)


def test_nothing_is_replaced_unasked(run: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    push(run, str(shared), PushConfig())
    for again in (lambda: push(run, str(shared), PushConfig()), lambda: pull(str(shared), shared)):
        with pytest.raises(UserError, match="exists already"):
            again()
    push(run, str(shared), PushConfig(overwrite=True))
    (shared / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt, so --overwrite may not replace it"):
        push(run, str(shared), PushConfig(overwrite=True))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="is a file, expected the folder to write"):
        push(run, str(file), PushConfig(overwrite=True))


def test_pickles_and_damaged_files_are_refused(run: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    push(run, str(bad), PushConfig())
    (bad / "model.safetensors").rename(bad / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"got pytorch_model.bin, which is refused"):
        pull(str(bad), tmp_path / "out")
    (bad / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="expected a safetensors file"):
        pull(str(bad), tmp_path / "out")
    (bad / "config.json").write_text("[]")
    with pytest.raises(UserError, match="expected a JSON object"):
        pull(str(bad), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_an_unfinished_run_has_nothing_to_share(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="has no exported model yet"):
        push(tmp_path / "run", str(tmp_path / "shared"), PushConfig())


class Hub:
    """What `push` asks of the hub, and what it was given."""

    def __init__(self, *, has_model: bool = False, failure: Exception | None = None) -> None:
        self.has_model, self.failure = has_model, failure
        self.created: dict[str, Any] = {}
        self.commits: list[dict[str, Any]] = []

    def create_repo(self, repository: str, **options: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.created[repository] = options

    def file_exists(self, repository: str, name: str) -> bool:
        return self.has_model

    def model_info(self, repository: str) -> SimpleNamespace:
        return SimpleNamespace(sha="abc")

    def upload_folder(self, *, folder_path: Path, **options: Any) -> SimpleNamespace:
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.commits.append({**options, "files": files})
        return SimpleNamespace(commit_url="https://hub/me/mine/commit/1")


def use(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(sharing, "HfApi", lambda: hub)
    return hub


def test_a_repository_gets_one_commit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(Hub(), monkeypatch)
    assert push(run, "hf:me/mine", PushConfig("mit")) == "https://hub/me/mine/commit/1"
    assert hub.created == {"me/mine": {"private": True, "exist_ok": True}}
    (commit,) = hub.commits
    assert commit["parent_commit"] == "abc"  # somebody else's commit in between makes the hub refuse
    assert set(commit["files"]) == {"README.md", "config.json", "model.safetensors"}
    text = commit["files"]["README.md"].decode()
    assert "# mine\n" in text
    assert "seqmamba pull hf:me/mine MODEL" in text


def test_a_repository_with_a_model_is_not_replaced_unasked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(Hub(has_model=True), monkeypatch)
    with pytest.raises(UserError, match="hf:me/mine: holds a model already"):
        push(run, "hf:me/mine", PushConfig())
    assert hub.commits == []
    push(run, "hf:me/mine", PushConfig(overwrite=True, public=True))
    assert len(hub.commits) == 1


def test_what_the_hub_says_is_one_sentence(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(Hub(failure=OSError("401 Client Error\nRequest ID: 1")), monkeypatch)
    assert main(["push", str(run), "hf:me/mine"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: hf:me/mine: the hub did not take the model: 401 Client Error",
        "hint: `hf auth login` stores a token that may write",
    ]
    assert main(["push", str(run), "hf:mine"]) == 2
    assert "hf:mine: expected hf:owner/name" in capsys.readouterr().err


def test_a_repository_is_pulled_file_by_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, asked = tmp_path / "shared", []
    push(run, str(shared), PushConfig())

    def locate(where: str, name: str, download: dict[str, Any]) -> Path:
        asked.append((where, name, download))
        return shared / name

    monkeypatch.setattr(sharing, "locate", locate)
    monkeypatch.setattr(
        sharing, "find", lambda *wanted: locate(*wanted) if (shared / wanted[1]).exists() else None
    )
    assert main(["pull", "hf:me/mine", str(tmp_path / "back"), "--revision", "v1"]) == 0
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (
        shared / "model.safetensors"
    ).read_bytes()
    assert [name for _, name, _ in asked] == ["config.json", "model.safetensors", "README.md"]
    assert all((where, download) == ("me/mine", {"revision": "v1"}) for where, _, download in asked)
