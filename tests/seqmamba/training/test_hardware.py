from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from seqmamba.errors import UserError
from seqmamba.training.hardware import available_cores, describe_device, find_device, limit_threads


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", None),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("99999999 100000", None),
        ("nonsense", None),
    ],
)
def test_a_container_quota_limits_the_cores(tmp_path: Path, quota: str, expected: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert available_cores(file) == (expected or len(os.sched_getaffinity(0)))


def test_without_a_quota_affinity_decides(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_the_users_thread_count_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqmamba.training.hardware.available_cores", lambda: 1)
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    assert limit_threads() == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    try:
        assert limit_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_cpu_has_a_description() -> None:
    assert "threads" in describe_device(torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abacus", "--device: expected auto, cpu, cuda or cuda:N, got 'abacus'"),
        ("meta", "--device: expected auto, cpu, cuda or cuda:N, got 'meta'"),
        ("cuda:99", "--device cuda:99: PyTorch finds .* GPUs here"),
    ],
)
def test_devices_that_are_not_there_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        find_device(name)


def test_a_device_is_found():
    assert find_device("cpu").type == "cpu"
    assert find_device() == find_device("auto")
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
