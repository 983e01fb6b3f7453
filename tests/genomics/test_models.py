from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import seqmamba
from genomics.alphabet import PAD, A, C, G, N, T
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.stems import one_hot_table
from seqmamba.backbones import BackboneConfig
from seqmamba.errors import UserError

BACKBONE = BackboneConfig(d_model=12, n_layers=2, d_state=4, direction="bidirectional", scan_impl="chunked")


def build(**options: object) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(SequenceModelConfig(BACKBONE, **{"classes": ("a", "b"), **options})).eval()


def bases(*shape: int, seed: int = 3) -> Tensor:
    return torch.randint(A, N, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strand", ["forward", "conjoin", "equivariant"])
@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max", "attention"])
@pytest.mark.parametrize(("stem_width", "frames"), [(1, 1), (9, 1), (9, 3), ((3, 7), 1)])
def test_padding_never_matters(
    strand: str, pooling: str, stem_width: int | tuple[int, ...], frames: int
) -> None:
    model = build(strand=strand, pooling=pooling, stem_width=stem_width, frames=frames)
    lengths = torch.tensor([30, 11, 1])
    tokens = bases(3, 30)  # real bases where the padding is: only `lengths` says what counts
    with torch.no_grad():
        together = model(tokens, lengths)
        padded = model(tokens.masked_fill(torch.arange(30) >= lengths[:, None], PAD), lengths)
        wider = model(torch.nn.functional.pad(tokens, (0, 7), value=G), lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(tokens[row : row + 1, :length])
            assert (alone - together[row]).abs().max() < 1e-5
    assert torch.equal(together, padded)
    assert (together - wider).abs().max() < 1e-5


def test_each_reading_frame_is_a_sequence_of_its_own() -> None:
    model = build(strand="forward", stem_width=3, frames=3, pooling="max")
    tokens = bases(2, 59)
    with torch.no_grad():
        stem = model.stem(model.one_hot(tokens))
        alone = torch.stack([model.backbone(stem[:, frame::3]).amax(dim=1) for frame in range(3)])
        assert (model.embed(tokens) - alone.amax(dim=0)).abs().max() < 1e-6
    assert (alone[0] - alone[1]).abs().max() > 0.01


def test_gradients_do_not_reach_the_padding() -> None:
    model = build(strand="equivariant")
    one_hot = model.one_hot(bases(2, 20)).requires_grad_(True)
    model.forward_embedded(one_hot, torch.tensor([20, 8])).sum().backward()
    assert one_hot.grad is not None
    assert one_hot.grad[1, 8:].abs().max() == 0
    assert (one_hot.grad[1, :8].abs().amax(dim=-1) > 0).all()


def test_unknown_bases_are_the_mean_of_the_four_and_padding_is_nothing() -> None:
    table = one_hot_table()
    assert torch.equal(table[N], table[[A, C, G, T]].mean(dim=0))
    assert table[PAD].abs().sum() == 0
    model = build()
    with torch.no_grad():
        assert torch.isfinite(model(torch.full((1, 12), N))).all()


@pytest.mark.parametrize(("task", "classes"), [("classification", 3), ("multilabel", 2), ("regression", 1)])
def test_predictions_of_each_task(task: str, classes: int) -> None:
    model = build(task=task, classes=tuple("abc"[:classes]))
    with torch.no_grad():
        logits, predictions = model(bases(5, 16)), model.predict(bases(5, 16))
    assert logits.shape == (5, classes)
    assert logits.dtype == torch.float32
    if task == "classification":
        assert torch.allclose(predictions.sum(dim=1), torch.ones(5))
    if task == "multilabel":
        assert torch.allclose(predictions, logits.sigmoid())


def test_regression_predicts_in_the_units_of_the_targets() -> None:
    model = build(task="regression", classes=("expression",))
    model.target_mean.fill_(100.0)
    model.target_scale.fill_(10.0)
    with torch.no_grad():
        assert torch.allclose(model.predict(bases(2, 9)), model(bases(2, 9)) * 10 + 100)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_saved_model_comes_back(tmp_path: Path, task: str) -> None:
    model = build(task=task, classes=("a", "b"), pooling="max", max_length=50, strand="equivariant")
    model.target_mean.fill_(7.0)
    model.save_pretrained(tmp_path)
    loaded = seqmamba.from_pretrained(tmp_path)
    assert isinstance(loaded, SequenceModel)
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded.predict(bases(3, 21)), model.predict(bases(3, 21)))
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".md"}


def test_several_widths_share_the_channels(tmp_path: Path) -> None:
    model = build(stem_width=[3, 7, 9, 5, 1])  # of 12 channels; YAML delivers lists
    assert [stem.conv.out_channels for stem in model.stem.stems] == [3, 3, 2, 2, 2]
    tokens = bases(2, 15)
    parts = [stem(model.one_hot(tokens)) for stem in model.stem.stems]
    torch.testing.assert_close(model.stem(model.one_hot(tokens)), torch.cat(parts, dim=-1))
    model.save_pretrained(tmp_path)
    again = seqmamba.from_pretrained(tmp_path)
    assert again.config.stem_width == (3, 7, 9, 5, 1)
    torch.testing.assert_close(again(tokens), model(tokens))


def test_autocast_keeps_logits_in_float32_and_close() -> None:
    model = build()
    with torch.no_grad():
        exact = model(bases(4, 32))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(bases(4, 32))
    assert rounded.dtype == torch.float32
    assert (exact - rounded).abs().max() < 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "median"}, "pooling"),
        ({"strand": "both"}, "strand"),
        ({"task": "ranking"}, "task"),
        ({"stem_width": 4}, "stem_width"),
        ({"stem_width": (5, 4)}, "stem_width"),
        ({"stem_width": ()}, "stem_width"),
        ({"pooling": "flatten"}, "pooling: flatten needs positions"),
        ({"frames": 2}, "frames"),
        ({"dropout": 1.0}, "dropout"),
        ({"max_length": 0}, "max_length"),
        ({"classes": ("a",)}, "classes"),
        ({"task": "regression", "classes": ()}, "classes"),
    ],
)
def test_what_cannot_be_built_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(**options)
