from __future__ import annotations

import pytest
import torch

from seqmamba.nn.norm import RMSNorm


def test_matches_the_formula_in_float64():
    torch.manual_seed(0)
    norm = RMSNorm(7, eps=1e-3).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 7, dtype=torch.float64)
    expected = x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + 1e-3) * norm.weight
    torch.testing.assert_close(norm(x), expected)
    assert torch.autograd.gradcheck(norm, x.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_input_is_widened_first(dtype):
    x = (300 * torch.randn(4, 8)).to(dtype)  # the squares overflow float16
    norm = RMSNorm(8)
    assert torch.equal(norm(x), norm(x.float()))


def test_result_has_the_weights_dtype():
    assert RMSNorm(4).bfloat16()(torch.randn(2, 4)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert RMSNorm(4)(torch.randn(2, 4)).dtype == torch.float32


def test_no_weight_decay():
    assert RMSNorm(4).weight._no_weight_decay
