from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from genomics.alphabet import PAD, VOCAB_SIZE, A, N, T
from genomics.augmentation import AugmentationConfig, augment, mix
from seqmamba.errors import UserError


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def sequences(batch: int = 64, length: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(A, T + 1, (batch, length))
    lengths = torch.randint(1, length + 1, (batch,))
    for row, true in zip(tokens, lengths.tolist(), strict=True):
        row[true:] = PAD
    return tokens, lengths


def test_nothing_is_changed_unless_asked() -> None:
    tokens, lengths = sequences()
    assert augment(tokens, lengths, AugmentationConfig()) is tokens


@pytest.mark.parametrize("padded", [True, False])
def test_mutations_are_as_many_as_asked_and_only_bases(padded: bool) -> None:
    tokens, lengths = sequences(400)
    if not padded:
        tokens, lengths = torch.full((400, 50), N), None
    changed = augment(tokens, lengths, AugmentationConfig(mutate=0.2))
    places = changed != tokens
    assert ((changed[places] >= A) & (changed[places] <= T)).all()
    true = tokens != PAD
    assert not places[~true].any()
    expected = 0.2 * (3 / 4 if padded else 1)  # a base may be replaced by itself, an N never is
    assert places[true].float().mean().item() == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("padded", [True, False])
def test_shifts_turn_each_sequence_by_its_own_distance(padded: bool) -> None:
    tokens, lengths = sequences()
    if not padded:
        tokens, lengths = torch.randint(A, T + 1, (64, 50)), None
    shifted = augment(tokens, lengths, AugmentationConfig(shift=3))
    found = set()
    for row, new, true in zip(
        tokens, shifted, [50] * 64 if lengths is None else lengths.tolist(), strict=True
    ):
        assert torch.equal(new[true:], row[true:])
        distances = [by for by in range(-3, 4) if torch.equal(row[:true].roll(by), new[:true])]
        assert distances
        found.update(distances if len(distances) == 1 else [])
    assert found == set(range(-3, 4))


def test_mixing_keeps_half_of_each_example_and_mixes_targets_alike() -> None:
    tokens, lengths = sequences(32)
    one_hot, targets = F.one_hot(tokens, VOCAB_SIZE).float(), torch.eye(32)
    mixed, longer, labels = mix(one_hot, lengths, targets, 0.5)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(32))
    own = labels.diagonal()
    assert (own >= 0.5).all()
    assert own.min() < 0.9 < own.max()
    torch.testing.assert_close(mixed, (labels @ one_hot.flatten(1)).view_as(one_hot))
    for row, length in zip(labels, longer.tolist(), strict=True):
        assert length == lengths[row > 0].max()
    assert mix(one_hot, None, targets, 0.5)[1] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mutate": 1.5}, "augmentation.mutate"),
        ({"shift": -1}, "augmentation.shift"),
        ({"shift": 1.5}, "augmentation.shift"),
        ({"mixup": -0.1}, "augmentation.mixup"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AugmentationConfig(**options)
