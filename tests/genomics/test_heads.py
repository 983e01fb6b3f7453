from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genomics.gene_labels import CODING, UNKNOWN
from genomics.heads import PairedAlleleHead, SegmentationHead, TrackHead, sum_of_slices
from seqmamba.errors import UserError

D = 6


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def hidden(length: int = 30, batch: int = 3) -> Tensor:
    return torch.randn(batch, length, D, dtype=torch.float64, requires_grad=True)


def gradients(loss: Tensor, *wanted: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, wanted)


class TestSegmentationHead:
    labels = torch.randint(-1, 7, (3, 30), generator=torch.Generator().manual_seed(1)).to(torch.int8)

    @staticmethod
    def whole(
        head: SegmentationHead, labels: Tensor, states: Tensor, other: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        logits = states @ head.linear.weight.T + head.linear.bias
        if other is not None:
            logits_other = other @ head.linear.weight.T + head.linear.bias
            swapped = torch.stack([logits_other[..., c] for c in CODING.complement], -1)
            logits = (logits + swapped) / 2
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten().long(), weights, ignore_index=UNKNOWN)

    @pytest.mark.parametrize("size", [1, 7, 30, 1000])
    @pytest.mark.parametrize("both", [False, True])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_slices_have_the_loss_and_gradients_of_the_whole(
        self, size: int, both: bool, weighted: bool
    ) -> None:
        head = SegmentationHead(D, CODING.complement).double()
        states, other = hidden(), hidden() if both else None
        weights = torch.rand(7, dtype=torch.float64) + 0.1 if weighted else None
        wanted = [states, *head.parameters(), *([] if other is None else [other])]
        loss = head.loss(self.labels, states, other, class_weights=weights, size=size)
        expected = self.whole(head, self.labels, states, other, weights)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        for ours, theirs in zip(gradients(loss, *wanted), gradients(expected, *wanted), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)

    def test_no_more_than_a_slice_of_logits_exists_at_a_time(self) -> None:
        head = SegmentationHead(D, CODING.complement).double()
        seen: list[int] = []
        head.linear.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
        saved: list[tuple[int, ...]] = []
        states = hidden(100, 1)
        keep: Callable[[Tensor], Tensor] = lambda t: saved.append(tuple(t.shape)) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss = head.loss(torch.zeros(1, 100, dtype=torch.int8), states, size=10)
        assert seen == [10] * 10
        assert not [shape for shape in saved if shape[-1:] == (7,) and len(shape) > 1]
        loss.backward()
        assert seen == [10] * 20  # each slice was computed again

    def test_nothing_known_gives_no_loss_and_no_gradient(self) -> None:
        head = SegmentationHead(D, CODING.complement).double()
        states = hidden()
        loss = head.loss(torch.full((3, 30), UNKNOWN), states)
        assert loss.item() == 0
        assert not gradients(loss, states)[0].any()

    def test_labels_of_another_length(self) -> None:
        head = SegmentationHead(D, CODING.complement).double()
        with pytest.raises(UserError, match=r"labels: expected \(3, 30\), got \(3, 29\)"):
            head.loss(torch.zeros(3, 29, dtype=torch.int8), hidden())

    def test_exchanging_the_strands_swaps_the_scores(self) -> None:
        head = SegmentationHead(D, CODING.complement).double()
        one, other = hidden(), hidden()
        torch.testing.assert_close(head(one, other), head(other, one)[..., list(CODING.complement)])


class TestTrackHead:
    @staticmethod
    def whole(head: TrackHead, targets: Tensor, states: Tensor) -> Tensor:
        """The mean over known values, bin by bin and value by value."""
        losses = []
        for row, truth in zip(states, targets, strict=True):
            for b, values in enumerate(truth):
                mean = row[b * head.bin_size : (b + 1) * head.bin_size].mean(0)
                found = head.linear.weight @ mean + head.linear.bias
                for value, target in zip(found, values, strict=True):
                    if target.isnan():
                        continue
                    if head.kind == "mse":
                        losses.append((value - target) ** 2)
                    else:
                        losses.append(F.poisson_nll_loss(F.softplus(value), target, log_input=False, eps=0))
        return torch.stack(losses).mean()

    @pytest.mark.parametrize("kind", ["poisson", "mse"])
    @pytest.mark.parametrize(("bin_size", "size"), [(1, 7), (5, 10), (5, 12), (5, 2), (15, 1000)])
    def test_slices_have_the_loss_and_gradients_of_the_whole(
        self, kind: Any, bin_size: int, size: int
    ) -> None:
        head = TrackHead(D, 2, bin_size, kind).double()
        states = hidden(30, 2)
        targets = torch.poisson(torch.full((2, 30 // bin_size, 2), 2.0, dtype=torch.float64))
        targets[0, 0, 1] = targets[1, -1] = torch.nan
        loss, expected = head.loss(targets, states, size=size), self.whole(head, targets, states)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        wanted = [states, *head.parameters()]
        for ours, theirs in zip(gradients(loss, *wanted), gradients(expected, *wanted), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)

    def test_both_strands_are_averaged(self) -> None:
        head = TrackHead(D, 3, 5).double()
        one, other = hidden(), hidden()
        assert (head(one) > 0).all()
        torch.testing.assert_close(head(one, other), (head(one) + head(other)) / 2)
        assert head.loss(torch.full((3, 6, 3), torch.nan), one, other).item() == 0

    def test_what_does_not_fit(self) -> None:
        head = TrackHead(D, 3, 7)
        with pytest.raises(UserError, match="a whole number of bins of 7 positions, got 30"):
            head(torch.zeros(1, 30, D))
        with pytest.raises(UserError, match=r"targets: expected shape \(1, 4, 3\), got \(1, 4, 2\)"):
            head.loss(torch.zeros(1, 4, 2), torch.zeros(1, 28, D))
        for wrong in ({"targets": 0}, {"bin_size": 0}, {"loss": "l1"}):
            with pytest.raises(UserError, match=next(iter(wrong))):
                TrackHead(D, **{"targets": 1, **wrong})  # type: ignore[arg-type]


def test_exchanging_the_alleles_changes_the_sign() -> None:
    head = PairedAlleleHead(D, 2)
    one, other = torch.randn(4, D), torch.randn(4, D)
    assert torch.equal(head(one, other), -head(other, one))
    assert not head(one, one).any()
    assert head(one, other).any()


def test_slices_of_no_positions() -> None:
    with pytest.raises(UserError, match="size: expected a whole number >= 1, got 0"):
        sum_of_slices(lambda x: x.sum(), torch.ones(1, 3), size=0)
