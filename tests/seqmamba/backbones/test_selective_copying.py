"""What selection is for: tokens among noise are repeated in order (Gu & Dao 2023, section 4.1.1).

A time-invariant model cannot tell by content what to keep; a selective one can.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmamba import BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.nn import Mamba2Options

NOISE, MARK, FIRST = 0, 1, 2
N_SYMBOLS, N_TOKENS, LENGTH = 8, 6, 48


def draw_batch(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens among noise and then a mark for each; and the tokens alone."""
    wanted = torch.randint(FIRST, FIRST + N_SYMBOLS, (rows, N_TOKENS), generator=generator)
    places = torch.rand(rows, LENGTH, generator=generator).argsort(dim=1)[:, :N_TOKENS].sort(dim=1).values
    tokens = torch.full((rows, LENGTH + N_TOKENS), NOISE)
    tokens[:, LENGTH:] = MARK
    return tokens.scatter(1, places, wanted), wanted


def accuracy_after_training(mixer: str, steps: int = 1200, peak: float = 2e-3) -> float:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    options = Mamba2Options(d_state=16, head_dim=32)
    stack = BackboneConfig(d_model=64, n_layers=2, mixer=mixer, mamba2=options)
    model = LanguageModel(LanguageModelConfig(stack, vocab_size=FIRST + N_SYMBOLS))
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        tokens, wanted = draw_batch(64, generator)
        loss = F.cross_entropy(model(tokens)[:, -N_TOKENS:].flatten(0, 1), wanted.flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    tokens, wanted = draw_batch(512, generator)
    with torch.no_grad():
        return float((model(tokens)[:, -N_TOKENS:].argmax(dim=-1) == wanted).float().mean())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_selective_models_copy_and_time_invariant_ones_do_not() -> None:
    accuracy = {mixer: accuracy_after_training(mixer) for mixer in ("mamba", "mamba2", "s4")}
    assert accuracy["mamba"] > 0.99
    assert accuracy["mamba2"] > 0.99
    assert accuracy["s4"] < 0.95
