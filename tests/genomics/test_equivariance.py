from __future__ import annotations

import pytest
import torch
from torch import Tensor

import genomics.equivariance
from genomics.alphabet import PAD, A, C, G, N, T, decode, encode
from genomics.equivariance import (
    conjoin,
    reverse_complement_one_hot,
    reverse_complement_some,
    reverse_complement_tokens,
)
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones import BackboneConfig

LENGTHS = torch.tensor([40, 17, 1, 25])


def random_batch(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(A, N + 1, (4, 40), generator=generator)
    return tokens.masked_fill(torch.arange(40) >= LENGTHS[:, None], PAD)


def build(strand: str, **options: object) -> SequenceModel:
    torch.manual_seed(1)
    backbone = BackboneConfig(
        d_model=16, n_layers=2, d_state=4, direction="bidirectional", scan_impl="chunked"
    )
    return SequenceModel(SequenceModelConfig(backbone, classes=("a", "b", "c"), strand=strand, **options))


def train(model: SequenceModel, steps: int = 20) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens, labels = random_batch(seed=5), torch.tensor([0, 1, 2, 0])
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens, LENGTHS), labels).backward()
        optimiser.step()


def test_reverse_complement_of_a_batch_is_that_of_each_sequence() -> None:
    tokens = torch.tensor([list(encode("ACGTN")), [*encode("AAC"), PAD, PAD]])
    other = reverse_complement_tokens(tokens, torch.tensor([5, 3]))
    assert decode(other[0]) == "NACGT"
    assert decode(other[1]) == "GTT"
    assert other[1].tolist()[3:] == [PAD, PAD]


def test_reverse_complement_without_lengths_turns_the_whole_row() -> None:
    assert reverse_complement_tokens(torch.tensor([[A, C, G]])).tolist() == [[C, G, T]]


def test_reverse_complement_is_its_own_inverse() -> None:
    tokens = random_batch()
    assert torch.equal(reverse_complement_tokens(reverse_complement_tokens(tokens, LENGTHS), LENGTHS), tokens)


def test_one_hot_rows_follow_the_tokens() -> None:
    model = build("forward")
    tokens = random_batch()
    turned = reverse_complement_one_hot(model.one_hot(tokens), LENGTHS)
    assert torch.equal(turned, model.one_hot(reverse_complement_tokens(tokens, LENGTHS)))


def test_augmentation_turns_the_chosen_sequences_only() -> None:
    tokens = random_batch()
    some = reverse_complement_some(tokens, LENGTHS, torch.tensor([True, False, False, True]))
    both = reverse_complement_tokens(tokens, LENGTHS)
    assert torch.equal(some[[0, 3]], both[[0, 3]])
    assert torch.equal(some[[1, 2]], tokens[[1, 2]])


def test_conjoining_averages_the_two_strands() -> None:
    one_hot = torch.eye(16)[random_batch()]
    weights = torch.arange(40.0)

    def ramp(rows: Tensor, lengths: Tensor | None) -> Tensor:
        return (rows[..., A] * weights).sum(dim=1)

    expected = (ramp(one_hot, None) + ramp(reverse_complement_one_hot(one_hot, LENGTHS), None)) / 2
    assert torch.allclose(conjoin(ramp, one_hot, LENGTHS), expected)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_strands_one_after_the_other_give_the_same_gradients(
    lengths: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("equivariant").double().eval()
    found = []
    for apart_from in (4 * 40 + 1, 4 * 40):
        monkeypatch.setattr(genomics.equivariance, "APART_FROM", apart_from)
        one_hot = model.one_hot(random_batch()).requires_grad_()
        logits = model.forward_embedded(one_hot, lengths)
        found.append((logits, *torch.autograd.grad(logits.logsumexp(-1).sum(), (one_hot, model.head.weight))))
    for side_by_side, one_by_one in zip(*found, strict=True):
        torch.testing.assert_close(one_by_one, side_by_side, atol=1e-10, rtol=1e-8)
    assert found[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
@pytest.mark.parametrize("trained", [False, True])
def test_equivariant_logits_do_not_depend_on_the_strand(pooling: str, trained: bool) -> None:
    model = build("equivariant", pooling=pooling, dropout=0.0)
    if trained:
        train(model)
    tokens = random_batch()
    other = reverse_complement_tokens(tokens, LENGTHS)
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            logits, turned = model(tokens, LENGTHS), model(other, LENGTHS)
        assert (logits - turned).abs().max() < 1e-5
        assert (logits[0] - logits[1]).abs().max() > 1e-3  # not because it says the same of everything


def test_equivariant_embeddings_do_not_depend_on_the_strand() -> None:
    model = build("equivariant").eval()
    tokens = random_batch()
    with torch.no_grad():
        one = model.embed(tokens, LENGTHS)
        two = model.embed(reverse_complement_tokens(tokens, LENGTHS), LENGTHS)
    assert (one - two).abs().max() < 1e-5


def test_conjoined_model_averages_strands_outside_training_only() -> None:
    model = build("conjoin", dropout=0.0)
    tokens = random_batch()
    other = reverse_complement_tokens(tokens, LENGTHS)
    with torch.no_grad():
        single, turned = model.train()(tokens, LENGTHS), model(other, LENGTHS)
        averaged = model.eval()(tokens, LENGTHS)
        assert (averaged - model(other, LENGTHS)).abs().max() < 1e-5
    assert (single - turned).abs().max() > 1e-3
    assert torch.allclose(averaged, (single + turned) / 2, atol=1e-6)


def test_forward_model_sees_the_strand() -> None:
    model = build("forward").eval()
    tokens = random_batch()
    with torch.no_grad():
        difference = model(tokens, LENGTHS) - model(reverse_complement_tokens(tokens, LENGTHS), LENGTHS)
    assert difference.abs().max() > 1e-3
