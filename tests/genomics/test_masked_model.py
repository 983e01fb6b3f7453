from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import seqmamba
from genomics.alphabet import PAD, A, C, G, N, T
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.vocabulary import PLANT_CADUCEUS, Vocabulary
from seqmamba.backbones import BackboneConfig
from seqmamba.backbones.activations import LONG, ActivationPlan
from seqmamba.backbones.memory_budget import set_memory_budget
from seqmamba.errors import UserError

BACKBONE = BackboneConfig(d_model=12, n_layers=2, d_state=4, direction="bidirectional", scan_impl="chunked")


def build(vocabulary: Vocabulary | None = None, **options: bool) -> MaskedModel:
    torch.manual_seed(0)
    config = (
        MaskedModelConfig(BACKBONE, vocabulary, **options)
        if vocabulary
        else MaskedModelConfig(BACKBONE, **options)
    )
    model = MaskedModel(config).eval()
    torch.nn.init.normal_(model.language_model.embedding.weight)  # as large as after training
    return model


def bases(*shape: int) -> Tensor:
    return torch.randint(A, N + 1, shape, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 33])
@pytest.mark.parametrize("vocabulary", [None, PLANT_CADUCEUS])
def test_both_strands_give_the_same_turned_round(length: int, vocabulary: Vocabulary | None) -> None:
    model = build(vocabulary)
    tokens = model.example_input(3, length, torch.Generator().manual_seed(1))
    other = reverse_complement_tokens(tokens, complement=model.complement)
    logits = model(tokens)
    assert (model(other).flip(1)[..., model.complement] - logits).abs().max() < 1e-5
    assert (model.features(other).flip(1, 2) - model.features(tokens)).abs().max() < 1e-5
    assert (model.embed(other) - model.embed(tokens)).abs().max() < 1e-5
    error = model.symmetry_error(3, length)
    assert error is not None
    assert error < 1e-5


def test_the_measured_symmetry_error_sees_a_broken_symmetry() -> None:
    model = build()
    broken = model.complement.clone()
    broken[[A, C]] = torch.tensor([C, A])  # not the pairs of the backward direction any more
    model.complement = broken
    assert (model.symmetry_error(2, 20) or 0) > 0.1


@torch.no_grad()
def test_without_equivariance_the_strands_differ_and_nothing_is_doubled() -> None:
    model = build(equivariant=False)
    tokens = bases(2, 21)
    other = reverse_complement_tokens(tokens)
    assert model.features(tokens).shape == (2, 21, 12)
    assert (mirror(model(other))[..., model.complement] - model(tokens)).abs().max() > 0.1
    assert torch.equal(model(tokens), model.language_model(tokens))
    assert torch.equal(model.embed(tokens), model.features(tokens).mean(dim=1))
    assert model.symmetry_error(2, 20) is None


@torch.no_grad()
def test_the_halves_of_the_features_are_the_two_strands() -> None:
    model = build()
    tokens = bases(2, 15)
    given, other = model.features(tokens).chunk(2, dim=-1)
    single = model.language_model
    assert (given - model.backbone(single.embedding(tokens))).abs().max() < 1e-6
    other_strand = model.backbone(single.embedding(reverse_complement_tokens(tokens)))
    assert (other - other_strand.flip(1, 2)).abs().max() < 1e-6
    assert (model.embed(tokens) - (given + other.flip(-1)).mean(dim=1) / 2).abs().max() < 1e-6


def test_the_stack_runs_once_over_twice_the_batch() -> None:
    model, shapes = build(), []
    model.backbone.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    model(bases(3, 8))
    assert shapes == [(6, 8, 12)]


