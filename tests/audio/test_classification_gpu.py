"""Classifiers on a GPU: the numbers of the CPU, and training as CUDA graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tones import write_folder

from audio.augmentation import AugmentationConfig, augment
from audio.datasets import LoadingConfig, WaveformDataModule
from audio.filterbank import FilterbankConfig
from audio.mixing import MixingConfig, divergence, mix_batch, one_hot_targets
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.spectrograms import SpectrogramConfig
from audio.stems import StridedStemConfig
from seqmamba.backbones import BackboneConfig
from seqmamba.training.graphed import GraphedTraining

pytestmark = pytest.mark.gpu

STEMS = {
    "strided": StridedStemConfig((64, 8, 8), (8, 4, 4), (32, 64)),
    "filter bank": FilterbankConfig(widths=(16, 32), pools=((2, 2), (2, 2))),
    "patches": SpectrogramConfig(mels=64),
}


def make(name: str, **options) -> WaveformClassifier:
    torch.manual_seed(0)
    backbone = BackboneConfig(64, 2, direction="bidirectional")
    classes = tuple("0123456789")
    return WaveformClassifier(WaveformClassifierConfig(backbone, STEMS[name], classes=classes, **options))


@pytest.mark.parametrize("name", STEMS)
def test_a_padded_batch_gives_the_numbers_of_the_cpu(name: str) -> None:
    model = make(name).eval()
    x = 0.1 * torch.randn(3, 20_000, 1)
    lengths = torch.tensor([20_000, 13_001, 700])
    expected = model(x, lengths)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = model.cuda()(x.cuda(), lengths.cuda()).cpu()
    assert torch.allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("name", ["strided", "filter bank"])
def test_graphs_train_as_calls_do(name: str) -> None:
    losses = []
    for graphed in (False, True):
        model = make(name, dropout=0.0).cuda().train()
        logits = GraphedTraining(model, model.forward) if graphed else model.forward
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        torch.manual_seed(1)
        x, labels = 0.1 * torch.randn(16, 16_000, 1).cuda(), torch.arange(16).cuda() % 10
        run = []
        for _ in range(6):
            with torch.autocast("cuda", torch.bfloat16):
                loss = divergence(logits(x), one_hot_targets(labels, 10))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_recordings_on_the_device_are_those_in_memory_without_waiting_for_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tones")
    module = WaveformDataModule(str(folder), loading=LoadingConfig(channels=2, storage="memory"))
    module.setup()
    stretches = ([5, 0, 7], [0, 100, 31], [400, 1, 250])
    expected = module.reader.read_batch(*stretches)
    module.reader.move_to(torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = module.reader.read_batch(*stretches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found.is_cuda
    assert torch.equal(found.cpu(), expected)


def test_batches_are_changed_and_mixed_without_waiting_for_the_device() -> None:
    x, lengths = 0.1 * torch.randn(32, 44_100, 1).cuda(), torch.full((32,), 44_100).cuda()
    targets = one_hot_targets(torch.arange(32).cuda() % 10, 10)
    config = AugmentationConfig(
        share=0.9,
        seconds=0.8,
        shift_seconds=0.16,
        speed=1.2,
        gain_db=6,
        colour_db=6,
        band_limit=0.5,
        noise_db=(10, 20),
        noise="pink",
        gaps=1,
        polarity=True,
    )
    mixing = MixingConfig("between_class")
    torch.cuda.set_sync_debug_mode("error")
    try:
        y, new = augment(x, lengths, 44_100, config)
        mixed, _, soft = mix_batch(y, new, targets, 44_100, mixing)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert mixed.isfinite().all()
    assert torch.allclose(soft.sum(1), torch.ones(32).cuda())
