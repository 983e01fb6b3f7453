from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from seqmamba.training.hardware import available_cores, describe_device, limit_threads


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
