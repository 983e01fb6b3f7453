"""The shapes that public signatures promise hold: checked here at run time, never in production."""

from __future__ import annotations

import subprocess
import sys

CHECKED = """
import torch
from jaxtyping import TypeCheckError, install_import_hook

with install_import_hook(["seqmamba.nn", "seqmamba.backbones", "seqmamba.inference", "genomics.models",
                          "genomics.equivariance", "genomics.attribution"], "beartype.beartype"):
    from genomics.attribution import gradient_x_input
    from genomics.models import SequenceModel, SequenceModelConfig
    from seqmamba.backbones import Backbone, BackboneConfig, LanguageModel, LanguageModelConfig
    from seqmamba.inference import compare_modes, generate

tokens, lengths = torch.randint(7, 11, (3, 20)), torch.tensor([20, 9, 1])
for strand in ("forward", "augment", "conjoin", "equivariant"):
    for combine in ("add", "concat", "gate"):
        backbone = BackboneConfig(8, 1, d_state=4, direction="bidirectional", combine=combine)
        config = SequenceModelConfig(backbone, classes=("a", "b"), strand=strand, frames=3)
        model = SequenceModel(config).eval()
        model(tokens, lengths).sum().backward()
        model.embed(tokens, lengths)
        gradient_x_input(model, tokens, lengths, torch.tensor([0, 1, 0]))
causal = Backbone(BackboneConfig(8, 2, d_state=4))
y, state = causal(torch.randn(2, 5, 8), state=causal.init_state(2), return_state=True)
causal(torch.randn(2, 1, 8), state=state)
compare_modes(causal, torch.randn(2, 5, 8))
generate(LanguageModel(LanguageModelConfig(causal.config, 11)), tokens[:, :4], n_tokens=3)
try:
    causal(torch.randn(5, 8))
except TypeCheckError:
    print("refused")
"""


def test_signatures_hold_at_run_time() -> None:
    done = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"]
