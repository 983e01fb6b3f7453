"""What attribution takes on a million bases, counted without a GPU: tensors without data, and no kernel runs.

The count of a prediction this way, 41.95 GB, was 42.02 GB on an H100 (with both strands side by side).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

import genomics.attribution
import genomics.equivariance
import seqmamba.nn.bidirectional
import seqmamba.ops.dispatch
from genomics.attribution import gradient_x_input, integrated_gradients, outputs_of_strands
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones import BackboneConfig

BASES = 2**20
GPU = 80e9


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that were made inside and still live; ``peak`` is the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, result)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known[storage] = True
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self.now -= size


@pytest.fixture
def gpu_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operators of GPUs stand for those of the CPU; what they return has the same shapes."""
    monkeypatch.setattr(seqmamba.ops.dispatch, "_gpu_obstacle", lambda *tensors, **options: None)
    monkeypatch.setattr(seqmamba.ops.dispatch, "numba_obstacle", lambda *tensors: "not on a GPU")
    monkeypatch.setattr(seqmamba.nn.bidirectional, "split_channels", lambda x, parts: x.chunk(parts, dim=-1))


def peak(work: Callable[[SequenceModel, Tensor], object]) -> int:
    """Count the bytes at the peak of some work with the classifier that the README's table measures."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        backbone = BackboneConfig(d_model=256, n_layers=4, direction="bidirectional")
        model = SequenceModel(SequenceModelConfig(backbone, classes=("no", "yes"))).eval()
        tokens = torch.zeros(1, BASES, dtype=torch.int64)
        with PeakBytes() as count:
            work(model, tokens)
    return count.peak


@pytest.mark.usefixtures("gpu_operators")
def test_a_million_bases_fit_one_gpu() -> None:
    gradient = peak(lambda model, tokens: gradient_x_input(model, tokens, None, 1))
    integrated = peak(lambda model, tokens: integrated_gradients(model, tokens, None, 1, steps=2)[0])
    assert 40e9 < gradient < integrated < 0.6 * GPU
    assert integrated < 1.01 * gradient  # a step keeps nothing for the next
    assert 20e9 < peak(lambda model, tokens: outputs_of_strands(model, tokens, None, 1)) < 0.3 * GPU


@pytest.mark.usefixtures("gpu_operators")
def test_what_the_memory_is_saved_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradient(model: SequenceModel, tokens: Tensor) -> Tensor:
        return gradient_x_input(model, tokens, None, 1)

    apart = peak(gradient)
    monkeypatch.setattr(genomics.equivariance, "APART_FROM", 2 * BASES)
    together = peak(gradient)
    monkeypatch.setattr(genomics.attribution, "RECOMPUTE_FROM", 2 * BASES)
    kept = peak(gradient)
    assert together > 1.6 * apart
    assert kept > 2 * together > GPU
