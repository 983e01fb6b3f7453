"""Gradients of long sequences from their segments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor
from torch.nn import functional as F

from seqmamba import BackboneConfig, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.distributed import ContextGroup
from seqmamba.errors import UserError
from seqmamba.nn.options import AttentionOptions, Mamba2Options
from seqmamba.training.segments import CarriedState, segmented_loss

LENGTH = 96
MIXERS: list[Any] = ["mamba", "mamba2", "s4", "gru", ("mamba", "attention+mlp")]


def model_of(mixer: Any, dropout: float = 0.0) -> LanguageModel:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "mamba2": Mamba2Options(d_state=16, head_dim=8),
        "attention": AttentionOptions(n_heads=2),
    }
    backbone = BackboneConfig(16, 2, mixer=mixer, direction="causal", dropout=dropout, **options)
    return LanguageModel(LanguageModelConfig(backbone, vocab_size=7)).double()


def loss_of(model: LanguageModel, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Next-token loss of a stretch that brings one token more, for its last target."""
    logits, state = model(tokens[:, :-1], state=state, return_state=True)
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"), state


def in_segments(model: LanguageModel, tokens: Tensor, size: int, **options: Any) -> Any:
    starts = range(0, tokens.shape[1] - 1, size)

    def segment(number: int, state: Any) -> tuple[Tensor, Any]:
        return loss_of(model, tokens[:, starts[number] : starts[number] + size + 1], state)

    state = model.init_state(len(tokens))
    return segmented_loss(segment, len(starts), state, model.parameters(), **options)


def gradients(model: LanguageModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("mixer", MIXERS, ids=str)
@pytest.mark.parametrize("size", [LENGTH, 40, 7])
def test_segments_give_the_gradient_of_the_whole(mixer: Any, size: int) -> None:
    model, tokens = model_of(mixer), torch.randint(7, (3, LENGTH + 1))
    whole, last = loss_of(model, tokens, model.init_state(3))
    expected = gradients(model, whole)
    found = in_segments(model, tokens, size)
    assert found.loss.item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(found.state, last, rtol=1e-9, atol=1e-10)
    got = gradients(model, found.loss)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_stages_whose_frames_cross_the_borders_agree_too() -> None:
    torch.manual_seed(0)
    stages = MultiScaleConfig(BackboneConfig(8, 1, mixer="s4+mlp"), inner_mixers=("s4+mlp", "mamba"))
    model = LanguageModel(LanguageModelConfig(stages, vocab_size=7)).double()
    tokens = torch.randint(7, (2, LENGTH + 1))
    expected = gradients(model, loss_of(model, tokens, model.init_state(2))[0])
    got = gradients(model, in_segments(model, tokens, 37).loss)
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_truncation_cuts_where_segments_meet_and_nowhere_else() -> None:
    model, tokens = model_of("mamba"), torch.randint(7, (2, LENGTH + 1))
    state, total = model.init_state(2), torch.zeros((), dtype=torch.float64)
    for start in range(0, LENGTH, 32):
        loss, state = loss_of(model, tokens[:, start : start + 33], state)
        state, total = state.detach(), total + loss
    expected = gradients(model, total)
    got = gradients(model, in_segments(model, tokens, 32, truncate=True).loss)
    exact = gradients(model, in_segments(model, tokens, 32).loss)
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    assert any((exact[name] - got[name]).abs().max() > 1e-4 for name in expected)


def test_dropout_draws_what_one_pass_draws_and_leaves_the_generator_where_it_does() -> None:
    model, tokens = model_of("mamba", dropout=0.3).train(), torch.randint(7, (2, LENGTH + 1))
    state, total = model.init_state(2), torch.zeros((), dtype=torch.float64)
    torch.manual_seed(5)
    for start in range(0, LENGTH, 32):  # one graph over all segments
        loss, state = loss_of(model, tokens[:, start : start + 33], state)
        total = total + loss
    after = torch.rand(1)
    expected = gradients(model, total)
    torch.manual_seed(5)
    found = in_segments(model, tokens, 32)
    assert torch.equal(torch.rand(1), after)
    for name, gradient in gradients(model, found.loss).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-9, msg=name)


def test_losses_scale_accumulate_and_spare_what_is_frozen() -> None:
    model, tokens = model_of("mamba"), torch.randint(7, (2, LENGTH + 1))
    model.backbone.requires_grad_(False)
    expected = gradients(model, in_segments(model, tokens, 32).loss)
    assert not any(name.startswith("backbone.") for name in expected)
    model.zero_grad()
    (in_segments(model, tokens, 32).loss * 0.5).backward()
    (in_segments(model, tokens, 48).loss * 0.25).backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, 0.75 * expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("truncate", [False, True])
