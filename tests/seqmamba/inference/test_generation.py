"""Generation against scoring the whole sequence at once, for every model there is."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from causal_models import BACKBONES, GROWING, VOCABULARY, language_model, prompt
from torch.utils._pytree import tree_leaves

from seqmamba.backbones import Backbone, BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.errors import UserError
from seqmamba.inference import (
    Decoder,
    SamplingConfig,
    StopRule,
    begin,
    draw,
    generate,
    generate_blocks,
    prefill,
)
from seqmamba.inference.philox import uniforms
from seqmamba.nn.state import concatenate_states, describe_state

each_model = pytest.mark.parametrize("name", BACKBONES)
SAMPLING = SamplingConfig(temperature=0.9, top_k=8, top_p=0.95, seed=3)


def tokens_of(blocks):
    return torch.cat([block.tokens for block in blocks], dim=1)


@each_model
@pytest.mark.parametrize("length", [1, 2, 9])
def test_it_draws_from_the_logits_of_the_whole_sequence(name, length):
    model, start = language_model(name).eval(), prompt(3, length)
    (block,) = generate_blocks(model, begin(model, start), n_tokens=20, block=20, sampling=SAMPLING)
    with torch.no_grad():
        logits = model(torch.cat([start, block.tokens], dim=1))[:, length - 1 : -1]
    numbers = uniforms(3, torch.arange(3), (length + torch.arange(20)).expand(3, 20))
    expected = draw(logits.flatten(0, 1), numbers.flatten(), SAMPLING)
    assert torch.equal(block.tokens.flatten(), expected.tokens)
    torch.testing.assert_close(block.log_probs.flatten(), expected.log_probs, atol=1e-4, rtol=0)
    sampled = block.sampled_log_probs.flatten()
    torch.testing.assert_close(sampled, expected.sampled_log_probs, atol=1e-4, rtol=0)
    assert block.drawn.tolist() == [20, 20, 20]
    assert len(block.tokens.unique()) > 3


@each_model
def test_the_cut_into_blocks_does_not_matter(name):
    model = language_model(name)
    start = begin(model, prompt(2, 5))
    whole = tokens_of(generate_blocks(model, start, n_tokens=23, sampling=SAMPLING))
    for block in (1, 4, 7):
        cut = generate_blocks(model, start, n_tokens=23, block=block, sampling=SAMPLING)
        assert torch.equal(tokens_of(cut), whole)


@each_model
def test_the_batch_does_not_matter(name):
    model, start = language_model(name), prompt(3, 4)
    together = generate(model, start, n_tokens=15, sampling=SAMPLING)
    for row in range(3):
        alone = begin(model, start[row : row + 1], first_row=row)
        assert torch.equal(
            tokens_of(generate_blocks(model, alone, n_tokens=15, sampling=SAMPLING))[0], together[row]
        )


@each_model
def test_it_restarts_from_the_state_of_any_block(name):
    model = language_model(name)
    blocks = list(generate_blocks(model, begin(model, prompt(2, 3)), n_tokens=20, block=5, sampling=SAMPLING))
    for index, block in enumerate(blocks[:-1]):
        later = generate_blocks(model, block.state, n_tokens=20 - 5 * (index + 1), sampling=SAMPLING)
        assert torch.equal(tokens_of(later), tokens_of(blocks[index + 1 :]))
    other = SamplingConfig(temperature=0.9, top_k=8, top_p=0.95, seed=4)
    elsewhere = generate_blocks(model, blocks[1].state, n_tokens=10, sampling=other)
    assert not torch.equal(tokens_of(elsewhere), tokens_of(blocks[2:]))


@each_model
def test_a_prompt_is_taken_in_at_once_or_in_chunks(name):
    model, start = language_model(name).eval(), prompt(2, 13)
    with torch.no_grad():
        whole, expected = model(start, return_state=True)
        for chunk in (1, 5, 13, 64):
            last, state = prefill(model, start, chunk=chunk)
            torch.testing.assert_close(last, whole[:, -1:], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(state, expected, atol=1e-5, rtol=1e-5)
    out = [
        tokens_of(generate_blocks(model, begin(model, start, chunk=chunk), n_tokens=9)) for chunk in (4, 99)
    ]
    assert torch.equal(*out)


def test_a_prompt_of_features_is_taken_in_too():
    backbone, x = language_model("mamba").backbone, torch.randn(2, 9, 8)
    with torch.no_grad():
        last, _ = prefill(backbone, x, chunk=4)
        torch.testing.assert_close(last, backbone(x)[:, -1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mamba", "multiscale"])
def test_one_prefix_is_continued_in_many_ways(name):
    model, start = language_model(name), prompt(1, 6)
    many = generate(model, start, n_tokens=12, batch_size=4)
    assert torch.equal(many, generate(model, start.expand(4, 6), n_tokens=12))
    assert len(many.unique(dim=0)) == 4
    copies = begin(model, start).repeat(4)
    assert torch.equal(tokens_of(generate_blocks(model, copies, n_tokens=12)), many)


@pytest.mark.parametrize("name", ["mamba", "multiscale", "mamba-attention"])
def test_rows_leave_and_join_between_blocks(name):
    model = language_model(name)
    first = next(generate_blocks(model, begin(model, prompt(3, 4)), block=6)).state
    whole = tokens_of(generate_blocks(model, first, n_tokens=9))
    rows = torch.tensor([2, 0])
    assert torch.equal(tokens_of(generate_blocks(model, first.select(rows), n_tokens=9)), whole[rows])
    joined = concatenate_states([first.select(slice(1)), first.select(slice(1, 3))])
    assert torch.equal(tokens_of(generate_blocks(model, joined, n_tokens=9)), whole)


def test_without_a_prompt_the_start_token_stands_before_the_first():
    model = language_model("mamba")
    zeros, greedy = torch.zeros(2, 1, dtype=torch.int32), SamplingConfig(temperature=0)
    expected = generate(model, zeros, n_tokens=8, sampling=greedy)
    assert torch.equal(generate(model, n_tokens=8, batch_size=2, sampling=greedy), expected)
    assert begin(model, start_token=4).tokens.tolist() == [4]
    assert generate(model, n_tokens=3).shape == (1, 3)


def test_a_greedy_run_takes_the_likeliest():
    model = language_model("multiscale").eval()
    start = prompt(2, 4)
    tokens = generate(model, start, n_tokens=15, sampling=SamplingConfig(temperature=0))
    with torch.no_grad():
        logits = model(torch.cat([start, tokens], dim=1))[:, 3:-1]
    assert torch.equal(tokens, logits.argmax(-1))


def stopped(name, rule, n_tokens=40, block=6):
    model = language_model(name)
    start = begin(model, prompt(4, 3))
    free = tokens_of(generate_blocks(model, start, n_tokens=n_tokens))
    return free, list(generate_blocks(model, start, n_tokens=n_tokens, stop=rule, block=block))


@pytest.mark.parametrize("name", ["mamba", "multiscale"])
def test_stop_tokens_end_their_row_alone(name):
    rule = StopRule(tokens=(1, 2), pad=5)
    free, blocks = stopped(name, rule)
    tokens, drawn = tokens_of(blocks), sum(block.drawn for block in blocks)
    ends = [next((t for t, token in enumerate(row) if token in (1, 2)), 99) + 1 for row in free.tolist()]
    assert max(ends) < 40  # all end, so that generation ends with the block in which the last one does
    assert len(set(ends)) > 1
    assert tokens.shape[1] == -(-max(ends) // 6) * 6
    assert drawn.tolist() == ends
    for row, end in enumerate(ends):
        assert torch.equal(tokens[row, :end], free[row, :end])
        assert (tokens[row, end:] == 5).all()
        log_probs = torch.cat([block.log_probs for block in blocks], dim=1)[row]
        assert (log_probs[:end] < 0).all()
        assert (log_probs[end:] == 0).all()
    assert blocks[-1].state.done.all()


def test_a_row_that_ended_stays_ended_in_a_later_run():
    rule = StopRule(tokens=(1, 2), pad=5)
    model = language_model("mamba")
    block = next(generate_blocks(model, begin(model, prompt(4, 3)), stop=rule, block=3))
    assert 0 < int(block.state.done.sum()) < 4
    later = next(generate_blocks(model, block.state, stop=rule, block=3))
    assert (later.tokens[block.state.done] == 5).all()
    assert (later.drawn[block.state.done] == 0).all()
    assert (later.drawn[~block.state.done] > 0).all()
    unstopped = next(generate_blocks(model, block.state, block=3))
    assert (unstopped.log_probs < 0).all()
    assert (unstopped.sampled_log_probs < 0).all()


def test_a_padding_token_that_stops_does_not_count_twice():
    _, blocks = stopped("mamba", StopRule(tokens=(1,), pad=1), block=5)
    tokens, drawn = tokens_of(blocks), sum(block.drawn for block in blocks)
    for row, count in zip(tokens.tolist(), drawn.tolist(), strict=True):
        assert count == (row.index(1) + 1 if 1 in row else len(row))


def test_a_callable_sees_every_block_and_ends_the_run():
    model, seen = language_model("mamba"), []

    def enough(block):
        seen.append(block.tokens)
        return len(seen) == 3

    tokens = generate(model, n_tokens=100, block=4, on_block=enough)
    assert tokens.shape == (1, 12)
    assert torch.equal(tokens, torch.cat(seen, dim=1))
    blocks = []
    assert generate(model, n_tokens=10, block=4, on_block=blocks.append).shape == (1, 10)
    assert [block.tokens.shape[1] for block in blocks] == [4, 4, 2]


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in GROWING])
def test_it_runs_on_in_constant_memory_until_the_caller_has_enough(name):
    model = language_model(name)
    period = 6
    forms = [
        describe_state(block.state)
        for block in islice(generate_blocks(model, begin(model, batch_size=2), block=period), 5)
    ]
    assert all(form == forms[0] for form in forms)
    assert forms[0] == describe_state(begin(model, batch_size=2))


def test_dropout_is_off_while_it_draws_and_as_it_was_between():
    config = BackboneConfig(8, 2, d_state=4, dropout=0.5)
    model = language_model("", backbone=config).train()
    model.backbone.layers[0].eval()
    start = begin(model, prompt(2, 5))
    blocks = generate_blocks(model, start, block=10)
    first = next(blocks)
    assert model.training
    assert [layer.training for layer in model.backbone.layers] == [False, True]
    assert torch.equal(first.tokens, next(generate_blocks(model.eval(), start, block=10)).tokens)


def test_the_start_is_not_changed_and_blocks_may_take_part_in_training():
    model = language_model("multiscale")
    start = begin(model, prompt(2, 5))
    copy = start.clone()
    block = next(generate_blocks(model, start, block=7))
    for x, y in zip(tree_leaves(start), tree_leaves(copy), strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
    assert not any(x.is_inference() for x in tree_leaves(block) if isinstance(x, torch.Tensor))
    logits = model(block.tokens, state=block.state.model)
    logits.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    model = language_model("mamba").to(dtype)
    block = next(generate_blocks(model, begin(model, prompt(2, 5)), block=7))
    assert block.tokens.shape == (2, 7)
    states = {x.dtype for x in tree_leaves(block.state.model)}
    assert states == {torch.float64 if dtype == torch.float64 else torch.float32}


def test_a_model_that_has_diverged_says_so():
    model = language_model("mamba")
    with torch.no_grad():
        model.lm_head.weight[3, 0] = torch.nan
    with pytest.raises(UserError, match="the model's logits are not finite"):
        generate(model, n_tokens=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tokens": 0}, "n_tokens: expected a whole number >= 1, got 0"),
        ({"n_tokens": 3, "block": 0}, "block: expected a whole number >= 1, got 0"),
        ({"n_tokens": 3, "batch_size": 0}, "batch_size: expected a whole number >= 1, got 0"),
        (
            {"n_tokens": 3, "prompt": prompt(2, 3), "batch_size": 3},
            "prompt: expected 1 or batch_size=3 rows, got 2",
        ),
        (
            {"n_tokens": 3, "prompt": torch.zeros(2, 0).long()},
            r"prompt: expected \(batch, length >= 1\), got \(2, 0\)",
        ),
        (
            {"n_tokens": 3, "prompt": torch.zeros(4).long()},
            r"prompt: expected \(batch, length >= 1\), got \(4,\)",
        ),
        (
            {"n_tokens": 3, "prompt": torch.zeros(1, 2)},
            "prompt: expected whole numbers from 0 to 10, got torch.float32",
        ),
        (
            {"n_tokens": 3, "prompt": torch.tensor([[0, 11]])},
            "prompt: expected token ids from 0 to 10, got 0 to 11",
        ),
        (
            {"n_tokens": 3, "stop": StopRule(tokens=(VOCABULARY,))},
            "stop: expected token ids from 0 to 10, got 0 to 11",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        generate(language_model("mamba"), **arguments)


def test_more_arguments_out_of_range():
    model = language_model("mamba")
    with pytest.raises(UserError, match="start_token: expected token ids from 0 to 10, got -1 to -1"):
        begin(model, start_token=-1)
    with pytest.raises(UserError, match=r"prompt: expected \(batch, length >= 1\), got \(\)"):
        begin(model, torch.tensor(3))
    with pytest.raises(UserError, match="first_row: expected a whole number >= 0, got -1"):
        begin(model, first_row=-1)
    with pytest.raises(UserError, match="chunk: expected a whole number >= 1, got 0"):
        begin(model, prompt(1, 5), chunk=0)
    with pytest.raises(UserError, match="tokens: expected a tuple of token ids, got 3"):
        StopRule(tokens=3)
    with pytest.raises(UserError, match="pad: expected a token id, got -1"):
        StopRule(pad=-1)
    with pytest.raises(UserError, match="n_tokens: expected a whole number >= 1, got 0"):
        generate_blocks(model, begin(model), n_tokens=0)  # at the call, not at the first block
    with pytest.raises(UserError, match="n_tokens: expected a whole number >= 1, got 0"):
        Decoder(model, begin(model)).advance(0)


def test_what_gives_no_logits_generates_nothing():
    stack = BackboneConfig(d_model=8, n_layers=1)
    with pytest.raises(UserError, match="model: expected a language model, got a Backbone"):
        generate(Backbone(stack), n_tokens=2)
    headless = LanguageModel(LanguageModelConfig(stack, vocab_size=5, head=False))
    with pytest.raises(UserError, match="model: expected a language model with a head"):
        generate(headless, n_tokens=2)


def test_a_bidirectional_model_generates_nothing():
    model = language_model("", backbone=BackboneConfig(8, 1, direction="bidirectional"))
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        generate(model, n_tokens=2)
