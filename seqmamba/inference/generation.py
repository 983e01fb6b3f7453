"""Generation from a language model: all at once, or block by block while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from seqmamba.inference.decoding import Decoder, Generation, TokenBlock
from seqmamba.inference.model import TokenModel, evaluation_mode, require_language_model, require_tokens
from seqmamba.inference.prefill import DEFAULT_CHUNK, prefill
from seqmamba.inference.sampling import SamplingConfig
from seqmamba.inference.stopping import StopRule
from seqmamba.nn.options import is_whole, require, require_whole

DEFAULT_BLOCK = 256
"""Tokens of each row between two looks at the stop rules."""


def begin(
    model: TokenModel,
    prompt: Int[Tensor, "rows prefix"] | None = None,
    *,
    batch_size: int | None = None,
    start_token: int = 0,
    first_row: int = 0,
    chunk: int = DEFAULT_CHUNK,
) -> Generation:
    """Take in a prompt in parallel, and return the state from which generation starts.

    Args:
        model: A causal language model.
        prompt: Token ids on any device, one row a sequence; ``None`` starts from nothing.
        batch_size: Sequences to generate; a prompt of one row is taken in once and continued this many times.
            By default the rows of the prompt, or 1.
        start_token: Stands before the first token where there is no prompt.
        first_row: Number of the first row: rows 0 to 15 and 16 to 31 in two batches are those of one of 32.
        chunk: Positions of the prompt that are taken in at once.

    Raises:
        UserError: If the prompt is empty or not of the model's tokens, its rows do not fit ``batch_size``, or
            the model is bidirectional or gives no logits.
    """
    require_language_model(model)
    require(batch_size is None or is_whole(batch_size), "batch_size", "a whole number >= 1", batch_size)
    require_whole("first_row", first_row, 0)
    device = next(model.parameters()).device
    unprompted = prompt is None
    if prompt is None:
        require_tokens(model, torch.tensor(start_token), "start_token")
        prompt = torch.full((1, 1), start_token, device=device)
    require(prompt.ndim == 2 and prompt.numel() > 0, "prompt", "(batch, length >= 1)", tuple(prompt.shape))
    require_tokens(model, prompt, "prompt")
    n_rows = len(prompt) if batch_size is None else batch_size
    require(len(prompt) in (1, n_rows), "prompt", f"1 or batch_size={n_rows} rows", len(prompt))
    prompt = prompt.to(device, torch.int64)
    with evaluation_mode(model):
        state = model.init_state(len(prompt))
        if prompt.shape[1] > 1:
            _, state = prefill(model, prompt[:, :-1], state=state, chunk=chunk)
    rows = torch.zeros(len(prompt), dtype=torch.int64, device=device)
    positions = rows if unprompted else rows + prompt.shape[1]
    taken_in = Generation(state, prompt[:, -1].clone(), rows, positions, rows > 0)
    start = taken_in if len(prompt) == n_rows else taken_in.repeat(n_rows)
    return start._replace(rows=torch.arange(first_row, first_row + n_rows, device=device))


def generate_blocks(
    model: TokenModel,
    start: Generation,
    *,
    n_tokens: int | None = None,
    sampling: SamplingConfig | None = None,
    stop: StopRule | None = None,
    block: int = DEFAULT_BLOCK,
    graph: bool | None = None,
) -> Iterator[TokenBlock]:
    """Generate block by block in constant memory.

    Every block has the state behind it: `generate_blocks` from there goes on with the tokens that would have
    followed, and from there with another seed it goes another way.

    Args:
        model: A causal language model.
        start: What `begin` returned, or the state of a block.
        n_tokens: Tokens of each row; ``None`` goes on until the caller or the stop rule ends it.
        sampling: How tokens are drawn; from the model's distribution by default.
        stop: Which tokens end their row; none by default. A block in which no row is left is the last.
        block: Tokens of a block; does not change them.
        graph: See `Decoder`.

    Returns:
        The blocks, each made when it is asked for.

    Raises:
        UserError: If an argument is out of range; see also `Decoder.advance`.
    """
    require(n_tokens is None or is_whole(n_tokens), "n_tokens", "a whole number >= 1", n_tokens)
    require_whole("block", block)
    return _blocks(Decoder(model, start, sampling, stop, graph), n_tokens, block)


def _blocks(decoder: Decoder, n_tokens: int | None, block: int) -> Iterator[TokenBlock]:
    made = 0
    while n_tokens is None or made < n_tokens:
        part = decoder.advance(block if n_tokens is None else min(block, n_tokens - made))
        made += part.tokens.shape[1]
        yield part
        if decoder.stop.tokens and bool(part.state.done.all()):
            return


def generate(
    model: TokenModel,
    prompt: Int[Tensor, "rows prefix"] | None = None,
    *,
    n_tokens: int,
    batch_size: int | None = None,
    sampling: SamplingConfig | None = None,
    stop: StopRule | None = None,
    block: int = DEFAULT_BLOCK,
    on_block: Callable[[TokenBlock], bool | None] | None = None,
    graph: bool | None = None,
) -> Int[Tensor, "batch length"]:
    """Continue a prompt, or start from nothing.

    Args:
        model: A causal language model, with its parameters where it is to run.
        prompt: See `begin`.
        n_tokens: The most tokens of each row.
        batch_size: See `begin`.
        sampling: See `generate_blocks`.
        stop: See `generate_blocks`.
        block: Tokens between two calls of ``on_block``.
        on_block: Sees every block as it is made; returning true ends the generation.
        graph: See `Decoder`.

    Returns:
        The new tokens, on the model's device: fewer than ``n_tokens`` if ``stop`` or ``on_block`` ended it.

    Raises:
        UserError: See `begin` and `generate_blocks`.
    """
    require_whole("n_tokens", n_tokens)
    start = begin(model, prompt, batch_size=batch_size)
    made = []
    for part in generate_blocks(
        model, start, n_tokens=n_tokens, sampling=sampling, stop=stop, block=block, graph=graph
    ):
        made.append(part.tokens)
        if on_block is not None and on_block(part):
            break
    return torch.cat(made, dim=1)
