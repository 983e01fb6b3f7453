# mypy: allow-untyped-defs
"""Drawing as one Triton kernel: a program reads a row of logits twice, block by block, then one block again.

First for the largest logit, then for the sum of the weights relative to it, of which it keeps the running
total behind each block. These tell which block the drawn token is in; that one is read again, to add up its
weights token by token.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_BLOCK = 2048  # tokens; more to a lane would spill
_LANE = 8  # tokens
STEPS = ("logits_row_step", "uniforms_step", "tokens_step", "log_probs_step", "sampled_step")
_POINTERS = ("logits", "uniforms", "tokens", "log_probs", "sampled_log_probs")


# whether a row is aligned must not matter: another layout in the registers adds up in another order
@triton.jit(do_not_specialize=STEPS, do_not_specialize_on_alignment=_POINTERS)
def draw_kernel(
    logits,
    uniforms,
    tokens,
    log_probs,
    sampled_log_probs,
    temperature: tl.float64,
    vocabulary,
    logits_row_step,
    logits_column_step,
    uniforms_step,
    tokens_step,
    log_probs_step,
    sampled_step,
    GREEDY: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Draw the token of one row. GREEDY is temperature 0, SCALED any other than 0 and 1."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * logits_row_step
    lane = tl.arange(0, BLOCK)

    # float32 holds the half precisions, and comparing is exact
    narrow: tl.constexpr = tl.float64 if logits.dtype.element_ty == tl.float64 else tl.float32
    best, at = tl.full([BLOCK], float("-inf"), narrow), lane
    for first in range(0, vocabulary, BLOCK):
        value = _load(logits, first + lane, vocabulary, logits_column_step).to(narrow)
        if GREEDY:  # as torch.argmax: the first of equals, or the first NaN, which keeps its lane
            better = (value > best) | ((value != value) & (best == best))
            best, at = tl.where(better, value, best), tl.where(better, first + lane, at)
        else:
            best = tl.maximum(best, value)
    number = best == best
    most = tl.max(tl.where(number, best, float("-inf")))
    largest = most.to(tl.float64)

    block = tl.arange(0, BLOCKS)
    plain, ends = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCKS], tl.float64)
    total = tl.sum(ends)
    for first in range(0, vocabulary, BLOCK):
        shifted = _load(logits, first + lane, vocabulary, logits_column_step).to(tl.float64) - largest
        if GREEDY or SCALED:
            plain += tl.exp(shifted)
        if not GREEDY:
            weight = tl.exp(shifted / temperature if SCALED else shifted)
            total += tl.sum(weight)
            ends = tl.where(block == first // BLOCK, total, ends)
    log_sum = tl.log(tl.sum(plain) if GREEDY or SCALED else total)

    if GREEDY:
        any_nan = tl.min(number.to(tl.int32)) == 0
        chosen = tl.min(tl.where(tl.where(any_nan, best != best, best == most), at, vocabulary))
    else:
        target = tl.load(uniforms + row * uniforms_step).to(tl.float64) * total
        crossed = tl.min(tl.where(ends > target, block, BLOCKS))  # BLOCKS if nothing here is a number
        before = tl.max(tl.where(block < crossed, ends, 0.0))
        token = tl.where(crossed < BLOCKS, crossed, 0) * BLOCK + lane
        shifted = _load(logits, token, vocabulary, logits_column_step).to(tl.float64) - largest
        weight = tl.exp(shifted / temperature if SCALED else shifted)
        # sums in another order round otherwise: a token without weight may seem to cross, or none may
        real = weight > 0.0
        chosen = tl.min(tl.where(real & (before + tl.cumsum(weight) > target), token, vocabulary))
        chosen = tl.where(chosen < vocabulary, chosen, tl.max(tl.where(real, token, 0)))
        chosen = tl.where(total == total, chosen, 0)

    shifted = tl.load(logits + chosen.to(tl.int64) * logits_column_step).to(tl.float64) - largest
    tl.store(tokens + row * tokens_step, chosen.to(tl.int64))
    tl.store(log_probs + row * log_probs_step, (shifted - log_sum).to(tl.float32))
    if GREEDY:
        tl.store(sampled_log_probs + row * sampled_step, 0.0)
    else:
        sampled = shifted / temperature - tl.log(total) if SCALED else shifted - log_sum
        tl.store(sampled_log_probs + row * sampled_step, sampled.to(tl.float32))


@triton.jit
def _load(logits, token, vocabulary, column_step):
    """Logits of some tokens of a row; behind its end, of weight zero."""
    return tl.load(logits + token.to(tl.int64) * column_step, mask=token < vocabulary, other=float("-inf"))


def launch(
    logits: Tensor,
    uniforms: Tensor,
    temperature: float,
    tokens: Tensor,
    log_probs: Tensor,
    sampled_log_probs: Tensor,
) -> None:
    """Compute `draw_reference`; no size depends on the batch, so that rows do not either."""
    with torch.cuda.device_of(logits):
        draw_kernel[(len(logits),)](
            logits,
            uniforms,
            tokens,
            log_probs,
            sampled_log_probs,
            temperature,
            logits.shape[1],
            *logits.stride(),
            uniforms.stride(0),
            tokens.stride(0),
            log_probs.stride(0),
            sampled_log_probs.stride(0),
            **compile_options(logits.shape[1], temperature),
        )


def compile_options(vocabulary: int, temperature: float) -> dict[str, Any]:
    """What the kernel is compiled for."""
    block = min(triton.next_power_of_2(vocabulary), LARGEST_BLOCK)
    return {
        "GREEDY": temperature == 0,
        "SCALED": temperature not in (0, 1),
        "BLOCK": block,
        "BLOCKS": triton.next_power_of_2(triton.cdiv(vocabulary, block)),
        "num_warps": max(1, block // (32 * _LANE)),
    }
