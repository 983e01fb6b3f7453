"""Pretraining and fine-tuning on a GPU: the codes of the CPU, no waiting, graphs beside frozen parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from masked_recipe import write_recipe
from waveform_models import small_model

import seqmamba
from audio.filterbank import FilterbankConfig
from audio.finetuning import build_model
from audio.masked_model import MaskedWaveformModel, MaskedWaveformModelConfig
from audio.masking import draw_spans, hide_samples
from audio.models import WaveformClassifier, WaveformClassifierConfig
from seqmamba.backbones import BackboneConfig
from seqmamba.cli.main import main
from seqmamba.training.finetuning import InitConfig
from seqmamba.training.graphed import GraphedTraining

pytestmark = pytest.mark.gpu
RATE = 8000
CONFIG = MaskedWaveformModelConfig(
    BackboneConfig(64, 2, direction="bidirectional"),
    FilterbankConfig(24, 256, 20, 4, widths=(16, 32), pools=((1, 2), (2, 2))),
    rate=RATE,
)
TASK = WaveformClassifierConfig(rate=RATE, classes=tuple("0123456789"), dropout=0.0)


def sound(count: int = 16, length: int = RATE) -> torch.Tensor:
    return 0.1 * torch.randn(count, length, 1, generator=torch.Generator().manual_seed(0))


def test_codes_are_those_of_the_cpu_but_for_ties() -> None:
    lengths = torch.full((16,), RATE)
    expected = MaskedWaveformModel(CONFIG).targets(sound(), lengths)
    with torch.device("cuda"):  # as Lightning builds it
        model = MaskedWaveformModel(CONFIG)
    with torch.autocast("cuda", torch.bfloat16):
        found = model.cuda().targets(sound().cuda(), lengths.cuda()).cpu()
    assert (found == expected).double().mean() > 0.99


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_a_run_trains_validates_and_tests(tmp_path: Path) -> None:
    words = ["--config", write_recipe(tmp_path, "gpu"), "--run", str(tmp_path / "run")]
    assert main(["fit", *words]) == 0
    assert main(["test", *words]) == 0
    assert isinstance(seqmamba.from_pretrained(tmp_path / "run" / "pretrained"), MaskedWaveformModel)


def test_a_step_learns_without_waiting_for_the_device() -> None:
    torch.manual_seed(0)
    model = MaskedWaveformModel(CONFIG).cuda().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    x, lengths = sound().cuda(), torch.randint(RATE // 2, RATE, (16,)).cuda()
    losses = []
    for step in range(30):
        torch.cuda.set_sync_debug_mode("error" if step == 5 else "default")
        with torch.autocast("cuda", torch.bfloat16):
            truth, frames = model.targets(x, lengths), model.frame_lengths(lengths)
            hidden = draw_spans(frames, truth.shape[1], 10, 0.5)
            guess = model(hide_samples(x, lengths, hidden, model.frame, 0.1), lengths, hidden)
            loss = model.targets.losses(guess, truth).masked_fill(~hidden, 0).sum() / hidden.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(losses[-5:]).mean() < 0.9 * losses[0]


@pytest.mark.parametrize("kind", ["masked", "codes"])
@pytest.mark.parametrize("options", [{}, {"freeze": True}, {"lora_rank": 4}])
def test_graphs_train_what_is_not_frozen(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    if kind == "masked":
        MaskedWaveformModel(CONFIG).save_pretrained(tmp_path)
    else:
        small_model(rate=RATE).save_pretrained(tmp_path)
    runs = []
    for graphed in (False, True):
        torch.manual_seed(1)
        init = InitConfig(str(tmp_path), **options)  # type: ignore[arg-type]
        runs.append(train(build_model(TASK, init, 1e-3), graphed))
    assert runs[0][-1] < runs[0][0]
    assert runs[1] == pytest.approx(runs[0], rel=0.1)


def train(model: WaveformClassifier, graphed: bool) -> list[float]:
    """Return the losses of eight steps."""
    model.cuda().train()
    logits = GraphedTraining(model, model.forward) if graphed else model.forward
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    x, labels, run = sound().cuda(), torch.arange(16).cuda() % 10, []
    for _ in range(8):
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(logits(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        run.append(loss.item())
    return run
