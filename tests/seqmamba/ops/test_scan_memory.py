from __future__ import annotations

import subprocess
import sys

MEASURE = """
import resource
import torch
from seqmamba.ops import selective_scan

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(length, dim=64, state=64):
    torch.manual_seed(0)
    u, delta = (torch.randn(1, length, dim).requires_grad_() for _ in range(2))
    B, C = (torch.randn(1, length, state).requires_grad_() for _ in range(2))
    A = -torch.rand(dim, state)
    selective_scan(u, delta, A, B, C, delta_softplus=True, impl="numba").sum().backward()

run(64)  # compiled and warm
before = peak()
run(65536)
print(peak() - before)
"""


def test_the_backward_never_holds_every_state() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    every_state = 65536 * 64 * 64 * 4
    # u, delta, B, C, their gradients, y and copies take 16 MiB each; one state in 32 is saved
    assert int(done.stdout) < every_state / 3
