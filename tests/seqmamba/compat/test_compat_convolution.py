"""causal-conv1d's functions in its layout, against torch.nn.functional.conv1d."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.compat import causal_conv1d_fn, causal_conv1d_update
from seqmamba.errors import UserError


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor, silu: bool) -> Tensor:
    y = F.conv1d(torch.cat([before, x], dim=-1), weight[:, None], bias, groups=x.shape[1])
    return F.silu(y) if silu else y


@pytest.mark.parametrize("activation", [None, "silu", "swish"])
@pytest.mark.parametrize("width", [2, 4, 5])
@pytest.mark.parametrize("length", [1, 2, 30])
def test_it_is_a_convolution_of_what_came_before(activation: str | None, width: int, length: int) -> None:
    x, weight, bias, before = _normal(2, 6, length), _normal(6, width), _normal(6), _normal(2, 6, width - 1)
    for leaf in (x, weight, bias, before):
        leaf.requires_grad_()
    wanted = _conv1d(x, weight, bias, before, activation is not None)
    buffer = torch.empty(2, 6, width - 1)
    y, state = causal_conv1d_fn(
        x,
        weight,
        bias,
        initial_states=before,
        return_final_states=True,
        final_states_out=buffer,
        activation=activation,
    )
    assert state is buffer
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(state, torch.cat([before, x], dim=-1)[..., length:])
    seed = _normal(*y.shape, 1)[..., 0]
    last = (torch.cat([before, x], dim=-1)[..., length:] ** 2).sum()
    expected = torch.autograd.grad((wanted * seed).sum() + last, (x, weight, bias, before))
    actual = torch.autograd.grad((y * seed).sum() + (state**2).sum(), (x, weight, bias, before))
    for got, gradient in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, gradient)


def test_packed_sequences_are_convolved_apart_and_padding_is_zero() -> None:
    x, weight, bias = _normal(1, 4, 12), _normal(4, 4), _normal(4)
    before = _normal(1, 4, 3)
    number = torch.tensor([[7, 7, 7, 7, 7, 9, 9, 2, -1, -1, 3, 3]], dtype=torch.int32)
    y = causal_conv1d_fn(x, weight, bias, seq_idx=number, initial_states=before, activation="silu")
    for start, stop in ((0, 5), (5, 7), (7, 8), (10, 12)):
        first = before if start == 0 else torch.zeros(1, 4, 3)
        torch.testing.assert_close(y[..., start:stop], _conv1d(x[..., start:stop], weight, bias, first, True))
    assert (y[..., 8:10] == 0).all()


@pytest.mark.parametrize("state_len", [3, 4, 7])
@pytest.mark.parametrize("length", [None, 1, 2, 9])
def test_updates_continue_the_sequence(state_len: int, length: int | None) -> None:
    weight, bias, state = _normal(6, 4), _normal(6), _normal(2, 6, state_len)
    past = state.clone()
    for i in range(3):
        x = _normal(2, 6, length or 1, i + 1)[..., 0]
        y = causal_conv1d_update(x[..., 0] if length is None else x, state, weight, bias, "silu")
        wanted = _conv1d(x, weight, bias, past[..., -3:], True)
        torch.testing.assert_close(y, wanted[..., 0] if length is None else wanted)
        past = torch.cat([past, x], dim=-1)
        torch.testing.assert_close(state, past[..., -state_len:])


@pytest.mark.parametrize("state_len", [3, 5])
@pytest.mark.parametrize("length", [1, 2, 8])
def test_updates_of_a_ring(state_len: int, length: int) -> None:
    weight, start = _normal(6, 4), torch.tensor([4, 11], dtype=torch.int32)
    past, ring = _normal(2, 6, state_len, 1)[..., 0], torch.empty(2, 6, state_len)

    def as_ring(inputs: Tensor, position: Tensor) -> Tensor:
        """The latest inputs, the last of them just before `position`."""
        found = torch.empty(2, 6, state_len)
        for row in range(2):
            for back in range(1, state_len + 1):
                found[row, :, (int(position[row]) - back) % state_len] = inputs[row, :, -back]
        return found

    ring.copy_(as_ring(past, start))
    x = _normal(2, 6, length)
    y = causal_conv1d_update(x, ring, weight, cache_seqlens=start)
    torch.testing.assert_close(y, _conv1d(x, weight, None, past[..., -3:], False))
    torch.testing.assert_close(ring, as_ring(torch.cat([past, x], dim=-1), start + length))


def test_updates_of_the_rows_of_a_larger_buffer() -> None:
    weight, x, buffer = _normal(6, 4), _normal(3, 6), _normal(5, 6, 3)
    held, indices = buffer.clone(), torch.tensor([4, -1, 0], dtype=torch.int32)
    y = causal_conv1d_update(x, held, weight, conv_state_indices=indices)
    for row, index in ((0, 4), (2, 0)):
        own = buffer[index : index + 1].clone()
        torch.testing.assert_close(y[row : row + 1], causal_conv1d_update(x[row : row + 1], own, weight))
        torch.testing.assert_close(held[index : index + 1], own)
    assert (y[1] == 0).all()
    assert torch.equal(held[1:4], buffer[1:4])


def test_gradients_flow_through_an_update() -> None:
    weight, x, state = (
        _normal(6, 4).requires_grad_(),
        _normal(2, 6).requires_grad_(),
        _normal(2, 6, 3).bfloat16(),
    )
    causal_conv1d_update(x, state, weight).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weight[:, 3].expand(2, 6))
    assert not state.requires_grad


def test_mistakes_are_named() -> None:
    x, weight = torch.zeros(2, 6, 5), torch.zeros(6, 4)
    with pytest.raises(UserError, match='activation must be None, "silu" or "swish", got \'relu\''):
        causal_conv1d_fn(x, weight, activation="relu")
    with pytest.raises(UserError, match=r"initial_states must have shape \(batch=2, dim=6, width-1=3\)"):
        causal_conv1d_fn(x, weight, initial_states=torch.zeros(2, 3, 6))
    with pytest.raises(UserError, match=r"seq_idx must have shape \(batch=2, length=5\), got \(5,\)"):
        causal_conv1d_fn(x, weight, seq_idx=torch.zeros(5))
    with pytest.raises(UserError, match="conv_state must hold at least width-1=3 inputs, got 2"):
        causal_conv1d_update(x, torch.zeros(2, 6, 2), weight)
    with pytest.raises(UserError, match=r"conv_state must have shape \(batch=2, dim=6, state_len=3\)"):
        causal_conv1d_update(x, torch.zeros(3, 6, 3), weight)