@torch.no_grad()
@pytest.mark.parametrize("equivariant", [True, False])
def test_padding_never_matters(equivariant: bool) -> None:
    model = build(equivariant=equivariant)
    lengths = torch.tensor([20, 7, 1])
    tokens = bases(3, 20)  # real bases where the padding is: only the lengths say what counts
    for function in (model, model.features, model.embed):
        together = function(tokens, lengths)
        wider = function(torch.nn.functional.pad(tokens, (0, 5), value=PAD), lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = function(tokens[row : row + 1, :length])[0]
            per_base = slice(None) if alone.ndim == 1 else slice(length)
            assert (together[row, per_base] - alone).abs().max() < 1e-5
            assert (wider[row, per_base] - alone).abs().max() < 1e-5


@pytest.mark.parametrize("way", ["apart", "again"])
@pytest.mark.parametrize("padded", [False, True])
def test_strands_in_turn_give_what_they_give_together(
    way: str, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    tokens = bases(2, 17)
    lengths = torch.tensor([17, 11]) if padded else None
    found = []
    for each in ("together", way):
        set_memory_budget(model, 2**30)
        monkeypatch.setattr(model, "_way", lambda *_, each=each: each)
        monkeypatch.setattr(model.backbone, "activation_plan", lambda *_: ActivationPlan(2))
        logits = model(tokens, lengths)
        model.zero_grad()
        logits[:, :11].square().sum().backward()
        found.append([logits.detach()[:, :11], *(x.grad for x in model.parameters())])
    for together, in_turn in zip(*found, strict=True):
        torch.testing.assert_close(in_turn, together, atol=1e-4, rtol=1e-4)


def test_how_strands_are_read_follows_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    assert model._way(bases(1, 5)) == "together"
    set_memory_budget(model, 2**30)
    assert model.backbone.memory is not None
    memory = model.backbone.memory
    for all_kept, both_fit, in_turn_fit, expected in (
        (True, True, True, "together"),
        (False, True, True, "apart"),
        (False, False, True, "apart"),
        (False, True, False, "together"),
        (False, False, False, "again"),
    ):

        def plan(x: Tensor, *flags: bool) -> ActivationPlan:
            assert memory.turns == 3 - len(x)
            return ActivationPlan(0 if flags[0] else 2, fits=flags[len(x) % 2 + 1])

        flags = (all_kept, both_fit, in_turn_fit)
        monkeypatch.setattr(model.backbone, "activation_plan", lambda x, f=flags, plan=plan: plan(x, *f))
        assert model._way(bases(1, LONG)) == expected
        # two short ones take the host as long as two long ones
        assert model._way(bases(1, 100)) == ("together" if both_fit else expected)
    with torch.no_grad():
        assert model._way(bases(1, LONG)) == "together"


def test_gradients_reach_the_shared_weights_from_both_strands() -> None:
    model = build()
    tokens = torch.full((1, 6), A)  # its complement is all T
    model(tokens).square().sum().backward()
    gradient = model.language_model.embedding.weight.grad
    assert gradient is not None
    assert (gradient[[A, T]].abs().sum(dim=1) > 0).all()
    assert model.language_model.lm_head is not None
    assert model.language_model.lm_head.weight is model.language_model.embedding.weight


@pytest.mark.parametrize("padded", [True, False])
def test_compiles_as_one_graph(padded: bool) -> None:
    model = build()
    tokens, lengths = bases(2, 10), torch.tensor([10, 6]) if padded else None
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert (compiled(tokens, lengths) - model(tokens, lengths)).abs().max() < 1e-5


def test_logits_are_float32_under_autocast_and_float64_in_a_float64_model() -> None:
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(bases(1, 5)).dtype == torch.float32
    assert model.double()(bases(1, 5)).dtype == torch.float64


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_saves_and_loads(tie_embeddings: bool, tmp_path: Path) -> None:
    model = build(PLANT_CADUCEUS, tie_embeddings=tie_embeddings)
    model.save_pretrained(tmp_path)
    again = seqmamba.from_pretrained(tmp_path)
    assert isinstance(again, MaskedModel)
    assert again.config == model.config
    tokens = model.example_input(2, 9, torch.Generator())
    assert torch.equal(again(tokens), model(tokens))


def test_tokenises_letters_for_a_batch() -> None:
    model = build()
    tokens, lengths = model.tokenise(["ACGTn", b"uR"])
    assert tokens.tolist() == [[A, C, G, T, N], [T, N, PAD, PAD, PAD]]
    assert lengths.tolist() == [5, 2]
    assert model(tokens, lengths).shape == (2, 5, 16)


def test_messages() -> None:
    model = build()
    with pytest.raises(UserError, match=r"backbone\.direction: expected bidirectional.*'causal'"):
        MaskedModelConfig(BackboneConfig(d_model=4, n_layers=1))
    with pytest.raises(UserError, match="equivariant: expected true or false, got 1"):
        MaskedModelConfig(BACKBONE, equivariant=1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"tokens: expected whole numbers .* got torch.float32 \(2, 3\)"):
        model(torch.zeros(2, 3))
    with pytest.raises(UserError, match=r"tokens: expected .* got torch.int64 \(2, 0\)"):
        model(torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(UserError, match=r"lengths: expected whole numbers \(2,\), got torch.int64 \(1, 2\)"):
        model.features(bases(2, 3), torch.tensor([[3, 3]]))
    with pytest.raises(UserError, match="sequences: expected at least one"):
        model.tokenise([])
    with pytest.raises(UserError, match="sequences: expected at least one, of at least one base each"):
        model.tokenise(["ACG", ""])
    with pytest.raises(UserError, match="'X' is not a DNA letter"):
        model.tokenise(["AXG"])


@pytest.mark.gpu
@torch.no_grad()
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(d_model=64, n_layers=4, direction="bidirectional")
    model = MaskedModel(MaskedModelConfig(backbone)).eval()
    tokens, lengths = bases(2, 1001), torch.tensor([1001, 640])
    expected = model(tokens, lengths)
    on_gpu = model.cuda()(tokens.cuda(), lengths.cuda()).cpu()
    real = torch.arange(1001) < lengths[:, None]
    assert (on_gpu - expected)[real].abs().max() < 1e-3
    assert (model.symmetry_error(2, 1001) or 0) < 1e-4
