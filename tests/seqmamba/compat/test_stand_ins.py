from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqmamba import compat
from seqmamba.errors import UserError
from seqmamba.ops import explain
from seqmamba.ops.causal_conv1d import upstream


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    compat.uninstall()
    assert not any(name.partition(".")[0] in ("mamba_ssm", "causal_conv1d") for name in sys.modules)


def test_code_written_for_the_packages_runs() -> None:
    names = compat.install()
    assert "mamba_ssm.ops.triton.ssd_combined" in names
    code = """
import causal_conv1d, mamba_ssm
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update
from causal_conv1d.causal_conv1d_interface import causal_conv1d_fn as again
from mamba_ssm import selective_scan_fn as top
from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn, selective_scan_fn, selective_scan_ref
from mamba_ssm.ops.triton.selective_state_update import selective_state_update
from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined, mamba_split_conv1d_scan_combined
import mamba_ssm.ops.triton.ssd_combined as module
versions = (mamba_ssm.__version__, causal_conv1d.__version__)
"""
    found: dict[str, object] = {}
    exec(code, found)
    assert found["versions"] == ("2.3.2", "1.7.0")
    assert found["selective_scan_fn"] is found["top"] is compat.selective_scan_fn
    assert found["again"] is compat.causal_conv1d_fn
    assert importlib.util.find_spec("mamba_ssm") is not None
    compat.install()  # once more does no harm


def test_what_is_not_there_says_so() -> None:
    compat.install()
    with pytest.raises(ImportError, match="cannot import name 'Mamba' from 'mamba_ssm'"):
        from mamba_ssm import Mamba  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"mamba_ssm\.modules"):
        importlib.import_module("mamba_ssm.modules.mamba_simple")
    with pytest.raises(AttributeError, match="is seqmamba's stand-in, which offers selective_scan_fn"):
        _ = sys.modules["mamba_ssm"].Mamba


def test_an_installed_package_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "causal_conv1d.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"causal_conv1d is installed and would be hidden .*force=True"):
        compat.install()
    assert "mamba_ssm" not in sys.modules
    compat.install(["mamba_ssm"])
    real = importlib.import_module("causal_conv1d")
    compat.install(force=True)
    assert importlib.import_module("causal_conv1d").causal_conv1d_fn is compat.causal_conv1d_fn
    compat.uninstall()
    assert importlib.import_module("causal_conv1d") is real
    del sys.modules["causal_conv1d"]
    with pytest.raises(UserError, match="packages must be of mamba_ssm, causal_conv1d, got 'torch'"):
        compat.install(["torch"])


def test_a_stand_in_is_not_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.install()
    monkeypatch.setattr(upstream, "_DEVICE", "cpu")
    monkeypatch.setitem(sys.modules, "causal_conv1d_cuda", sys.modules["causal_conv1d"])
    with pytest.raises(UserError, match=r"seqmamba.compat.install stands in for the package causal-conv1d"):
        explain("causal_conv1d", impl="causal_conv1d", x=torch.zeros(1))