def test_parameters_that_are_added_to_each_other_have_gradients_of_their_own(truncate: bool) -> None:
    x, one, other = torch.randn(4, 3), torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)

    def segment(number: int, state: Any) -> tuple[Tensor, Any]:
        return ((one + other) * x[number]).sum(), state

    segmented_loss(segment, 4, None, [one, other], truncate=truncate).loss.backward()
    torch.testing.assert_close(one.grad, x.sum(dim=0))
    torch.testing.assert_close(other.grad, x.sum(dim=0))


def test_memory_is_that_of_a_segment() -> None:
    model = model_of("mamba")

    def held(size: int, length: int) -> int:
        tokens, most, now = torch.randint(7, (1, length + 1)), 0, 0

        def pack(x: Tensor) -> tuple[Tensor, int]:
            nonlocal most, now
            now += x.nbytes
            most = max(most, now)
            return x, x.nbytes

        def unpack(packed: tuple[Tensor, int]) -> Tensor:
            nonlocal now
            now -= packed[1]
            return packed[0]

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            in_segments(model, tokens, size).loss.backward()
        return most

    one = held(64, 64)
    assert held(64, 1024) < 1.5 * one
    assert held(1024, 1024) > 8 * one


def test_no_segment_is_refused() -> None:
    model = model_of("mamba")
    with pytest.raises(UserError, match="count"):
        segmented_loss(lambda number, state: (torch.zeros(()), state), 0, None, model.parameters())


def test_rows_go_on_or_begin_anew_with_the_state_that_is_theirs() -> None:
    model, tokens = model_of("mamba"), torch.randint(7, (3, LENGTH + 1))
    carried = CarriedState()
    first = model.init_state(3)
    assert carried.begin(torch.tensor([False, True, False]), first) is first
    _, state = loss_of(model, tokens[:, :33], first)
    carried.keep(state)
    again = CarriedState()
    again.load_state_dict(carried.state_dict(), 0, 1)
    chosen = again.begin(torch.tensor([False, True, False]), model.init_state(3))
    _, found = loss_of(model, tokens[:, 32:65], chosen)
    _, whole = loss_of(model, tokens[:, :65], model.init_state(3))
    _, lone = loss_of(model, tokens[1:2, 32:65], model.init_state(1))
    torch.testing.assert_close(found.select(slice(0, 1)), whole.select(slice(0, 1)))
    torch.testing.assert_close(found.select(slice(1, 2)), lone)
    again.clear()
    assert again.begin(torch.zeros(3, dtype=torch.bool), first) is first


def kept_by_ranks(context: ContextGroup) -> tuple[list[int], list[int]]:
    carried, rows = CarriedState(), torch.full((2, 1), context.rank)
    carried.keep((rows,))
    states = carried.state_dict()
    found = []
    for count in (context.size, context.size + 1):
        again = CarriedState()
        again.load_state_dict(states, context.rank, count)
        (state,) = again.begin(torch.tensor([False, True]), (torch.full((2, 1), -1),))
        found.append(state.flatten().tolist())
    return found[0], found[1]


def test_each_process_keeps_its_own_rows_in_a_checkpoint() -> None:
    assert run_on_ranks(2, kept_by_ranks) == [([0, -1], [-1, -1]), ([1, -1], [-1, -1])]


def test_other_numbers_of_processes_share_out_all_rows() -> None:
    states = [(torch.arange(4).view(2, 2) + 4 * process, "same") for process in range(2)]
    rows = []
    for count in (4, 1):
        for place in range(count):
            carried, initial = CarriedState(), (torch.full((4 // count, 2), -1), "same")
            carried.load_state_dict(states, place, count)
            rows += carried.begin(torch.zeros(4 // count, dtype=torch.bool), initial)[0].tolist()
            more = (torch.full((3, 2), -1), "same")  # of another number of rows: all begin anew
            assert carried.begin(torch.zeros(3, dtype=torch.bool), more) is more
    assert rows == 2 * [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_states_that_grow_cannot_be_carried() -> None:
    model, tokens = model_of(("mamba", "attention+mlp")), torch.randint(7, (2, 33))
    carried = CarriedState()
    carried.keep(loss_of(model, tokens, model.init_state(2))[1])
    with pytest.raises(UserError, match="states of one size"):
        carried.begin(torch.zeros(2, dtype=torch.bool), model.init_state(2))
